"""Stochastic parts of a state: how raw network outputs become a distribution, a sample, a divergence."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchrl.data import Bounded, Unbounded
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.dynamics.rssm.scan import LatentScan
from wmcomponents.functional import (
    categorical_entropy,
    categorical_kl,
    gaussian_entropy,
    gaussian_kl,
    inverse_cdf_one_hot,
    mode_one_hot,
    straight_through,
    unimix_log_probs,
    unimix_probs,
)


class Latent(nn.Module, ABC):
    """A family of distributions over the stochastic state, indexed by raw network outputs ``[*B, params]``.

    Attributes:
        params: how many raw numbers describe one distribution.
        shape: shape of one sample.
        size: number of elements of one sample.
        noise_shape: shape of the base noise that one sample consumes.
    """

    params: int
    shape: tuple[int, ...]
    noise_shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return torch.Size(self.shape).numel()

    @abstractmethod
    def noise_spec(self) -> TensorSpec:
        """The base noise of one sample: ``Bounded(0, 1)`` for uniform, ``Unbounded`` for standard normal."""

    def scan(self, raw: Tensor, noise: Tensor | None, stoch: Tensor) -> LatentScan:
        """This latent unrolled over time on the given buffers, ``[T, B, ...]``; only asked where :attr:`can_scan`."""
        raise NotImplementedError(f"{type(self).__name__} offers no scan.")

    @property
    def can_scan(self) -> bool:
        """Whether :meth:`scan` is there; a latent without is differentiated by autograd."""
        return False

    @abstractmethod
    def sample(self, raw: Tensor, noise: Tensor | None) -> Tensor:
        """``[*B, params]`` and noise ``[*B, *noise_shape]`` (None: the mode) to a differentiable ``[*B, *shape]``."""

    def mode(self, raw: Tensor) -> Tensor:
        """``[*B, params]`` to the most likely ``[*B, *shape]``, with the gradient of a learned initial state."""
        return self.sample(raw, None)

    @abstractmethod
    def kl(self, raw_p: Tensor, raw_q: Tensor) -> Tensor:
        """KL(p || q) in nats of two ``[*B, params]``, summed over the whole variable: ``[*B]``."""

    @abstractmethod
    def entropy(self, raw: Tensor) -> Tensor:
        """Entropy in nats of ``[*B, params]``, summed over the whole variable: ``[*B]``."""


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


class StdParameter(nn.Module, ABC):
    """How a raw number becomes a standard deviation."""

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        """Raw numbers ``[*B]`` to positive ones ``[*B]``, elementwise, as a new tensor."""

    @abstractmethod
    def derivative(self, raw: Tensor) -> Tensor:
        """The derivative of :meth:`forward` in ``raw`` ``[*B]``, elementwise, as a new tensor ``[*B]``."""


class SoftplusStd(StdParameter):
    """``log(1 + exp(s))``: PlaNet, Dreamer V1."""

    def forward(self, raw: Tensor) -> Tensor:
        """``[*B]`` to positive numbers ``[*B]``, elementwise."""
        return F.softplus(raw)

    def derivative(self, raw: Tensor) -> Tensor:
        """``[*B]`` to the derivative there, ``[*B]``."""
        return torch.sigmoid(raw)


class SigmoidStd(StdParameter):
    """``2 sigmoid(s / 2)``, at most 2: Dreamer V2, DreamerV3 of 2023."""

    def forward(self, raw: Tensor) -> Tensor:
        """``[*B]`` to positive numbers ``[*B]``, elementwise."""
        return 2.0 * torch.sigmoid(0.5 * raw)

    def derivative(self, raw: Tensor) -> Tensor:
        """``[*B]`` to the derivative there, ``[*B]``."""
        half = torch.sigmoid(0.5 * raw)
        return half * (1.0 - half)


class GaussianLatent(Latent):
    """A diagonal Gaussian: ``raw`` is [mean, s] with standard deviation ``std(s) + min_std``.

    Args:
        size: number of dimensions.
        min_std: smallest standard deviation.
        std: from s to the standard deviation above ``min_std``; :class:`SoftplusStd` if not given.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019), section 3.

    Example:
        >>> import torch
        >>> GaussianLatent(2).sample(torch.tensor([1.0, 2.0, 0.0, 0.0]), None)
        tensor([1., 2.])
    """

    def __init__(self, size: int = 30, min_std: float = 0.1, std: StdParameter | None = None) -> None:
        super().__init__()
        self.min_std, self.std = min_std, std or SoftplusStd()
        self.params, self.shape, self.noise_shape = 2 * size, (size,), (size,)

    def noise_spec(self) -> TensorSpec:
        """Standard normal noise, one number a dimension."""
        return Unbounded(shape=torch.Size(self.noise_shape))

    @property
    def can_scan(self) -> bool:
        """Yes."""
        return True

    def scan(self, raw: Tensor, noise: Tensor | None, stoch: Tensor) -> LatentScan:
        """This latent unrolled over time: ``raw [T, B, params]``, ``stoch [T, B, S]``."""
        return _GaussianScan(self, raw, noise, stoch)

    def mean_std(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """``[*B, params]`` to mean and standard deviation, each ``[*B, size]``."""
        mean, raw_std = raw.chunk(2, -1)
        return mean, self.std(raw_std) + self.min_std

    def sample(self, raw: Tensor, noise: Tensor | None) -> Tensor:
        """``mean + std * noise`` for ``[*B, params]`` and noise ``[*B, size]``: ``[*B, size]``; None: the mean."""
        mean, std = self.mean_std(raw)
        return mean if noise is None else torch.addcmul(mean, std, noise)

    def kl(self, raw_p: Tensor, raw_q: Tensor) -> Tensor:
        """KL of two ``[*B, params]``, summed over dimensions: ``[*B]``."""
        return gaussian_kl(*self.mean_std(raw_p), *self.mean_std(raw_q))

    def entropy(self, raw: Tensor) -> Tensor:
        """Entropy of ``[*B, params]``, summed over dimensions: ``[*B]``."""
        return gaussian_entropy(self.mean_std(raw)[1])

    def extra_repr(self) -> str:
        """Sizes and options."""
        return f"size={self.shape[0]}, min_std={self.min_std}"


class _GaussianScan(LatentScan):
    """Samples of a Gaussian latent, unrolled over time."""

    def __init__(self, latent: GaussianLatent, raw: Tensor, noise: Tensor | None, stoch: Tensor) -> None:
        mean, raw_std = raw.chunk(2, -1)
        noise = torch.zeros_like(stoch) if noise is None else noise.to(raw.dtype)
        self.min_std, self.std = latent.min_std, latent.std
        self.steps = list(zip(mean, raw_std, noise, stoch, strict=True))

    def forward(self, t: int) -> None:
        mean, raw_std, noise, stoch = self.steps[t]
        torch.addcmul(mean, self.std(raw_std).add_(self.min_std), noise, out=stoch)

    def prepare_backward(self) -> None:
        pass

    def backward(self, t: int, grad: Tensor, raw_grad: Tensor) -> Tensor:
        _, raw_std, noise, _ = self.steps[t]
        return raw_grad + torch.cat([grad, self.std.derivative(raw_std).mul_(noise).mul_(grad)], -1)
