"""Gaussian proposals, each number of each step for itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from wmcomponents.agents.planners.plan import Params
from wmcomponents.agents.planners.proposal import (
    Bound,
    Proposal,
    of_each,
    unbiased_variance,
    weighted_mean,
    weighted_variance,
    within,
)
from wmcomponents.world_model import Noise

Spread = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A standard deviation ``[*B, H, A]`` of elites ``[*B, K, H, A]``, weights ``[*B, K]`` and mean ``[*B, H, A]``."""


def sample_std(elites: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """The unbiased one, as mbrl-lib's."""
    return unbiased_variance(elites, weights, mean).sqrt()


@dataclass(frozen=True)
class SmoothedStd:
    """The population's, never quite 0, as PlaNet's: ``sqrt(variance + epsilon)``.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-6

    def __call__(self, elites: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
        """``[*B, H, A]``."""
        return (weighted_variance(elites, weights, mean) + self.epsilon).sqrt()


@dataclass(frozen=True)
class BoundedStd:
    """The population's, between two bounds, as TD-MPC2's.

    Attributes:
        low: the smallest.
        high: the largest.
    """

    low: float
    high: float

    def __call__(self, elites: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
        """``[*B, H, A]``."""
        return weighted_variance(elites, weights, mean).sqrt().clamp(self.low, self.high)


def normal_noise(batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Tensor:
    """Standard normal numbers ``[*batch_size, H, A]``."""
    return torch.randn(*batch_size, horizon, size, generator=generator, device=generator.device)


def truncated_noise(
    batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator, limit: float = 2.0
) -> Tensor:
    """Standard normal numbers within ``±limit``, ``[*batch_size, H, A]``."""
    uniform = torch.rand(*batch_size, horizon, size, generator=generator, device=generator.device)
    low, high = ndtr(torch.tensor([-limit, limit], device=generator.device))
    return ndtri(low + uniform * (high - low)).clamp(-limit, limit)


class ClippedGaussian(Proposal):
    """A Gaussian whose samples are clipped to the bounds before they are judged, and fitted to as clipped.

    Parameters: ``mean`` and ``std``. Noise: ``z``, standard normal ``[*B, N, H, A]``.

    Args:
        init_std: standard deviation before the first iteration.
        spread: standard deviation of the elites.
        low: lower bound of actions; minus infinity for none.
        high: upper bound.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019), Algorithm 2.
    """

    def __init__(
        self, *, init_std: Bound = 1.0, spread: Spread = sample_std, low: Bound = -1.0, high: Bound = 1.0
    ) -> None:
        self.init_std, self.spread, self.low, self.high = init_std, spread, low, high

    def begin(self, center: Tensor) -> Params:
        """Around a sequence ``[*B, H, A]``."""
        return {"mean": center, "std": torch.zeros_like(center) + of_each(self.init_std, center)}

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """``z``, ``[*batch_size, H, A]``."""
        return {"z": normal_noise(batch_size, horizon, size, generator)}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """``clip(mean + std * z)``."""
        spread = params["std"].unsqueeze(-3) * noise["z"]
        return within(params["mean"].unsqueeze(-3) + spread, self.low, self.high)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """Mean and spread of the elites."""
        mean = weighted_mean(elites, weights)
        return {"mean": mean, "std": self.spread(elites, weights, mean)}


class TruncatedGaussian(Proposal):
    """A Gaussian cut off at two standard deviations, which shrinks towards the bounds so that no sample crosses them.

    Parameters: ``mean`` and ``variance``. Noise: ``z``, standard normal within ±2, ``[*B, N, H, A]``.

    Args:
        low: lower bound of actions.
        high: upper bound.

    Reference: Chua et al., Deep Reinforcement Learning in a Handful of Trials (PETS, 2018), as in mbrl-lib.
    """

    def __init__(self, *, low: Bound = -1.0, high: Bound = 1.0) -> None:
        self.low, self.high = low, high

    def begin(self, center: Tensor) -> Params:
        """Around a sequence ``[*B, H, A]``, two standard deviations to either side of the middle."""
        return {"mean": center, "variance": torch.zeros_like(center) + (self.high - self.low) ** 2 / 16}

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """``z``, ``[*batch_size, H, A]``."""
        return {"z": truncated_noise(batch_size, horizon, size, generator)}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """``mean + std * z``, the standard deviation at most half the way to a bound."""
        mean = params["mean"]
        room = torch.minimum((mean - self.low).square(), (self.high - mean).square()) / 4
        std = torch.minimum(room, params["variance"]).sqrt()
        return mean.unsqueeze(-3) + noise["z"] * std.unsqueeze(-3)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """Mean and unbiased variance of the elites."""
        mean = weighted_mean(elites, weights)
        return {"mean": mean, "variance": unbiased_variance(elites, weights, mean)}


class SmoothedGaussian(Proposal):
    r"""Candidates whose every action leans on the one before it.

    .. math:: a_0 = \beta (\mu_0 + z_0) + (1 - \beta) a_{-1}, \quad
              a_t = \beta (\mu_t + z_t) + (1 - \beta) a_{t-1}

    clipped to the bounds at the end. :math:`a_{-1}` is the first action of the sequence that the plan began with. The
    noise keeps its size: the official code computes a spread and does not use it. Parameters: ``mean`` and ``past``
    ``[*B, A]``. Noise: ``z``, standard normal within ±2, ``[*B, N, H, A]``.

    Args:
        share: beta, of the new action.
        low: lower bound of actions.
        high: upper bound.

    Reference: Nagabandi et al., Deep Dynamics Models for Learning Dexterous Manipulation (PDDM, 2019), as in mbrl-lib.
    """

    def __init__(self, share: float, *, low: Bound = -1.0, high: Bound = 1.0) -> None:
        self.share, self.low, self.high = share, low, high

    def begin(self, center: Tensor) -> Params:
        """Around a sequence ``[*B, H, A]``."""
        return {"mean": center, "past": center[..., 0, :]}

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """``z``, ``[*batch_size, H, A]``."""
        return {"z": truncated_noise(batch_size, horizon, size, generator)}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """Smoothed and clipped."""
        action, actions = params["past"].unsqueeze(-2), []
        for wanted in (params["mean"].unsqueeze(-3) + noise["z"]).unbind(-2):
            action = self.share * wanted + (1.0 - self.share) * action
            actions.append(action)
        return within(torch.stack(actions, -2), self.low, self.high)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """Mean of the elites."""
        return {**params, "mean": weighted_mean(elites, weights)}
