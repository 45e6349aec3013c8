"""A proposal over choices: the cross-entropy method's categorical form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.agents.planners.plan import Params
from wmcomponents.agents.planners.proposal import Proposal, weighted_mean
from wmcomponents.functional import inverse_cdf_one_hot
from wmcomponents.world_model import Noise


class CategoricalProposal(Proposal):
    """Choices, each of each step for itself, as one-hot vectors side by side.

    Parameters: ``mean``, the probabilities. Noise: ``z``, uniform in [0, 1), ``[*B, N, H, choices]``.

    Args:
        classes: alternatives of each choice.
        floor: share of the uniform distribution that is mixed into what is fitted, so that no alternative is lost.

    Reference: Rubinstein, The Cross-Entropy Method for Combinatorial and Continuous Optimization (1999).
    """

    def __init__(self, classes: Sequence[int], floor: float = 0.02) -> None:
        self.classes, self.floor = tuple(classes), floor

    def begin(self, center: Tensor) -> Params:
        """Around probabilities ``[*B, H, A]``."""
        return {"mean": center}

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """``z``, ``[*batch_size, H, choices]``."""
        shape = (*batch_size, horizon, len(self.classes))
        return {"z": torch.rand(shape, generator=generator, device=generator.device)}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """One-hot vectors."""
        z = noise["z"]
        probs = params["mean"].unsqueeze(-3).expand(*z.shape[:-1], -1).split(self.classes, -1)
        return torch.cat([inverse_cdf_one_hot(p, u) for p, u in zip(probs, z.unbind(-1), strict=True)], -1)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """How often the elites choose each alternative."""
        even = torch.cat([elites.new_full((n,), 1.0 / n) for n in self.classes])
        return {"mean": (1.0 - self.floor) * weighted_mean(elites, weights) + self.floor * even}
