"""Rewards of any size: the unit in which a network says them, and a warning where it cannot say them."""

import math
import warnings

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.codecs.normalize import TanhTransform, Transform

ORDINARY = 100.0
"""Largest reward that is learned well as it is under a squared error, beside the other losses of a model."""


class RewardRangeWarning(UserWarning):
    """Rewards of the data lie beyond what a model can say."""


class RewardUnit(Transform):
    """Numbers in units of a power of ten, found in data once; it travels with the weights as a buffer.

    Numbers of ordinary size stay as they are, so that the unit is 1. Else it is the power of ten that brings the
    largest to at most 1.

    Args:
        largest: numbers beyond this size are not ordinary.
        average: nor are numbers whose mean size lies beyond this.

    Example:
        >>> unit = RewardUnit()
        >>> unit.prepare(torch.tensor([0.0, 2500.0]))
        >>> unit(torch.tensor(2500.0)), unit.inverse(torch.tensor(1.0))
        (tensor(0.2500), tensor(10000.))
    """

    unit: Tensor
    fitted: Tensor

    def __init__(self, largest: float = ORDINARY, average: float = math.inf) -> None:
        super().__init__()
        self.ordinary = (largest, average)
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("unit", torch.ones(()))

    @torch.no_grad()
    def prepare(self, data: Tensor) -> None:
        """Find the unit of data ``[*B]``, if that was never done; what is not finite does not count."""
        size = data[data.isfinite()].detach().cpu().double().abs()
        if bool(self.fitted) or not size.numel():
            return
        largest, average = float(size.max()), float(size.mean())
        if largest > self.ordinary[0] or average > self.ordinary[1]:
            self.unit.fill_(10.0 ** math.ceil(math.log10(largest)))
        self.fitted.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers ``[*shape]`` in units."""
        return x / self.unit

    def inverse(self, x: Tensor) -> Tensor:
        """Numbers ``[*shape]`` out of units."""
        return x * self.unit

    def extra_repr(self) -> str:
        """The unit."""
        return f"{float(self.unit):g}" if not self.unit.is_meta else ""


def reward_transform(name: str) -> Transform | None:
    """The map that rewards pass: ``"plain"``: none; ``"tanh"``; or ``"scaled"``, fitted to data by ``prepare``.

    Raises:
        ValueError: for another name.
    """
    transforms: dict[str, type[Transform] | None] = {"plain": None, "tanh": TanhTransform, "scaled": RewardUnit}
    if name not in transforms:
        raise ValueError(f"rewards must be one of {[*transforms]}; got {name!r}.")
    made = transforms[name]
    return None if made is None else made()


def rewards_in(
    sequences: TensorDictBase, reward: NestedKey = ("next", "reward"), mask: NestedKey = ("collector", "mask")
) -> Tensor:
    """The finite rewards of data in TorchRL's layout, one column ``[N, 1]``; none where there are none, nor of padding.

    Args:
        sequences: the data.
        reward: their key.
        mask: key of the validity mask, used where present.
    """
    found, valid = sequences.get(reward, None), sequences.get(mask, None)
    if found is None:
        return torch.zeros(0, 1)
    column = found.reshape(-1, 1)
    column = column if valid is None else column[valid.reshape(-1).bool()]
    return column[column.isfinite().squeeze(-1)]


def warn_beyond(reward: Tensor, largest: float, consequence: str, remedy: str) -> None:
    """Say it where rewards are larger than ``largest``.

    Args:
        reward: of the data, ``[*B]``.
        largest: the largest size that is said well.
        consequence: what happens to larger ones.
        remedy: what to do.
    """
    size = reward[reward.isfinite()].abs()
    if size.numel() and float(size.max()) > largest:
        warnings.warn(
            f"rewards of the data reach {float(size.max()):.6g} in size, beyond {largest:.6g}: {consequence}. "
            f"{remedy}, or scale the environment's rewards.",
            RewardRangeWarning,
            stacklevel=2,
        )
