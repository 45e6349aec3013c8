"""How far what was achieved lies from a goal: one number a row, 0 where they are equal."""

import torch
from torch import Tensor


def mean_squared(achieved: Tensor, desired: Tensor) -> Tensor:
    """Mean over the last dim of squared differences (DINO-WM; jepa-wms up to its root).

    Args:
        achieved: ``[*B, G]``.
        desired: ``[*B, G]``.

    Returns:
        ``[*B, 1]``.
    """
    return (achieved - desired).square().mean(-1, keepdim=True)


def summed_squared(achieved: Tensor, desired: Tensor) -> Tensor:
    """Sum over the last dim of squared differences (LeWM).

    Args:
        achieved: ``[*B, G]``.
        desired: ``[*B, G]``.

    Returns:
        ``[*B, 1]``.
    """
    return (achieved - desired).square().sum(-1, keepdim=True)


def mean_absolute(achieved: Tensor, desired: Tensor) -> Tensor:
    """Mean over the last dim of absolute differences (V-JEPA 2-AC's energy).

    Args:
        achieved: ``[*B, G]``.
        desired: ``[*B, G]``.

    Returns:
        ``[*B, 1]``.
    """
    return (achieved - desired).abs().mean(-1, keepdim=True)


def euclidean(achieved: Tensor, desired: Tensor) -> Tensor:
    """Length of the difference.

    Args:
        achieved: ``[*B, G]``.
        desired: ``[*B, G]``.

    Returns:
        ``[*B, 1]``.
    """
    return torch.linalg.vector_norm(achieved - desired, dim=-1, keepdim=True)
