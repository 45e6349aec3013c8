"""How World Models' controller drives CarRacing."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SteeringAndPedals:
    """Raw outputs ``[*B, 3]`` as CarRacing's action vector: tanh steers, (tanh + 1) / 2 is gas, tanh above 0 brakes.

    At first, where all is 0, the car rolls on half gas; were the brake squashed as the gas is, it would stand.

    Example:
        >>> SteeringAndPedals()(torch.tensor([0.0, 0.0, -9.0]))
        tensor([ 0.,  0., -1.])
    """

    def __call__(self, raw: Tensor) -> Tensor:
        """The vector, whose bounds -1 and 1 are those of each number."""
        steering, gas, brake = raw.tanh().unbind(-1)
        return torch.stack([steering, gas, 2.0 * brake.clamp(min=0.0) - 1.0], -1)
