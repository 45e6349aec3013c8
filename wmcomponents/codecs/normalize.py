"""Invertible maps between the environment's vectors and the numbers a network likes."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs.observation_groups import ObservationGroups
from wmcomponents.functional.symlog import symexp, symlog


class Transform(nn.Module, ABC):
    """An invertible map of vectors, shared by an encoder and a decoder."""

    @property
    def largest(self) -> float:
        """The largest number of the environment's that comes back as it was."""
        return math.inf

    def prepare(self, data: Float[Tensor, "*batch n"]) -> None:
        """Estimate from data what is estimated, once; nothing here. Weights were learned in the scale that was found.

        Args:
            data: in the environment's space.
        """

    @abstractmethod
    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """From the environment's space to the network's."""

    @abstractmethod
    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """From the network's space back to the environment's."""


class IdentityTransform(Transform):
    """Numbers as they are (PlaNet, Dreamer, DreamerV2)."""

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``x``."""
        return x

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``x``."""
        return x


class TanhTransform(Transform):
    """``tanh`` forth, its inverse back: rewards of DreamerV2 on Atari.

    Large numbers run together, so what comes back is kept within ``limit``: beyond it the inverse would turn the
    smallest error of a prediction into a large number.

    Args:
        limit: largest magnitude that comes back; tanh(3) = 0.995.
    """

    def __init__(self, limit: float = 3.0) -> None:
        super().__init__()
        self.limit = limit

    @property
    def largest(self) -> float:
        """The limit."""
        return self.limit

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``tanh(x)``."""
        return x.tanh()

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``artanh(x)``, within the limit."""
        bound = math.tanh(self.limit)
        return x.clamp(-bound, bound).atanh()

    def extra_repr(self) -> str:
        """The limit."""
        return f"limit={self.limit}"


class Symlog(Transform):
    """``symlog`` forth, ``symexp`` back: nothing to fit, any range (DreamerV3)."""

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``sign(x) log(1 + |x|)``."""
        return symlog(x)

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``sign(x) (exp(|x|) - 1)``."""
        return symexp(x)


class Standardize(Transform):
    """``(x - loc) / scale`` per column, fitted once to data; the numbers travel with the weights as buffers.

    Args:
        size: number of columns.

    Example:
        >>> import torch
        >>> standardize = Standardize(2).fit(torch.tensor([[0.0, 5.0], [4.0, 5.0]]))
        >>> standardize(torch.tensor([4.0, 5.0]))
        tensor([1., 0.])
    """

    loc: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def fit(self, data: Float[Tensor, "*batch n"]) -> "Standardize":
        """Take mean and standard deviation (population) of each column of ``data``; a constant column keeps scale 1.

        Raises:
            ValueError: if the last dimension is not ``size`` or there is no row.
        """
        rows = data.reshape(-1, data.shape[-1]).to(self.loc.device, torch.float64)
        if rows.shape[-1] != self.loc.shape[0] or rows.shape[0] == 0:
            raise ValueError(f"Expected data [*batch, {self.loc.shape[0]}] with rows; got {tuple(data.shape)}.")
        mean, std = rows.mean(0), rows.std(0, correction=0)
        is_constant = std <= 1e-6 * (1.0 + mean.abs())
        self.loc.copy_(mean)
        self.scale.copy_(torch.where(is_constant, 1.0, std))
        self.fitted.fill_(True)
        return self

    def prepare(self, data: Float[Tensor, "*batch n"]) -> None:
        """:meth:`fit`, if that was never done."""
        if not bool(self.fitted):
            self.fit(data)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``(x - loc) / scale``."""
        return (x - self.loc) / self.scale

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """``x * scale + loc``."""
        return x * self.scale + self.loc

    def extra_repr(self) -> str:
        """Number of columns."""
        return f"{self.loc.shape[0]}"


LARGEST_BOUND = 1e6
"""A larger bound of an environment's tells nothing of its numbers."""


class BoundedStandardize(Standardize):
    """As :class:`Standardize`, but columns with bounds on both sides are brought to [-2, 2] by these.

    Bounds stay what they are. Random play may stay near where episodes begin, and by its spread all that a better agent
    sees is far away.

    Args:
        low: of each column, ``[n]``; infinite for none.
        high: likewise.

    Raises:
        ValueError: if the bounds are no two vectors of one size.

    Example:
        >>> import torch
        >>> transform = BoundedStandardize(torch.tensor([-4.0, -torch.inf]), torch.tensor([4.0, torch.inf]))
        >>> transform.fit(torch.tensor([[0.1, -1.0], [-0.1, 1.0]])).scale
        tensor([2., 1.])
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Float[Tensor, " n"], high: Float[Tensor, " n"]) -> None:
        if low.ndim != 1 or low.shape != high.shape:
            raise ValueError(f"bounds are two vectors of one size; got {list(low.shape)} and {list(high.shape)}.")
        super().__init__(len(low))
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    @torch.no_grad()
    def fit(self, data: Float[Tensor, "*batch n"]) -> "Standardize":
        """Middle and quarter of the range where there is one; mean and deviation of ``data`` elsewhere.

        Raises:
            ValueError: as :meth:`Standardize.fit`.
        """
        super().fit(data)
        is_bounded = (self.low.abs() <= LARGEST_BOUND) & (self.high.abs() <= LARGEST_BOUND) & (self.low < self.high)
        self.loc.copy_(torch.where(is_bounded, (self.low + self.high) / 2, self.loc))
        self.scale.copy_(torch.where(is_bounded, (self.high - self.low) / 4, self.scale))
        return self


def vector_transform(name: str, observation_spec: Composite) -> Transform:
    """The map that vectors pass, by its name.

    Args:
        name: ``"symlog"``, ``"standardize"`` (fitted to data by ``prepare``), ``"bounds"`` (the same, but for numbers
            that have bounds, :class:`BoundedStandardize`), or ``"identity"``.
        observation_spec: of one observation.

    Raises:
        ValueError: for another name.
    """
    if name == "standardize":
        return Standardize(ObservationGroups.from_spec(observation_spec).vector_size)
    if name == "bounds":
        return BoundedStandardize(*ObservationGroups.from_spec(observation_spec).number_bounds())
    if name not in _TRANSFORMS:
        raise ValueError(f"vectors must be one of {[*_TRANSFORMS, 'standardize', 'bounds']}; got {name!r}.")
    return _TRANSFORMS[name]()


_TRANSFORMS: dict[str, type[Transform]] = {"symlog": Symlog, "identity": IdentityTransform}
