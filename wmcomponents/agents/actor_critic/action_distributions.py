"""What an actor's raw outputs mean: distributions over an action's vector, sampled from given noise."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional import (
    categorical_entropy,
    categorical_log_prob,
    gaussian_entropy,
    gaussian_log_prob,
    inverse_cdf_one_hot,
    mode_one_hot,
    straight_through,
    unimix_log_probs,
    unimix_probs,
)
from wmcomponents.functional.distributions.bounded_normal import bounded_normal
from wmcomponents.functional.distributions.tanh_normal import (
    tanh_normal,
    tanh_normal_entropy,
    tanh_normal_log_prob,
    tanh_normal_sample,
)
from wmcomponents.functional.distributions.truncated_normal import (
    truncated_normal,
    truncated_normal_entropy,
    truncated_normal_log_prob,
    truncated_normal_mode,
    truncated_normal_sample,
)


class ActionDistribution(nn.Module, ABC):
    """Raw outputs ``[*B, params]`` as a distribution over an action's vector ``[*B, A]``.

    Samples are functions of noise, so that a dream can be repeated and differentiated.

    Args:
        params: number of raw outputs.
        noise_size: numbers of noise that a sample consumes.
        noise_kind: ``"uniform"`` in [0, 1), or ``"normal"``.
    """

    def __init__(self, params: int, noise_size: int, noise_kind: Literal["uniform", "normal"]) -> None:
        super().__init__()
        self.params, self.noise_size, self.noise_kind = params, noise_size, noise_kind

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Noise for :meth:`sample`, ``[*batch_size, noise_size]``, on the generator's device."""
        draw = torch.rand if self.noise_kind == "uniform" else torch.randn
        return draw(*batch_size, self.noise_size, generator=generator, device=generator.device)

    @abstractmethod
    def sample(self, raw: Float[Tensor, "*batch p"], noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch a"]:
        """A random action, differentiable in the raw outputs (straight through for choices)."""

    @abstractmethod
    def mode(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch a"]:
        """The action that is taken where nothing is random."""

    @abstractmethod
    def log_prob(self, raw: Float[Tensor, "*batch p"], action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Log probability or log density of an action."""

    @abstractmethod
    def entropy(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch"]:
        """Entropy in nats."""


class CategoricalActions(ActionDistribution):
    """One or more choices, as one-hot vectors side by side.

    Args:
        classes: alternatives of each choice.
        unimix: share of the uniform distribution in each: 0.01 in DreamerV3's paper, none in its code of today, none in
            Dreamer and DreamerV2.

    Example:
        >>> actions = CategoricalActions([3])
        >>> actions.mode(torch.tensor([0.0, 2.0, 1.0]))
        tensor([0., 1., 0.])
    """

    def __init__(self, classes: Sequence[int], unimix: float = 0.0) -> None:
        super().__init__(sum(classes), len(classes), "uniform")
        self.classes, self.unimix = tuple(classes), unimix

    def sample(self, raw: Float[Tensor, "*batch p"], noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch a"]:
        """One-hot choices, with the gradient of their probabilities."""
        parts = []
        for logits, place in zip(raw.split(self.classes, -1), noise.unbind(-1), strict=True):
            probs = unimix_probs(logits, self.unimix)
            parts.append(straight_through(inverse_cdf_one_hot(probs, place), probs))
        return torch.cat(parts, -1)

    def mode(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch a"]:
        """The likeliest alternatives, with the gradient of their probabilities."""
        probs = [unimix_probs(logits, self.unimix) for logits in raw.split(self.classes, -1)]
        return torch.cat([straight_through(mode_one_hot(each), each) for each in probs], -1)

    def log_prob(self, raw: Float[Tensor, "*batch p"], action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Summed over choices."""
        pairs = zip(self._log_probs(raw), action.split(self.classes, -1), strict=True)
        return torch.stack([categorical_log_prob(log_probs, chosen) for log_probs, chosen in pairs]).sum(0)

    def entropy(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch"]:
        """Summed over choices."""
        return torch.stack([categorical_entropy(log_probs) for log_probs in self._log_probs(raw)]).sum(0)

    def _log_probs(self, raw: Tensor) -> list[Tensor]:
        return [unimix_log_probs(logits, self.unimix) for logits in raw.split(self.classes, -1)]


class _Numbers(ActionDistribution):
    """Base of distributions over numbers: the first half of the raw outputs is the mean's, the rest the spread's."""

    def __init__(self, size: int, noise_kind: Literal["uniform", "normal"]) -> None:
        super().__init__(2 * size, size, noise_kind)
        self.size = size


class BoundedNormalActions(_Numbers):
    """DreamerV3's: a normal whose mean lies in [-1, 1]; samples may leave it, and the environment clips them.

    Args:
        size: numbers in an action.
        min_std: smallest standard deviation.
        max_std: largest.
    """

    def __init__(self, size: int, min_std: float = 0.1, max_std: float = 1.0) -> None:
        super().__init__(size, "normal")
        self.min_std, self.max_std = min_std, max_std

    def parameters_of(self, raw: Float[Tensor, "*batch p"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``[*B, A]``."""
        mean, std = raw.split(self.size, -1)
        return bounded_normal(mean, std, self.min_std, self.max_std)

    def sample(self, raw: Float[Tensor, "*batch p"], noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch a"]:
        """``mean + std * noise``."""
        mean, std = self.parameters_of(raw)
        return torch.addcmul(mean, std, noise)

    def mode(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch a"]:
        """The mean."""
        return self.parameters_of(raw)[0]

    def log_prob(self, raw: Float[Tensor, "*batch p"], action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Summed over numbers."""
        mean, std = self.parameters_of(raw)
        return gaussian_log_prob(action, mean, std)

    def entropy(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch"]:
        """Summed over numbers."""
        return gaussian_entropy(self.parameters_of(raw)[1])


class TanhNormalActions(_Numbers):
    """Dreamer's: a normal squashed into (-1, 1) by tanh.

    Its entropy, which Dreamer does not reward, is that of the squashed action: the normal's own grows for ever with its
    spread, until every action lies at an end and no gradient comes back.

    Args:
        size: numbers in an action.
        init_std: standard deviation before the squashing where the raw output is 0.
    """

    def __init__(self, size: int, init_std: float = 5.0) -> None:
        super().__init__(size, "normal")
        self.init_std = init_std

    def parameters_of(self, raw: Float[Tensor, "*batch p"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation before the squashing, each ``[*B, A]``."""
        mean, std = raw.split(self.size, -1)
        return tanh_normal(mean, std, self.init_std)

    def sample(self, raw: Float[Tensor, "*batch p"], noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch a"]:
        """``tanh(mean + std * noise)``."""
        return tanh_normal_sample(*self.parameters_of(raw), noise)

    def mode(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch a"]:
        """The squashed mean (Dreamer's code takes the likeliest of 100 samples)."""
        return self.parameters_of(raw)[0].tanh()

    def log_prob(self, raw: Float[Tensor, "*batch p"], action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Summed over numbers."""
        return tanh_normal_log_prob(action, *self.parameters_of(raw))

    def entropy(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch"]:
        """Summed over numbers, by quadrature."""
        return tanh_normal_entropy(*self.parameters_of(raw))


class TruncatedNormalActions(_Numbers):
    """DreamerV2's: a normal cut off at -1 and 1.

    Args:
        size: numbers in an action.
        min_std: smallest scale.
    """

    def __init__(self, size: int, min_std: float = 0.1) -> None:
        super().__init__(size, "uniform")
        self.min_std = min_std

    def parameters_of(self, raw: Float[Tensor, "*batch p"]) -> tuple[Tensor, Tensor]:
        """Location and scale, each ``[*B, A]``."""
        loc, scale = raw.split(self.size, -1)
        return truncated_normal(loc, scale, self.min_std)

    def sample(self, raw: Float[Tensor, "*batch p"], noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch a"]:
        """The quantile that the noise names."""
        return truncated_normal_sample(*self.parameters_of(raw), noise)

    def mode(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch a"]:
        """The location."""
        return truncated_normal_mode(*self.parameters_of(raw))

    def log_prob(self, raw: Float[Tensor, "*batch p"], action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Summed over numbers."""
        return truncated_normal_log_prob(action, *self.parameters_of(raw)).sum(-1)

    def entropy(self, raw: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch"]:
        """Summed over numbers."""
        return truncated_normal_entropy(*self.parameters_of(raw)).sum(-1)
