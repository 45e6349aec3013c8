"""One seed for everything."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python's, NumPy's and torch's global generators, and give a generator of your own.

    The library itself draws from explicit generators only; the global ones matter to the libraries around it.

    Args:
        seed: any integer of at least 0.

    Raises:
        ValueError: if the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"a seed is an integer of at least 0; got {seed}.")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
