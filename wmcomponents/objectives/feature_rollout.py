"""Predictions of features: each from what was seen, and a few in a row from what was predicted before."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class FeatureRollout(NamedTuple):
    """Predictions of the frames after the first.

    Attributes:
        teacher_forced: of frames 1 to T - 1, each from the real ones before it, ``[B, T - 1, ...]``.
        rolled_out: of frames 1 to S, each from the first and the predicted ones, ``[B, S, ...]``.
    """

    teacher_forced: Tensor
    rolled_out: Tensor


def feature_rollout(predict: Callable[[Tensor], Tensor], features: Tensor, steps: int = 2) -> FeatureRollout:
    """Predict by teacher forcing and in a row; the gradient passes through the row.

    The row begins with the teacher-forced prediction of frame 1, which sees the same.

    Args:
        predict: from a window ``[B, t, ...]`` of frames 0 to t - 1 to the frames 1 to t, with their real actions and
            states.
        features: of real frames, ``[B, T, ...]``.
        steps: S, length of the row, 1 to T - 1.

    Raises:
        ValueError: if the frames do not allow so many steps.

    Reference: Assran et al., V-JEPA 2 (2025), eq. 2 to 4.
    """
    if not 1 <= steps < features.shape[1]:
        raise ValueError(f"{features.shape[1]} frames allow 1 to {features.shape[1] - 1} steps in a row; got {steps}.")
    forced = predict(features[:, :-1])
    window = torch.cat([features[:, :1], forced[:, :1]], 1)
    for _ in range(1, steps):
        window = torch.cat([window, predict(window)[:, -1:]], 1)
    return FeatureRollout(forced, window[:, 1:])
