"""Pieces of a recording: which frames belong to one episode."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def episode_span(begins: Bool[Tensor, "b t"], at: Int[Tensor, "b k"]) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b k"]]:
    """First and last frame of the episodes in which frames lie.

    Args:
        begins: whether a frame is the first of its episode; the first of a row is one whatever this says.
        at: numbers of frames.

    Example:
        >>> begins = torch.tensor([[True, False, False, True, False]])
        >>> [found.tolist() for found in episode_span(begins, torch.tensor([[1, 4]]))]
        [[[0, 3]], [[2, 4]]]
    """
    number = begins.cumsum(1)
    same = number.unsqueeze(1) == number.gather(1, at).unsqueeze(2)
    place = torch.arange(begins.shape[1], device=begins.device).expand_as(same)
    first = place.masked_fill(~same, begins.shape[1]).amin(2)
    return first, place.masked_fill(~same, -1).amax(2)
