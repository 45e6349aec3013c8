"""Numbers of rows against whatever the rows hold."""

import torch
from torch import Tensor


def aligned(flag: Tensor, like: Tensor) -> Tensor:
    """A number of each row with as many dimensions as what the rows hold, so that the two broadcast.

    Args:
        flag: ``[*B]`` or ``[*B, 1]``.
        like: ``[*B, *event]``.

    Returns:
        ``[*B, 1, ..., 1]``, a view.
    """
    missing = like.ndim - flag.ndim
    return flag.view((*flag.shape, *(1,) * missing)) if missing >= 0 else flag.squeeze(-1)


def keep_where(value: Tensor, flag: Tensor) -> Tensor:
    """The rows of a tensor where a flag is true; zero elsewhere.

    Args:
        value: ``[*B, *event]``.
        flag: bool ``[*B]`` or ``[*B, 1]``.

    Returns:
        ``[*B, *event]``.
    """
    return torch.where(aligned(flag, value), value, torch.zeros_like(value))
