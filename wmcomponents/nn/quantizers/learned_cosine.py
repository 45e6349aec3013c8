"""Vector quantisation by direction, with a codebook that learns by gradient."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.functional.precision import at_least_float32, full_precision
from wmcomponents.nn.quantizers.vq import Quantized


class LearnedCosineQuantizer(nn.Module):
    r"""The code at the least angle. Vectors are scaled to length 1; codes are passed on as they are.

    .. math:: L = \|sg(\bar z) - e\|^2 + \beta \|\bar z - sg(e)\|^2, \qquad \bar z = z / \|z\|,
        \qquad \text{output } \bar z + sg(e - \bar z)

    Nothing keeps codes at length 1 but the first term, which draws them to vectors that are.

    Args:
        codes: size of the codebook.
        dim: size of a code.
        beta: factor on the commitment term.

    Reference: p-doom/jasmine and GenieRedux (2024): tokenizer and latent actions of both.

    Example:
        >>> quantizer = LearnedCosineQuantizer(2, 2)
        >>> _ = quantizer.codebook.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
        >>> quantizer(torch.tensor([[9.0, 1.0], [0.1, 0.3]])).tokens
        tensor([0, 1])
    """

    def __init__(self, codes: int, dim: int, *, beta: float = 0.25) -> None:
        super().__init__()
        self.codes, self.dim, self.beta = codes, dim, beta
        self.codebook = nn.Parameter(F.normalize(torch.randn(codes, dim), dim=-1))

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """Each vector's code."""
        z = self.compared(z)
        tokens = self._closest(z)
        code = self.lookup(tokens)
        moved = (z.detach() - code).square().mean(-1)
        committed = (z - code.detach()).square().mean(-1)
        return Quantized(z + (code - z).detach(), tokens, moved + self.beta * committed)

    def compared(self, z: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Vectors as they are compared with codes: scaled to length 1."""
        return F.normalize(at_least_float32(z), dim=-1)

    def tokens(self, z: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """The numbers alone."""
        return self._closest(self.compared(z))

    def lookup(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The vectors of codes."""
        return F.embedding(tokens, self.codebook)

    @torch.no_grad()
    def _closest(self, z: Tensor) -> Tensor:
        # bfloat16 does not tell neighbours among hundreds of codes apart.
        with full_precision(z):
            return (z @ F.normalize(self.codebook, dim=-1).T).argmax(-1)
