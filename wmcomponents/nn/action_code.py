"""How an action enters a convolutional world: as planes of one number each."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ActionCode(nn.Module, ABC):
    """From an action's vector (``nn.ActionVector``) to the numbers that fill its planes.

    Args:
        size: length of the vector.

    Attributes:
        planes: how many numbers.
    """

    def __init__(self, size: int, planes: int) -> None:
        super().__init__()
        self.planes = planes

    @abstractmethod
    def forward(self, action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch p"]:
        """The numbers."""


class FractionCode(ActionCode):
    """One plane: ``index / classes`` of a choice (muzero-general, EfficientZero).

    Args:
        size: number of choices.
    """

    fraction: Tensor

    def __init__(self, size: int) -> None:
        super().__init__(size, 1)
        self.register_buffer("fraction", torch.arange(size, dtype=torch.float32)[:, None] / size, persistent=False)

    def forward(self, action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch 1"]:
        """The fraction of a one-hot vector; 0 of an all-zero one."""
        return (action.unsqueeze(-1) * self.fraction).sum(-2)


class OneHotCode(ActionCode):
    """A plane for each entry of the vector: one-hot planes of a choice (LightZero), or plain numbers.

    Args:
        size: length of the vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def forward(self, action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch a"]:
        """The vector itself."""
        return action
