"""A distribution over sequences of actions, from which a search draws its candidates."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.agents.planners.plan import Params
from wmcomponents.world_model import Noise

Bound = float | Tensor
"""Of every number of an action, or of each, ``[A]``."""


class Proposal(ABC):
    """A search distribution: pure functions of its parameters and of noise."""

    @abstractmethod
    def begin(self, center: Tensor) -> Params:
        """The distribution before the first iteration, around a sequence ``[*B, H, A]``."""

    @abstractmethod
    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """Noise for :meth:`sample`, ``[*batch_size, ...]``, the last of whose dims are the candidates'."""

    @abstractmethod
    def sample(self, params: Params, noise: Noise) -> Tensor:
        """Candidates ``[*B, N, H, A]`` as a function of noise."""

    @abstractmethod
    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """The distribution of elites ``[*B, K, H, A]`` with weights ``[*B, K]``."""


class Unfitted(Proposal):
    """Another proposal that stays as it begins, whatever the elites: random shooting.

    Args:
        proposal: gives the candidates.
    """

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal

    def begin(self, center: Tensor) -> Params:
        """As the proposal."""
        return self.proposal.begin(center)

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """As the proposal."""
        return self.proposal.draw(batch_size, horizon, size, generator)

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """As the proposal."""
        return self.proposal.sample(params, noise)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """The same."""
        return params


class MeanFirst(Proposal):
    """Another proposal whose first candidate is its mean: DINO-WM's, LeWorldModel's and PLDM's.

    Args:
        proposal: gives the other candidates; of numbers.
    """

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal

    def begin(self, center: Tensor) -> Params:
        """As the proposal."""
        return self.proposal.begin(center)

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """As the proposal, which draws for the first one too."""
        return self.proposal.draw(batch_size, horizon, size, generator)

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """The mean, and all candidates but the first."""
        return torch.cat([params["mean"].unsqueeze(-3), self.proposal.sample(params, noise)[..., 1:, :, :]], -3)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """As the proposal."""
        return self.proposal.fit(params, elites, weights)


class HeldEntries(Proposal):
    """Another proposal, some of whose numbers are held at a value in all candidates.

    Args:
        proposal: gives the other numbers.
        held: the values, and not a number (NaN) where nothing is held, ``[A]`` or ``[H, A]``.
    """

    def __init__(self, proposal: Proposal, held: Tensor) -> None:
        self.proposal, self.held = proposal, held

    def begin(self, center: Tensor) -> Params:
        """As the proposal."""
        return self.proposal.begin(center)

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """As the proposal, for the numbers that are held too."""
        return self.proposal.draw(batch_size, horizon, size, generator)

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """Candidates, with the values that are held in them."""
        candidates = self.proposal.sample(params, noise)
        held = self.held.to(candidates)
        return torch.where(held.isnan(), candidates, held)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """As the proposal."""
        return self.proposal.fit(params, elites, weights)


class Uniform(Proposal):
    """Every action alike, everywhere between the bounds.

    Args:
        low: lower bound.
        high: upper bound.
    """

    def __init__(self, low: Bound = -1.0, high: Bound = 1.0) -> None:
        self.low, self.high = low, high

    def begin(self, center: Tensor) -> Params:
        """The center is not used."""
        return {"mean": center}

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """``z``, uniform in [0, 1), ``[*batch_size, H, A]``."""
        return {"z": torch.rand(*batch_size, horizon, size, generator=generator, device=generator.device)}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """Candidates between the bounds."""
        return self.low + (self.high - self.low) * noise["z"]

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """The same."""
        return params


def of_each(number: Bound, like: Tensor) -> Bound:
    """A number of all entries, or of each, where it is to meet actions ``[..., A]``."""
    return number.to(like) if isinstance(number, Tensor) else number


def weighted_mean(elites: Tensor, weights: Tensor) -> Tensor:
    """Mean ``[*B, H, A]`` of elites ``[*B, K, H, A]`` whose weights ``[*B, K]`` sum to 1."""
    return (weights[..., None, None] * elites).sum(-3)


def weighted_variance(elites: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """Variance ``[*B, H, A]`` around a mean, of the elites as the whole population."""
    return (weights[..., None, None] * (elites - mean.unsqueeze(-3)).square()).sum(-3)


def unbiased_variance(elites: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """Variance ``[*B, H, A]`` of the population that the elites are a sample of; with equal weights, over K - 1."""
    rest = 1.0 - weights.square().sum(-1)
    return weighted_variance(elites, weights, mean) / rest[..., None, None]


def within(actions: Tensor, low: Bound, high: Bound) -> Tensor:
    """Actions ``[..., A]`` clipped to their bounds."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        low, high = torch.as_tensor(low).to(actions), torch.as_tensor(high).to(actions)
    return torch.clamp(actions, low, high)  # pyright: ignore[reportArgumentType,reportCallIssue]
