"""Where in a sequence something stands, told to a network: learned, sinusoidal and rotary positions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class LearnedPositions(nn.Embedding):
    """A learned vector for each position, to be added to what stands there.

    Args:
        length: number of positions.
        dim: size of the vectors.
    """

    def __init__(self, length: int, dim: int) -> None:
        super().__init__(length, dim)
        nn.init.normal_(self.weight, std=0.02)


def sinusoidal_positions(
    position: Float[Tensor, "*batch"] | Int[Tensor, "*batch"], dim: int, base: float = 10_000.0
) -> Float[Tensor, "*batch dim"]:
    r"""Sines, then cosines, of a position at ``dim / 2`` wavelengths from :math:`2\pi` to :math:`2\pi\, base`.

    .. math:: p_{i} = \sin(t\, base^{-2i/d}), \qquad p_{d/2 + i} = \cos(t\, base^{-2i/d})

    Reference: Vaswani et al., Attention Is All You Need (2017), section 3.5; there sines and cosines alternate.

    Raises:
        ValueError: for an odd ``dim``.
    """
    angle = _angles(position, dim, base)
    return torch.cat([angle.sin(), angle.cos()], -1)


class RoPE(nn.Module):
    r"""Rotary positions: each pair of features turns by an angle that grows with the position.

    The product of a query at position m and a key at position n then depends on their contents and on m - n alone.
    Feature i is paired with feature i + d/2.

    Args:
        dim: size of a head, even.
        base: the slowest pair turns once in about :math:`2\pi\, base` positions.

    Raises:
        ValueError: for an odd ``dim``.

    Reference: Su et al., RoFormer (2021), eq. 15, 34.
    """

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"rotary positions turn pairs of features, so their number is even; got {dim}.")
        self.dim, self.base = dim, base

    def extra_repr(self) -> str:
        """Size and base."""
        return f"{self.dim}, base={self.base}"

    def forward(
        self, x: Float[Tensor, "*batch heads t d"], position: Int[Tensor, "*rows t"]
    ) -> Float[Tensor, "*batch heads t d"]:
        """Queries or keys, turned.

        Args:
            x: split into heads.
            position: of each, for all rows or for each.
        """
        angle = _angles(position, self.dim, self.base).unsqueeze(-3).to(x.dtype)  # (*rows, 1, t, d / 2)
        cosine, sine = angle.cos(), angle.sin()
        first, second = x.chunk(2, -1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class InterleavedRoPE(nn.Module):
    r"""Rotary positions whose pairs are neighbours: feature 2i turns with feature 2i + 1.

    The same as :class:`RoPE` but for the order of the features, in which LLaMA's own weights are stored.

    Args:
        dim: size of a head, even.
        base: the slowest pair turns once in about :math:`2\pi\, base` positions; contexts that were made longer have
            a larger one.

    Raises:
        ValueError: for an odd ``dim``.

    Reference: Su et al., RoFormer (2021), eq. 34; Touvron et al., LLaMA (2023).
    """

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"rotary positions turn pairs of features, so their number is even; got {dim}.")
        self.dim, self.base = dim, base

    def extra_repr(self) -> str:
        """Size and base."""
        return f"{self.dim}, base={self.base}"

    def forward(
        self, x: Float[Tensor, "*batch heads t d"], position: Int[Tensor, "*rows t"]
    ) -> Float[Tensor, "*batch heads t d"]:
        """Queries or keys, turned.

        Args:
            x: split into heads.
            position: of each, for all rows or for each.
        """
        angle = _angles(position, self.dim, self.base).unsqueeze(-3)  # (*rows, 1, t, d / 2)
        cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        signed = torch.stack([-sine, sine], -1).flatten(-2)
        return torch.addcmul(x * cosine.repeat_interleave(2, -1), swapped, signed)


def _angles(position: Tensor, dim: int, base: float) -> Tensor:
    if dim % 2:
        raise ValueError(f"positions are told in pairs of features, so their number is even; got {dim}.")
    rate = base ** (-torch.arange(0, dim, 2, device=position.device, dtype=torch.float32) / dim)
    return position.to(torch.float32).unsqueeze(-1) * rate
