r"""Selection by an upper confidence bound with a prior (pUCT).

.. math:: \hat Q(s,a) + P(s,a) \frac{\sqrt{N(s)}}{1+N(s,a)} \Big(c_1 + \log\frac{N(s)+c_2+1}{c_2}\Big)
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from wmcomponents.agents.search.bounds import TreeBounds
from wmcomponents.agents.search.scales import ExactRange, SoftRange
from wmcomponents.agents.search.tree import Path, Tree

Scale = ExactRange | SoftRange


class EdgeValues(Protocol):
    """What pUCT takes for the value of each edge, among them those that were never taken."""

    @property
    def can_reuse(self) -> bool:
        """Whether what is kept of a tree holds for its subtrees too."""
        ...

    def start(self, tree: Tree) -> None:
        """Before the first simulation."""
        ...

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        ...

    def __call__(self, tree: Tree, node: Tensor, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]`` at nodes ``[B]``, and what the next level is to know."""
        ...


class SiblingValues:
    """Values scaled at each node by its own mean value and those of its visited edges; unvisited ones are lowest.

    Reference: mctx, ``qtransform_by_parent_and_siblings``.
    """

    can_reuse = True

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def start(self, tree: Tree) -> None:
        """Nothing is kept."""

    def after(self, tree: Tree, path: Path) -> None:
        """Nothing is kept."""

    def __call__(self, tree: Tree, node: Tensor, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]``."""
        is_visited = tree.at(tree.edge_visits, node) > 0
        q, own = tree.at(tree.edge_q, node), tree.value(node).unsqueeze(1)
        safe = torch.where(is_visited, q, own)
        low = torch.minimum(own, safe.amin(1, keepdim=True))
        high = torch.maximum(own, safe.amax(1, keepdim=True))
        return (torch.where(is_visited, q, low) - low) / (high - low).clamp(min=self.eps), None


class ZeroUnvisited:
    """Values scaled by the whole tree; an edge that was never taken has 0, whatever the scale.

    Args:
        bounds: of the tree.
        scale: by those bounds.

    Reference: Schrittwieser et al., MuZero (2020), pseudocode.
    """

    def __init__(self, bounds: TreeBounds, scale: Scale) -> None:
        self.bounds, self.scale = bounds, scale
        self.can_reuse = bounds.can_reuse

    def start(self, tree: Tree) -> None:
        """An empty range."""
        self.bounds.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The range with this simulation."""
        self.bounds.after(tree, path)

    def __call__(self, tree: Tree, node: Tensor, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]``."""
        is_visited = tree.at(tree.edge_visits, node) > 0
        return torch.where(is_visited, self.scale(tree, tree.at(tree.edge_q, node)), 0.0), None


class MeanUnvisited:
    """Values scaled by the whole tree; an edge that was never taken has the mean of its siblings that were.

    At the root that is the plain mean; further down the mean of the level above counts as one sibling more.

    Args:
        bounds: of the tree.
        scale: by those bounds.

    Reference: Ye et al., EfficientZero (2021), appendix; LightZero.
    """

    def __init__(self, bounds: TreeBounds, scale: Scale) -> None:
        self.bounds, self.scale = bounds, scale
        self.can_reuse = bounds.can_reuse

    def start(self, tree: Tree) -> None:
        """An empty range."""
        self.bounds.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The range with this simulation."""
        self.bounds.after(tree, path)

    def __call__(self, tree: Tree, node: Tensor, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]``, and the mean ``[B, 1]`` for the level below."""
        is_visited = tree.at(tree.edge_visits, node) > 0
        q = tree.at(tree.edge_q, node)  # 0 where never taken
        if carry is not None and tree.has_players:
            carry = torch.where(tree.at(tree.discount, node).unsqueeze(1) < 0, -carry, carry)
        total, count = q.sum(1, keepdim=True), is_visited.sum(1, keepdim=True)
        mean = total / count.clamp(min=1) if carry is None else (carry + total) / (count + 1)
        return self.scale(tree, torch.where(is_visited, q, mean)), mean


class PUCT:
    """The edge with the highest upper confidence bound.

    Args:
        values: of the edges, scaled.
        c_init: weight of the prior, c1.
        c_base: visits over which that weight grows, c2.
        uncounted: visits of a node that do not count as its own: EfficientZero's tree leaves out the first, so that
            all edges of a node are level at its first choice.
    """

    def __init__(self, values: EdgeValues, c_init: float = 1.25, c_base: float = 19652.0, uncounted: int = 0) -> None:
        self.values, self.c_init, self.c_base, self.uncounted = values, c_init, c_base, uncounted

    @property
    def can_reuse(self) -> bool:
        """Whether what this rule keeps of a tree holds for its subtrees too."""
        return self.values.can_reuse

    def start(self, tree: Tree) -> None:
        """Before the first simulation."""
        self.values.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        self.values.after(tree, path)

    def __call__(self, tree: Tree, node: Tensor, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[B, K]`` at nodes ``[B]``."""
        value, carry = self.values(tree, node, carry)
        count = tree.at(tree.visits, node) - self.uncounted
        weight = (((count + (self.c_base + 1)) / self.c_base).log() + self.c_init) * count.sqrt()
        prior = tree.at(tree.probs, node) * (weight.unsqueeze(1) / (1 + tree.at(tree.edge_visits, node)))
        return value + prior, carry
