"""Vector quantisation on the unit sphere, with a codebook that follows the vectors that chose it."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents._global_batch import global_rows, of_the_first
from wmcomponents.functional.precision import at_least_float32, full_precision
from wmcomponents.nn.quantizers.usage import CodebookUsage, code_counts, revived
from wmcomponents.nn.quantizers.vq import Quantized

LEAST_ENTROPY = 1.0
"""Bits below which unused codes are revived at any age."""


class CosineQuantizer(nn.Module):
    r"""The code at the least angle. Vectors are scaled to length 1; the codebook learns from averages, not gradients.

    .. math:: L = \beta \|\bar z - sg(e)\|^2, \qquad \bar z = z / \|z\|, \qquad \text{output } \bar z + sg(e - \bar z)

    :meth:`update_` moves each code towards the mean of the vectors that chose it, scaled to length 1, and scales all
    codes to length 1; a code that nobody chose only shrinks and is scaled back.

    .. math:: e \leftarrow \frac{\gamma e + (1 - \gamma) m}{\|\gamma e + (1 - \gamma) m\|}, \qquad m = \mu / \|\mu\|

    While codes are used unevenly (entropy of the running shares below :math:`\log_2 N - 2` bits), codes that are hardly
    used are replaced by random vectors of the batch: in the first ``revival`` updates, and later only where the entropy
    falls below 1 bit.

    Args:
        codes: N, size of the codebook.
        dim: size of a code.
        beta: factor on the commitment term.
        decay: :math:`\gamma`.
        revival: updates in which unused codes are revived.

    Attributes:
        codebook: a buffer ``[codes, dim]``; small random numbers until the first update.
        usage: running shares, see :class:`~wmcomponents.nn.CodebookUsage`.
        updates: how many there were, int64.

    Reference: Micheli et al., Efficient World Models with Context-Aware Tokenization (Delta-IRIS, 2024), appendix A.

    Example:
        >>> quantizer = CosineQuantizer(2, 2)
        >>> _ = quantizer.codebook.copy_(torch.eye(2))
        >>> quantizer(torch.tensor([[9.0, 1.0], [0.1, 0.3]])).tokens
        tensor([0, 1])
    """

    codebook: Tensor
    updates: Tensor

    def __init__(self, codes: int, dim: int, *, beta: float = 0.02, decay: float = 0.99, revival: int = 0) -> None:
        super().__init__()
        self.codes, self.dim, self.beta, self.decay, self.revival = codes, dim, beta, decay, revival
        self.usage = CodebookUsage(codes)
        self.register_buffer("codebook", torch.empty(codes, dim).uniform_(-1.0 / codes, 1.0 / codes))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """Each vector's code; the codebook stays as it is."""
        z = F.normalize(at_least_float32(z), dim=-1)
        tokens = self._closest(z)
        code = self.lookup(tokens)
        return Quantized(z + (code - z).detach(), tokens, self.beta * (z - code).square().mean(-1))

    def tokens(self, z: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """The numbers alone."""
        return self._closest(F.normalize(at_least_float32(z), dim=-1))

    def lookup(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The vectors of codes."""
        return F.embedding(tokens, self.codebook)

    @torch.no_grad()
    def update_(
        self,
        z: Float[Tensor, "*batch dim"],
        tokens: Int[Tensor, "*batch"],
        noise: Float[Tensor, " codes"],
        weight: Float[Tensor, "*batch"] | None = None,
    ) -> None:
        """Let the codebook follow a batch, in place; never waits for a device.

        Args:
            z: vectors as :meth:`forward` reads them.
            tokens: their codes.
            noise: uniform in [0, 1), picks the vectors that revived codes become.
            weight: how much each vector counts, 0 for padding; 1 if not given.
        """
        z, tokens = F.normalize(at_least_float32(z), dim=-1).reshape(-1, self.dim), tokens.reshape(-1)
        weight = torch.ones(tokens.shape, device=z.device) if weight is None else weight.reshape(-1).to(z.dtype)
        z, tokens, weight, noise = global_rows(z), global_rows(tokens), global_rows(weight), of_the_first(noise)
        total = torch.zeros_like(self.codebook).index_add_(0, tokens, z * weight.unsqueeze(-1))
        mean = total / code_counts(tokens, self.codes, weight).clamp_min(1e-12).unsqueeze(-1)
        codebook = self.decay * self.codebook + (1.0 - self.decay) * F.normalize(mean, dim=-1)
        self.usage.update_(tokens, weight)
        entropy = self.usage.entropy
        allowed = (self.updates < self.revival) | (entropy < LEAST_ENTROPY)
        dead = self.usage.expired & allowed & (entropy < math.log2(self.codes) - 2.0)
        # Vectors that count come first, and the noise picks among them alone.
        counts = weight > 0
        real = z[counts.logical_not().to(torch.int8).argsort(stable=True)]
        codebook = revived(codebook, dead, real, noise * counts.to(noise.dtype).mean())
        self.usage.frequency.masked_fill_(dead, 1.0 / self.codes)
        self.codebook.copy_(F.normalize(codebook, dim=-1))
        self.updates.add_(1)

    @torch.no_grad()
    def _closest(self, z: Tensor) -> Tensor:
        # bfloat16 does not tell neighbours among hundreds of codes apart.
        with full_precision(z):
            return (z @ self.codebook.T).argmax(-1)
