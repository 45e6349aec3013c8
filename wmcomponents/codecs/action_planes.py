"""How an action enters a convolutional world: as planes of one number each."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.observation import DiscreteCodec

ActionPlanesName = Literal["fraction", "one_hot"]


class ActionPlanes(nn.Module, ABC):
    """From an action's vector (:class:`ActionVector`) to the numbers that fill its planes.

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


class FractionPlanes(ActionPlanes):
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


class OneHotPlanes(ActionPlanes):
    """A plane for each entry of the vector: one-hot planes of a choice (LightZero), or plain numbers.

    Args:
        size: length of the vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def forward(self, action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch a"]:
        """The vector itself."""
        return action


def make_action_planes(action: ActionVector, planes: ActionPlanesName) -> ActionPlanes:
    """The planes of a name.

    Args:
        action: turns actions into vectors.
        planes: ``"fraction"`` for a single choice, or ``"one_hot"`` for any action.

    Raises:
        ValueError: if a fraction is asked for of an action that is not one choice.
    """
    if planes == "one_hot":
        return OneHotPlanes(action.size)
    codec = action.codec
    if not isinstance(codec, DiscreteCodec) or len(codec.classes) != 1:
        raise ValueError(
            f"only a single choice is a fraction a / |A|; the action has {action.size} numbers: use "
            f"action_planes='one_hot', which gives each a plane."
        )
    return FractionPlanes(action.size)
