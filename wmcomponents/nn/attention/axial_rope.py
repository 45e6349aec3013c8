"""Rotary positions along several axes: a share of each head turns by the row, another by the column, or by the time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

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
        angle = self._angles(position.to(torch.float32)).unsqueeze(-3)  # the same for all heads
        cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        turned, rest = x.split([angle.shape[-1], self.dim - angle.shape[-1]], -1)
        return torch.cat([turned * cosine + _quarter(turned) * sine, rest], -1)

    def _angles(self, position: Float[Tensor, "*rows t axes"]) -> Float[Tensor, "*rows t turned"]:
        """By what angle each channel that turns is turned."""
        return self._spread(position.unsqueeze(-1) * self._rate(position.device)).flatten(-2)

    def _rate(self, device: torch.device) -> Float[Tensor, " pairs"]:
        """By what angle each pair of an axis turns from one position to the next."""
        pairs = self.share // 2
        return self.base ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)

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


class PixelAxialRoPE(AxialRoPE):
    r"""Rotary positions of pixels: places between -1 and 1 along each axis, and frequencies that rise evenly.

    .. math:: \theta_k = \pi (1 + k (f / 2 - 1) / (n - 1)), \qquad k = 0 \dots n - 1

    Neighbours are pairs, as in :class:`PairedAxialRoPE`; :func:`unit_coordinates` gives the places.

    Args:
        dim: size of a head.
        axes: of the positions.
        frequency: f, the highest one, in half turns from one side to the other, times two.
        share: channels of a head that each axis turns, even; as many as there are if not given.

    Raises:
        ValueError: for a share that is odd, or that a head does not have. See :class:`AxialRoPE` too.

    Reference: Heo et al., Rotary Position Embedding for Vision Transformer (2024), the axial form; Oasis (Decart and
    Etched, 2024).

    Example:
        >>> rope, x = PixelAxialRoPE(8, frequency=4.0), torch.ones(1, 6, 8)
        >>> rope(x, unit_coordinates((2, 3))).shape
        torch.Size([1, 6, 8])
    """

    def __init__(self, dim: int, axes: int = 2, frequency: float = 256.0, share: int | None = None) -> None:
        super().__init__(dim, axes)
        self.frequency = frequency
        if share is not None:
            if share < 2 or share % 2 or axes * share > dim:
                raise ValueError(
                    f"{axes} axes turn pairs of a head's {dim} channels, an even share each; got {share} each."
                )
            self.share = share

    def extra_repr(self) -> str:
        """Size, axes, frequency and share."""
        return f"{self.dim}, axes={self.axes}, frequency={self.frequency}, share={self.share}"

    def _angles(self, position: Float[Tensor, "*rows t axes"]) -> Float[Tensor, "*rows t turned"]:
        """By what angle each channel that turns is turned."""
        return self._spread(position.unsqueeze(-1) * self._rate(position.device)).flatten(-2)

    def _rate(self, device: torch.device) -> Tensor:
        return math.pi * torch.linspace(1.0, self.frequency / 2.0, self.share // 2, device=device)

    def _spread(self, angle: Tensor) -> Tensor:
        return angle.repeat_interleave(2, -1)


class UnevenAxialRoPE(AxialRoPE):
    """Rotary positions on a grid whose axes turn different shares of a head; the whole head is turned.

    Args:
        shares: channels that each axis turns, even.
        base: of the wavelengths.

    Raises:
        ValueError: for a share that is not even.

    Reference: Black Forest Labs, FLUX.1 (2024); Open-Sora 2.0 (2025), with shares (16, 56, 56) of time, row and column.

    Example:
        >>> rope, x = UnevenAxialRoPE((2, 4, 4)), torch.ones(1, 1, 10)
        >>> torch.equal(rope(x, torch.zeros(1, 3)), x)
        True
    """

    def __init__(self, shares: Sequence[int], base: float = 10_000.0) -> None:
        if not shares or any(share < 2 or share % 2 for share in shares):
            raise ValueError(f"each axis turns pairs of a head's channels; got shares {tuple(shares)}.")
        super().__init__(sum(shares), len(shares), base)
        self.shares = tuple(shares)

    def extra_repr(self) -> str:
        """Shares and base."""
        return f"{self.shares}, base={self.base}"

    def _angles(self, position: Tensor) -> Tensor:
        of_axes = zip(position.unbind(-1), self.shares, strict=True)
        angles = [
            at.unsqueeze(-1) * self.base ** (-torch.arange(0, share, 2, device=at.device, dtype=torch.float32) / share)
            for at, share in of_axes
        ]
        return self._spread(torch.cat(angles, -1))

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


def unit_coordinates(grid: Sequence[int], device: torch.device | str | None = None) -> Float[Tensor, "n axes"]:
    """Where each patch stands, from -1 at the first to 1 at the last along each axis; the last axis runs first.

    Args:
        grid: patches along each axis; a single one stands at -1.
        device: of the result.

    >>> unit_coordinates((1, 3)).tolist()
    [[-1.0, -1.0], [-1.0, 0.0], [-1.0, 1.0]]
    """
    axes = [torch.linspace(-1.0, 1.0, side, device=device) for side in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def _quarter(x: Tensor) -> Tensor:
    """Every pair of neighbours turned by a quarter."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([-second, first], -1).flatten(-2)
