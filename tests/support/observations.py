"""Observations of any space, compared."""

import numpy as np


def leaves(observation):
    return list(observation.values()) if isinstance(observation, dict) else [observation]


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))
