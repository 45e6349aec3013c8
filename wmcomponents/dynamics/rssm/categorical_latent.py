"""One-hot variables as the sampled part of a state."""

import torch
from torch import Tensor
from torchrl.data import Bounded
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.dynamics.rssm.latent import Latent
from wmcomponents.dynamics.rssm.scan import LatentScan
from wmcomponents.functional import (
    categorical_entropy,
    categorical_kl,
    inverse_cdf_one_hot,
    mode_one_hot,
    straight_through,
    unimix_log_probs,
    unimix_probs,
)


class CategoricalLatent(Latent):
    """A vector of one-hot variables with straight-through gradients (DreamerV2) and uniform mixing (DreamerV3).

    ``raw`` are the logits, flat. A sample is the class whose slice of the cumulative distribution holds the uniform
    noise; its gradient is that of the mixed probabilities.

    Args:
        groups: number of variables.
        classes: alternatives of each.
        unimix: share of the uniform distribution in every variable.

    Raises:
        ValueError: if ``unimix`` is outside [0, 1].

    Reference: Hafner et al., Mastering Atari with Discrete World Models (2021), Algorithm 1; DreamerV3, eq. 3.

    Example:
        >>> import torch
        >>> latent = CategoricalLatent(groups=2, classes=3)
        >>> latent.sample(torch.zeros(6), torch.tensor([0.1, 0.9]))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """

    def __init__(self, groups: int = 32, classes: int = 64, unimix: float = 0.01) -> None:
        super().__init__()
        if not 0 <= unimix <= 1:
            raise ValueError(f"unimix must be in [0, 1]; got {unimix}.")
        self.groups, self.classes, self.unimix = groups, classes, unimix
        self.params, self.shape, self.noise_shape = groups * classes, (groups, classes), (groups,)

    def noise_spec(self) -> TensorSpec:
        """Uniform noise in [0, 1), one number a group."""
        return Bounded(0.0, 1.0, shape=torch.Size(self.noise_shape))

    @property
    def can_scan(self) -> bool:
        """Yes."""
        return True

    def scan(self, raw: Tensor, noise: Tensor | None, stoch: Tensor) -> LatentScan:
        """This latent unrolled over time: ``raw [T, B, params]``, ``stoch [T, B, S]``."""
        return _CategoricalScan(self, raw, noise, stoch)

    def logits(self, raw: Tensor) -> Tensor:
        """``[*B, params]`` to normalised log probabilities after mixing, ``[*B, groups, classes]``."""
        return unimix_log_probs(raw.unflatten(-1, self.shape), self.unimix)

    def sample(self, raw: Tensor, noise: Tensor | None) -> Tensor:
        """``[*B, params]`` and uniform noise ``[*B, groups]`` (None: the mode) to one-hot ``[*B, groups, classes]``."""
        probs = unimix_probs(raw.unflatten(-1, self.shape), self.unimix)
        value = probs.detach()
        hard = mode_one_hot(value) if noise is None else inverse_cdf_one_hot(value, noise)
        return straight_through(hard, probs)

    def mode(self, raw: Tensor) -> Tensor:
        """``[*B, params]`` to the most likely one-hot vectors, with the gradient of the mixed log probabilities.

        Not that of the probabilities, which samples have: so it is in the code of the first DreamerV3.
        """
        logits = self.logits(raw)
        return straight_through(mode_one_hot(logits.detach()), logits)

    def kl(self, raw_p: Tensor, raw_q: Tensor) -> Tensor:
        """KL of the mixed distributions of two ``[*B, params]``, summed over groups: ``[*B]``."""
        return categorical_kl(self.logits(raw_p), self.logits(raw_q)).sum(-1)

    def entropy(self, raw: Tensor) -> Tensor:
        """Entropy of the mixed distribution of ``[*B, params]``, summed over groups: ``[*B]``."""
        return categorical_entropy(self.logits(raw)).sum(-1)

    def extra_repr(self) -> str:
        """Sizes and options."""
        return f"groups={self.groups}, classes={self.classes}, unimix={self.unimix}"


class _CategoricalScan(LatentScan):
    """Samples of a categorical latent, unrolled over time.

    With ``e = exp(raw - max)`` a class k is passed over if its mixed cumulative probability is at most the noise u:
    ``(1 - m) sum_{i<=k} e_i / sum_i e_i + m (k + 1) / K <= u``, solved here for the sum over i up to k.
    """

    def __init__(self, latent: CategoricalLatent, raw: Tensor, noise: Tensor | None, stoch: Tensor) -> None:
        self.learned_share, self.noise = 1.0 - latent.unimix, noise
        raw, stoch = raw.unflatten(-1, latent.shape), stoch.unflatten(-1, latent.shape)
        self.probs = torch.empty_like(raw)
        self.steps = list(zip(raw.unbind(), self.probs.unbind(), stoch.unbind(), strict=True))
        if noise is not None:
            floor = torch.arange(1, latent.classes, device=raw.device) * (latent.unimix / latent.classes)
            threshold = (noise.unsqueeze(-1) - floor) / max(self.learned_share, 1e-9)
            self.thresholds = threshold.to(raw.dtype).unbind()
            edges = raw.new_ones(*noise.shape[1:], latent.classes + 1)
            edges[..., -1] = 0.0
            self.lower, self.inner, self.upper = edges[..., :-1], edges[..., 1:-1], edges[..., 1:]

    def forward(self, t: int) -> None:
        raw, probs, stoch = self.steps[t]
        if self.noise is None:
            torch.softmax(raw, -1, out=probs)
            stoch.zero_().scatter_(-1, raw.argmax(-1, keepdim=True), 1.0)
            return
        density = (raw - raw.amax(-1, keepdim=True)).exp_()
        mass = density.cumsum(-1)
        total = mass[..., -1:]
        torch.div(density, total, out=probs)
        torch.le(mass[..., :-1], self.thresholds[t] * total, out=self.inner)
        torch.sub(self.lower, self.upper, out=stoch)

    def prepare_backward(self) -> None:
        pass

    def backward(self, t: int, grad: Tensor, raw_grad: Tensor) -> Tensor:
        _, probs, _ = self.steps[t]
        weighted = probs * grad.view_as(probs)
        weighted.addcmul_(probs, weighted.sum(-1, keepdim=True), value=-1.0)
        return torch.add(raw_grad, weighted.flatten(-2), alpha=self.learned_share)
