"""The sampled part of a state: how raw network outputs become a distribution, a sample, a divergence."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.dynamics.rssm.scan import LatentScan


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
