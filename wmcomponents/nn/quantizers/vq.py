"""Vector quantisation with a codebook that learns by gradient."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.functional.precision import at_least_float32, full_precision


class Quantized(NamedTuple):
    """Vectors and the codes that stand for them.

    Attributes:
        codes: the codes' vectors, ``[*B, dim]``; their gradient goes to what was quantised, straight through.
        tokens: the codes' numbers, int64 ``[*B]``.
        loss: of codebook and commitment, ``[*B]``, a mean over ``dim``.
    """

    codes: Tensor
    tokens: Tensor
    loss: Tensor


def nearest_code(z: Float[Tensor, "*batch dim"], codebook: Float[Tensor, "codes dim"]) -> Int[Tensor, "*batch"]:
    r"""Number of the code at the least squared distance :math:`\|z\|^2 + \|e\|^2 - 2 z e`; no gradient.

    In float32 at least, under autocast too: bfloat16 does not tell neighbours among hundreds of codes apart.
    """
    with torch.no_grad(), full_precision(z):
        flat = at_least_float32(z).reshape(-1, z.shape[-1])
        distance = flat.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2.0 * flat @ codebook.T
        return distance.argmin(-1).reshape(z.shape[:-1])


class VectorQuantizer(nn.Module):
    r"""The nearest entry of a learned codebook.

    .. math:: L = \|sg(z) - e\|^2 + \beta \|z - sg(e)\|^2, \qquad \text{output } z + sg(e - z)

    The first term moves codes to the vectors that chose them; the second commits vectors to their codes.

    Args:
        codes: size of the codebook.
        dim: size of a code.
        beta: factor on the commitment term (VQ-VAE: 0.25; IRIS: 1).

    Reference: van den Oord et al., Neural Discrete Representation Learning (2017), eq. 2, 3.

    Example:
        >>> quantizer = VectorQuantizer(2, 1)
        >>> _ = quantizer.embedding.weight.data.copy_(torch.tensor([[0.0], [1.0]]))
        >>> quantizer(torch.tensor([[0.2], [0.9]])).tokens
        tensor([0, 1])
    """

    def __init__(self, codes: int, dim: int, *, beta: float = 0.25) -> None:
        super().__init__()
        self.codes, self.dim, self.beta = codes, dim, beta
        self.embedding = nn.Embedding(codes, dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / codes, 1.0 / codes)

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """Each vector's code."""
        z = at_least_float32(z)
        tokens = self.tokens(z)
        code = self.lookup(tokens)
        moved = (z.detach() - code).square().mean(-1)
        committed = (z - code.detach()).square().mean(-1)
        return Quantized(z + (code - z).detach(), tokens, moved + self.beta * committed)

    @property
    def codebook(self) -> Tensor:
        """The codes' vectors, ``[codes, dim]``."""
        return self.embedding.weight

    def compared(self, z: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Vectors as they are compared with codes: as they are."""
        return z

    def tokens(self, z: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """The numbers alone."""
        return nearest_code(z, self.embedding.weight)

    def lookup(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The vectors of codes."""
        return self.embedding(tokens)
