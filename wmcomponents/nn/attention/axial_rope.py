"""Rotary positions along several axes: a share of each head turns by the row, another by the column, or by the time."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class AxialRoPE(nn.Module, ABC):
    r"""Base of rotary positions on a grid: each axis turns :math:`2 \lfloor d / (2\, axes) \rfloor` channels of a head.

    Channels (2i, 2i + 1) are a pair; what is left of a head is not turned. Nor is, along an axis, a token at 0.

    Args:
        dim: size of a head.
        axes: of the positions; 3 are time, row and column.
        base: the slowest pair turns once in about :math:`2\pi\, base` positions.

    Raises:
        ValueError: for a size that gives an axis no pair.
    """

    def __init__(self, dim: int, axes: int = 3, base: float = 10_000.0) -> None:
        super().__init__()
        self.share = 2 * ((dim // axes) // 2) if axes > 0 else 0
        if self.share < 2:
            raise ValueError(f"each of {axes} axes turns pairs of a head's channels; got heads of {dim} channels.")
        self.dim, self.axes, self.base = dim, axes, base

    def extra_repr(self) -> str:
        """Size, axes and base."""
        return f"{self.dim}, axes={self.axes}, base={self.base}"

    def forward(
        self,
        x: Float[Tensor, "*batch heads t d"],
        position: Float[Tensor, "*rows t axes"] | Int[Tensor, "*rows t axes"],
    ) -> Float[Tensor, "*batch heads t d"]:
        """Queries or keys, turned.

        Args:
            x: split into heads.
            position: of each along every axis, for all rows or for each; fractions are allowed.

        Raises:
            ValueError: if the positions have other axes.
        """
        if position.shape[-1] != self.axes:
            raise ValueError(
                f"positions along {self.axes} axes are expected, [..., T, {self.axes}]; got {[*position.shape]}."
            )
        pairs = self.share // 2
        rate = self.base ** (-torch.arange(pairs, device=x.device, dtype=torch.float32) / pairs)
        angle = self._spread(position.to(torch.float32).unsqueeze(-1) * rate).flatten(-2)  # (*rows, t, axes * share)
        angle = angle.unsqueeze(-3)  # the same for all heads
        cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        turned, rest = x.split([self.axes * self.share, self.dim - self.axes * self.share], -1)
        return torch.cat([turned * cosine + _quarter(turned) * sine, rest], -1)

    @abstractmethod
    def _spread(self, angle: Float[Tensor, "*batch pairs"]) -> Float[Tensor, "*batch share"]:
        """The angle of each channel of an axis, from those of the pairs."""


class PairedAxialRoPE(AxialRoPE):
    """Rotary positions on a grid as RoFormer has them along a line: both channels of a pair turn by one angle.

    A product of a query and a key depends on their contents and on the distance along each axis alone. Channels
    (2i, 2i + 1) are a pair.

    Args:
        dim: size of a head.
        axes: of the positions.
        base: of the wavelengths.

    Raises:
        ValueError: see :class:`AxialRoPE`.

    Reference: Su et al., RoFormer (2021), eq. 34; Heo et al., Rotary Position Embedding for Vision Transformer (2024).

    Example:
        >>> rope, x = PairedAxialRoPE(4, axes=2), torch.ones(1, 1, 4)
        >>> torch.equal(rope(x, torch.zeros(1, 2)), x)
        True
    """

    def _spread(self, angle: Tensor) -> Tensor:
        return angle.repeat_interleave(2, -1)


class TiledAxialRoPE(AxialRoPE):
    """Rotary positions on a grid as V-JEPA 2 was trained with them: the two channels of a pair turn by two angles.

    Neighbours (2i, 2i + 1) are a pair, but the angles stand in a row, f_0 ... f_k, f_0 ... f_k, over an axis' channels.
    It is no rotation, and kept for the weights that were trained with it.

    Args:
        dim: size of a head.
        axes: of the positions.
        base: of the wavelengths.

    Raises:
        ValueError: see :class:`AxialRoPE`.

    Reference: Assran et al., V-JEPA 2 (2025), and its code.

    Example:
        >>> rope, x = TiledAxialRoPE(8), torch.ones(1, 3, 8)
        >>> rope(x, torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 2]])).shape
        torch.Size([1, 3, 8])
    """

    def _spread(self, angle: Tensor) -> Tensor:
        return torch.cat([angle, angle], -1)


def _quarter(x: Tensor) -> Tensor:
    """Every pair of neighbours turned by a quarter."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([-second, first], -1).flatten(-2)
