"""Finite scalar quantisation: a fixed grid in place of a codebook."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.nn.quantizers.vq import Quantized


class FSQ(nn.Module):
    r"""Each number is squashed and rounded to one of a few levels; a code is the combination.

    .. math:: \hat z_i = round(\tanh(z_i + s_i)\, h_i - o_i), \qquad h_i = (L_i - 1)(1 + \epsilon) / 2

    with o = 1/2 and s = artanh(o / h) for an even number of levels, both 0 for an odd one, so that 0 maps to a level.
    Codes lie in [-1, 1]. No codebook is learned and no loss is needed; rounding passes gradients straight through.

    Args:
        levels: :math:`L_i`, the levels of each number, at least 2.

    Raises:
        ValueError: for fewer than two levels.

    Reference: Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple (2023), section 3, appendix A.1.

    Example:
        >>> grid = FSQ((3, 5))
        >>> grid.codes, torch.equal(grid.tokens(grid.lookup(torch.arange(15)).atanh()), torch.arange(15))
        (15, True)
    """

    span: Tensor
    offset: Tensor
    shift: Tensor
    width: Tensor
    basis: Tensor
    sizes: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"every number has at least two levels; got {levels}.")
        self.levels, self.dim, self.codes = tuple(levels), len(levels), math.prod(levels)
        half = [(n - 1) * (1 + 1e-3) / 2 for n in levels]
        offset = [0.0 if n % 2 else 0.5 for n in levels]
        constants = {
            "span": torch.tensor(half),
            "offset": torch.tensor(offset),
            "shift": torch.tensor([math.atanh(o / h) for o, h in zip(offset, half, strict=True)]),
            "width": torch.tensor([n // 2 for n in levels]),
            "basis": torch.tensor([math.prod(levels[:i]) for i in range(self.dim)]),
            "sizes": torch.tensor(levels),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """Each vector's code; the loss is 0."""
        bounded = self._bounded(z)
        code = bounded + (bounded.round() - bounded).detach()
        return Quantized(code / self.width, self._number(code.detach()), torch.zeros_like(z[..., 0]))

    def tokens(self, z: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """The numbers alone."""
        with torch.no_grad():
            return self._number(self._bounded(z).round())

    def lookup(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The vectors of codes, in [-1, 1]."""
        level = tokens.unsqueeze(-1) // self.basis % self.sizes
        return (level - self.width) / self.width

    def _bounded(self, z: Tensor) -> Tensor:
        return torch.tanh(z + self.shift) * self.span - self.offset

    def _number(self, rounded: Tensor) -> Tensor:
        return ((rounded.round().long() + self.width) * self.basis).sum(-1)
