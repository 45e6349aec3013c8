"""What is done when a search is over."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wmcomponents.agents.search.gumbel_noise import gumbel
from wmcomponents.agents.search.tree import Tree
from wmcomponents.world_model import Noise


class Decision(NamedTuple):
    """A choice at each root.

    Attributes:
        edge: which edge, int64 ``[B]``.
        policy: what the prior is to learn from this search, ``[B, K]``.
    """

    edge: Tensor
    policy: Tensor


class FinalChoice(Protocol):
    """How a root's action is chosen."""

    def decide(self, tree: Tree, noise: Noise) -> Decision:
        """The choice at each root."""
        ...

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """The noise it reads, each ``[B, K]``."""
        ...


class VisitCounts:
    r"""Actions in proportion to their visits, :math:`N(a)^{1/T}`; the policy is the share of visits itself.

    Args:
        temperature: T; 0 takes the most visited action, the first of several. So does a search without noise.

    Reference: Schrittwieser et al., MuZero (2020), appendix D.

    Raises:
        ValueError: for a negative temperature.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature >= 0:
            raise ValueError(f"temperature is at least 0, where the most visited action is taken; got {temperature}.")
        self.temperature = temperature

    def decide(self, tree: Tree, noise: Noise) -> Decision:
        """The choice at each root; reads the noise ``choice``, Gumbel ``[B, K]``."""
        visits = tree.root(tree.edge_visits)
        policy = visits / visits.sum(1, keepdim=True)
        gumbel = noise.get("choice")
        score = visits
        if gumbel is not None and self.temperature > 0:
            score = policy.log() / self.temperature + gumbel.to(policy)
        return Decision(score.argmax(1), policy)

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """``choice``, ``[B, K]``; none where the most visited action is taken anyway."""
        return {"choice": gumbel(shape, generator)} if self.temperature > 0 else {}
