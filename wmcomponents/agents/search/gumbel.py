"""Gumbel MuZero: search that improves the policy with any number of simulations."""

from typing import Any, Protocol

import torch
from torch import Tensor

from wmcomponents.agents.search.bounds import TreeBounds
from wmcomponents.agents.search.scales import SoftRange
from wmcomponents.agents.search.tree import Nodes, Path, Tree


class CompletedValues(Protocol):
    """The values of all edges of a node, those never taken among them, as an addition to its logits."""

    @property
    def can_reuse(self) -> bool:
        """Whether what is kept of a tree holds for its subtrees too."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether what is known of a node decides alone what is done there."""
        ...

    def start(self, tree: Tree) -> None:
        """Before the first simulation."""
        ...

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        ...

    def __call__(self, tree: Tree, nodes: Nodes) -> Tensor:
        """sigma(completed Q) ``[..., K]`` of nodes ``[...]``."""
        ...


class SiblingCompleted:
    r"""Completed values scaled to [0, 1] at each node: :math:`(c_{visit} + \max_b N(b))\, c_{scale}\, \hat q`.

    Edges never taken have the mixed value, between the model's value of the node and the mean of the visited edges
    under the prior.

    Args:
        c_visit: visits that every edge is taken to have beside its own.
        c_scale: weight of the values; 0.1 goes with scaled ones.
        eps: least width of the scale.

    Reference: Danihelka et al., Policy improvement by planning with Gumbel (2022), appendix D; mctx.
    """

    can_reuse = True
    is_local = True

    def __init__(self, c_visit: float = 50.0, c_scale: float = 0.1, eps: float = 1e-8) -> None:
        self.c_visit, self.c_scale, self.eps = c_visit, c_scale, eps

    def start(self, tree: Tree) -> None:
        """Nothing is kept."""

    def after(self, tree: Tree, path: Path) -> None:
        """Nothing is kept."""

    def __call__(self, tree: Tree, nodes: Nodes) -> Tensor:
        """sigma(completed Q) ``[..., K]``."""
        visits, q = nodes.edge_visits, completed_values(nodes)
        low, high = q.aminmax(dim=-1, keepdim=True)
        q = (q - low) / (high - low).clamp(min=self.eps)
        return (self.c_visit + visits.amax(-1, keepdim=True)) * self.c_scale * q


class UnscaledCompleted:
    r"""Completed values as they are: :math:`\beta\, q - (1 - \kappa) \log \pi`; nearly equal values stay so.

    Scaled to [0, 1] among siblings, the better of two actions always is 1 and the other 0, by however little they
    differ, and by chance where they do not. Edges never taken have the mixed value of :class:`SiblingCompleted`.

    The improved policy is :math:`\pi^\kappa e^{\beta q}`, normalised. A policy that is improved over and over grows
    certain of the least difference where kappa is 1; else it ends at the temperature :math:`(1 - \kappa) / \beta`.
    With weights lambda of the divergence from the prior and tau of the entropy, kappa is
    :math:`\lambda / (\lambda + \tau)` and beta :math:`1 / (\lambda + \tau)`.

    Args:
        weight: beta, the inverse of a temperature in units of value.
        prior_share: kappa, of the prior's logits in those of the improved policy, in (0, 1].

    Raises:
        ValueError: if the share is outside (0, 1].

    Reference: Geist et al., A Theory of Regularized Markov Decision Processes (2019); Vieillard et al., Leverage the
    Average: an Analysis of KL Regularization in Reinforcement Learning (2020).
    """

    can_reuse = is_local = True

    def __init__(self, weight: float = 1.0, prior_share: float = 1.0) -> None:
        if not 0 < prior_share <= 1:
            raise ValueError(f"prior_share is a share of the prior's logits, in (0, 1]; got {prior_share}.")
        self.weight, self.prior_share = weight, prior_share

    def start(self, tree: Tree) -> None:
        """Nothing is kept."""

    def after(self, tree: Tree, path: Path) -> None:
        """Nothing is kept."""

    def __call__(self, tree: Tree, nodes: Nodes) -> Tensor:
        """What improves the prior's logits, ``[..., K]``."""
        values = self.weight * completed_values(nodes)
        return values if self.prior_share == 1 else values - (1 - self.prior_share) * nodes.logits


class TreeCompleted:
    """The same, scaled by the whole tree: EfficientZero V2's.

    Its mixed value takes the mean that was backed up to the node for the model's value, and counts one visit more.

    Args:
        bounds: of the tree.
        scale: by those bounds.
        c_visit: visits that every edge is taken to have beside its own.
        c_scale: weight of the values.

    Reference: Wang et al., EfficientZero V2 (2024), as its tree has it.
    """

    is_local = False

    def __init__(self, bounds: TreeBounds, scale: SoftRange, c_visit: float = 50.0, c_scale: float = 0.1) -> None:
        self.bounds, self.scale, self.c_visit, self.c_scale = bounds, scale, c_visit, c_scale
        self.can_reuse = bounds.can_reuse

    def start(self, tree: Tree) -> None:
        """An empty range."""
        self.bounds.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The range with this simulation."""
        self.bounds.after(tree, path)

    def __call__(self, tree: Tree, nodes: Nodes) -> Tensor:
        """sigma(completed Q) ``[..., K]``."""
        visits, q = nodes.edge_visits, nodes.edge_q
        taken = nodes.taken
        mixed = mixed_value(nodes.value, nodes.probs, nodes.visits, taken, q)
        q = self.scale(tree, torch.lerp(mixed.unsqueeze(-1).expand_as(q), q, taken))
        return (self.c_visit + visits.amax(-1, keepdim=True)) * self.c_scale * q


def completed_values(nodes: Nodes) -> Tensor:
    """Values of all edges of nodes, those never taken with the mixed value of the model's, ``[..., K]``."""
    q, taken = nodes.edge_q, nodes.taken
    mixed = mixed_value(nodes.raw_value, nodes.probs, nodes.edge_visits.sum(-1), taken, q)
    return torch.lerp(mixed.unsqueeze(-1).expand_as(q), q, taken)


def mixed_value(value: Tensor, probs: Tensor, count: Tensor, taken: Tensor, q: Tensor) -> Tensor:
    r"""The value that edges never taken are given, ``[...]``.

    .. math:: \frac{1}{1+N}\Big(v + N \frac{\sum_{a\,visited} \pi(a) q(a)}{\sum_{a\,visited} \pi(a)}\Big)

    Args:
        value: v, of the node, ``[...]``.
        probs: the prior, ``[..., K]``.
        count: N, ``[...]``.
        taken: 1 for its visited edges, else 0, ``[..., K]``.
        q: of its edges, ``[..., K]``; 0 where not visited.
    """
    prior = probs.clamp(min=torch.finfo(q.dtype).tiny)
    # Where nothing was visited the sum below is 0 whatever it is divided by.
    mass = (prior * taken).sum(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
    weighted = (prior * q / mass).sum(-1)
    return (value + count * weighted) / (count + 1)


class ImprovedPolicy:
    r"""Below the root: the edge that is furthest behind the improved policy.

    .. math:: \pi'(a) - \frac{N(a)}{1 + \sum_b N(b)}, \quad \pi' = softmax(logits + \sigma(\hat q))

    Args:
        completed: sigma of the completed values.
        uncounted: visits beside those of its edges that a node counts; 1 in EfficientZero V2's tree.
    """

    def __init__(self, completed: CompletedValues, uncounted: int = 0) -> None:
        self.completed, self.uncounted = completed, uncounted

    @property
    def can_reuse(self) -> bool:
        """Whether what this rule keeps of a tree holds for its subtrees too."""
        return self.completed.can_reuse

    @property
    def is_local(self) -> bool:
        """Whether what is known of a node decides alone what is done there."""
        return self.completed.is_local

    def start(self, tree: Tree) -> None:
        """Before the first simulation."""
        self.completed.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        self.completed.after(tree, path)

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[..., K]`` of nodes ``[...]``."""
        improved = (nodes.logits + self.completed(tree, nodes)).softmax(-1)
        visits = nodes.edge_visits
        return improved - visits / (1 + self.uncounted + visits.sum(-1, keepdim=True)), None
