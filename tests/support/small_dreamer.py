"""A small DreamerV3 to be saved and loaded."""

import torch
from torchrl.data import Composite, OneHot, Unbounded

from wmcomponents.models import DreamerV3, DreamerV3Config

SPEC, ACTION = Composite(observation=Unbounded(3)), OneHot(2)
SIZES = {
    "deter": 16,
    "hidden": 8,
    "groups": 2,
    "classes": 3,
    "depth": 4,
    "units": 8,
    "blocks": 2,
    "layers": 1,
    "bins": 11,
}


def model(seed=0, spec=SPEC, action=ACTION, **changes):
    torch.manual_seed(seed)
    return DreamerV3(DreamerV3Config.tiny(**{**SIZES, **changes}), spec, action)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
