"""How a codebook is used, and new life for codes that are not."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wmcomponents._global_batch import global_sum


def code_counts(
    tokens: Int[Tensor, "*batch"], codes: int, weight: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, " codes"]:
    """How often each code occurs; never waits for a device.

    Args:
        tokens: numbers of codes.
        codes: how many there are.
        weight: how much each token counts; 1 if not given.
    """
    flat = tokens.reshape(-1)
    counted = torch.ones(flat.shape, device=flat.device) if weight is None else weight.reshape(-1)
    return torch.zeros(codes, device=flat.device).index_add_(0, flat, counted)


def usage_entropy(frequency: Float[Tensor, "*batch codes"]) -> Float[Tensor, "*batch"]:
    """Entropy in bits of how codes are used: log2(codes) where all are used alike, 0 where one is.

    Args:
        frequency: counts or shares, non-negative; all zero counts as entropy 0.
    """
    share = frequency / frequency.sum(-1, keepdim=True).clamp_min(1e-12)
    return -(share * share.clamp_min(1e-12).log2()).sum(-1)


def perplexity(frequency: Float[Tensor, "*batch codes"]) -> Float[Tensor, "*batch"]:
    """The number of codes that, used alike, would have the same entropy: 1 to ``codes``."""
    return usage_entropy(frequency).exp2()


def revived(
    codebook: Float[Tensor, "codes dim"],
    expired: Bool[Tensor, " codes"],
    z: Float[Tensor, "n dim"],
    noise: Float[Tensor, " codes"],
) -> Float[Tensor, "codes dim"]:
    """The codebook with random vectors of a batch in place of expired codes; nothing is mutated.

    Args:
        codebook: codes.
        expired: which codes to replace.
        z: vectors that were quantised.
        noise: uniform in [0, 1), picks each code's new vector.
    """
    index = (noise * z.shape[0]).long().clamp_max(z.shape[0] - 1)
    return torch.where(expired.unsqueeze(-1), z.detach()[index], codebook)


@torch.no_grad()
def farthest_first(
    z: Float[Tensor, "n dim"], codes: int, taken: Float[Tensor, "m dim"] | None = None
) -> Float[Tensor, "codes dim"]:
    """Vectors out of many that lie far apart: each time the one farthest from all that were taken.

    A codebook that begins with them uses all its codes from the start.

    Args:
        z: vectors to choose from; where there are fewer different ones than ``codes``, some are taken twice.
        codes: how many to take.
        taken: what is there already; the first of ``z`` is taken first if not given.

    Reference: Gonzalez, Clustering to Minimize the Maximum Intercluster Distance (1985).
    """
    chosen: list[Tensor] = []
    if taken is None:
        chosen, taken = [z.new_zeros((), dtype=torch.int64)], z[:1]
    apart = torch.cdist(z, taken).amin(1)
    while len(chosen) < codes:
        chosen.append(apart.argmax())
        apart = torch.minimum(apart, (z - z[chosen[-1]]).norm(dim=-1))
    return z[torch.stack(chosen)] if chosen else z[:0]


class CodebookUsage(nn.Module):
    r"""Running shares of each code, and which codes have expired.

    .. math:: f \leftarrow \alpha f + (1 - \alpha) \frac{n_i}{\sum_j n_j}

    Args:
        codes: size of the codebook.
        decay: :math:`\alpha`.
        expiry: a code has expired below this fraction of the even share 1 / codes.

    Attributes:
        frequency: running shares, a buffer ``[codes]``; even at first.

    Raises:
        ValueError: if a number is out of range.

    Reference: the usage statistics of Delta-IRIS (Micheli et al., 2024): decay 0.98, expiry 0.1.
    """

    frequency: Tensor

    def __init__(self, codes: int, *, decay: float = 0.98, expiry: float = 0.1) -> None:
        super().__init__()
        if not 0 <= decay < 1 or expiry < 0:
            raise ValueError(f"decay is in [0, 1) and expiry at least 0; got {decay}, {expiry}.")
        self.codes, self.decay, self.expiry = codes, decay, expiry
        self.register_buffer("frequency", torch.full((codes,), 1.0 / codes))

    @torch.no_grad()
    def update_(self, tokens: Int[Tensor, "*batch"], weight: Float[Tensor, "*batch"] | None = None) -> None:
        """Count a batch of tokens.

        Args:
            tokens: numbers of codes.
            weight: how much each token counts; 1 if not given.
        """
        counts = global_sum(code_counts(tokens, self.codes, weight))
        self.frequency.mul_(self.decay).add_(counts / counts.sum().clamp_min(1.0), alpha=1 - self.decay)

    @torch.no_grad()
    def revive_(self, codebook: Tensor, z: Tensor, noise: Tensor) -> None:
        """Replace expired codes by random vectors of a batch, in place, and give them the even share.

        Args:
            codebook: ``[codes, dim]``, changed in place.
            z: vectors that were quantised, ``[N, dim]``.
            noise: uniform in [0, 1), ``[codes]``.
        """
        expired = self.expired
        codebook.copy_(revived(codebook, expired, z, noise))
        self.frequency.masked_fill_(expired, 1.0 / self.codes)

    @property
    def expired(self) -> Tensor:
        """Which codes are hardly used, bool ``[codes]``."""
        return self.frequency < self.expiry / self.codes

    @property
    def entropy(self) -> Tensor:
        """In bits, of the running shares."""
        return usage_entropy(self.frequency)
