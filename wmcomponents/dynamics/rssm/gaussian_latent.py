"""A diagonal Gaussian as the sampled part of a state, and how its standard deviation is read."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchrl.data import Unbounded
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.dynamics.rssm.latent import Latent
from wmcomponents.dynamics.rssm.scan import LatentScan
from wmcomponents.functional import gaussian_entropy, gaussian_kl


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
        std: map from s to the standard deviation above ``min_std``; :class:`SoftplusStd` if not given.

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
