"""Mixtures of Gaussians over a latent vector: how raw network outputs become a density and a sample."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents.functional.distributions.mdn import (
    mixture_log_prob,
    sample_mixture,
    sample_vector_mixture,
    vector_mixture_log_prob,
)


class Mixture(nn.Module, ABC):
    """A family of mixtures over vectors ``[*B, size]``, indexed by raw network outputs ``[*B, params]``.

    Args:
        size: length of the vector.
        components: Gaussians in a mixture.

    Attributes:
        params: how many raw numbers describe one distribution.
        choices: how many components one sample chooses.
    """

    params: int
    choices: int

    def __init__(self, size: int, components: int = 5) -> None:
        super().__init__()
        if size < 1 or components < 1:
            raise ValueError(f"size and components are at least 1; got size={size}, components={components}.")
        self.size, self.components = size, components

    def noise_spec(self) -> Composite:
        """Base noise of one sample: ``component`` uniform ``[choices]``, ``value`` standard normal ``[size]``."""
        return Composite(component=Bounded(0.0, 1.0, shape=torch.Size((self.choices,))), value=Unbounded(self.size))

    @abstractmethod
    def unpack(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and logarithms of the standard deviations."""

    @abstractmethod
    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """Log density of ``[*B, size]`` under ``[*B, params]``, summed over the vector: ``[*B]``."""

    @abstractmethod
    def sample(self, raw: Tensor, component: Tensor | None, value: Tensor | None, temperature: float = 1.0) -> Tensor:
        """A vector ``[*B, size]`` from base noise.

        Args:
            raw: ``[*B, params]``.
            component: uniform ``[*B, choices]``; ``None``: the most likely components.
            value: standard normal ``[*B, size]``; ``None``: the mean of the chosen components.
            temperature: divides the logits; its root multiplies the spread.
        """

    def extra_repr(self) -> str:
        """Sizes."""
        return f"size={self.size}, components={self.components}"


class DimensionMixture(Mixture):
    """One mixture for every dimension, independent of the others: Ha and Schmidhuber's own code.

    ``raw`` holds for one dimension after the other ``[logits, means, log standard deviations]``.

    Args:
        size: length of the vector.
        components: Gaussians in each dimension's mixture.

    Reference: Ha and Schmidhuber, World Models (2018), appendix A.2.

    Example:
        >>> import torch
        >>> mixture = DimensionMixture(4, components=2)
        >>> mixture.params, mixture.sample(torch.zeros(24), torch.rand(4), torch.zeros(4))
        (24, tensor([0., 0., 0., 0.]))
    """

    def __init__(self, size: int, components: int = 5) -> None:
        super().__init__(size, components)
        self.params, self.choices = 3 * size * components, size

    def unpack(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means, log standard deviations, each ``[*B, size, components]``."""
        logits, mean, log_std = raw.unflatten(-1, (self.size, 3, self.components)).unbind(-2)
        return logits, mean, log_std

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """Summed over the dimensions, ``[*B]``."""
        return mixture_log_prob(*self.unpack(raw), value).sum(-1)

    def sample(self, raw: Tensor, component: Tensor | None, value: Tensor | None, temperature: float = 1.0) -> Tensor:
        """Every dimension chooses its own component."""
        return sample_mixture(*self.unpack(raw), component, value, temperature)


class VectorMixture(Mixture):
    """One mixture for the whole vector, of diagonal Gaussians: ctallec/world-models.

    ``raw`` is ``[means of component 1, 2 ..., log standard deviations likewise, logits]``.

    Args:
        size: length of the vector.
        components: Gaussians in the mixture.

    Reference: Bishop, Mixture Density Networks (1994); as used by ctallec/world-models.

    Example:
        >>> import torch
        >>> mixture = VectorMixture(4, components=2)
        >>> mixture.params, mixture.sample(torch.zeros(18), torch.rand(1), torch.zeros(4))
        (18, tensor([0., 0., 0., 0.]))
    """

    def __init__(self, size: int, components: int = 5) -> None:
        super().__init__(size, components)
        self.params, self.choices = (2 * size + 1) * components, 1

    def unpack(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[*B, components]``; means and log standard deviations ``[*B, components, size]``."""
        width = self.size * self.components
        mean, log_std, logits = raw.split([width, width, self.components], -1)
        shape = (self.components, self.size)
        return logits, mean.unflatten(-1, shape), log_std.unflatten(-1, shape)

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """Of the whole vector, ``[*B]``."""
        return vector_mixture_log_prob(*self.unpack(raw), value)

    def sample(self, raw: Tensor, component: Tensor | None, value: Tensor | None, temperature: float = 1.0) -> Tensor:
        """All dimensions come from one component."""
        chooser = None if component is None else component.squeeze(-1)
        return sample_vector_mixture(*self.unpack(raw), chooser, value, temperature)
