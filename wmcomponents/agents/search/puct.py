r"""Selection by an upper confidence bound with a prior (pUCT).

.. math:: \hat Q(s,a) + P(s,a) \frac{\sqrt{N(s)}}{1+N(s,a)} \Big(c_1 + \log\frac{N(s)+c_2+1}{c_2}\Big)
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from wmcomponents.agents.search.bounds import TreeBounds
from wmcomponents.agents.search.scales import ExactRange, SoftRange
from wmcomponents.agents.search.tree import Nodes, Path, Tree

Scale = ExactRange | SoftRange


class EdgeValues(Protocol):
    """What pUCT takes for the value of each edge, among them those that were never taken."""

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

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[..., K]`` of nodes ``[...]``, and what the next level is to know."""
        ...


class SiblingValues:
    """Values scaled at each node by its own mean value and those of its visited edges; unvisited ones are lowest.

    Reference: mctx, ``qtransform_by_parent_and_siblings``.
    """

    can_reuse = True
    is_local = True

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def start(self, tree: Tree) -> None:
        """Nothing is kept."""

    def after(self, tree: Tree, path: Path) -> None:
        """Nothing is kept."""

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]``."""
        q, taken, own = nodes.edge_q, nodes.taken, nodes.value.unsqueeze(-1)
        low, high = torch.lerp(own.expand_as(q), q, taken).aminmax(dim=-1, keepdim=True)
        low, high = torch.minimum(own, low), torch.maximum(own, high)
        return taken * (q - low) / (high - low).clamp(min=self.eps), None


class ZeroUnvisited:
    """Values scaled by the whole tree; an edge that was never taken has 0, whatever the scale.

    Args:
        bounds: of the tree.
        scale: by those bounds.

    Reference: Schrittwieser et al., MuZero (2020), pseudocode.
    """

    is_local = False

    def __init__(self, bounds: TreeBounds, scale: Scale) -> None:
        self.bounds, self.scale = bounds, scale
        self.can_reuse = bounds.can_reuse

    def start(self, tree: Tree) -> None:
        """An empty range."""
        self.bounds.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The range with this simulation."""
        self.bounds.after(tree, path)

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]``."""
        return nodes.taken * self.scale(tree, nodes.edge_q), None


class MeanUnvisited:
    """Values scaled by the whole tree; an edge that was never taken has the mean of its siblings that were.

    At the root that is the plain mean; further down the mean of the level above counts as one sibling more.

    Args:
        bounds: of the tree.
        scale: by those bounds.

    Reference: Ye et al., EfficientZero (2021), appendix; LightZero.
    """

    is_local = False

    def __init__(self, bounds: TreeBounds, scale: Scale) -> None:
        self.bounds, self.scale = bounds, scale
        self.can_reuse = bounds.can_reuse

    def start(self, tree: Tree) -> None:
        """An empty range."""
        self.bounds.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The range with this simulation."""
        self.bounds.after(tree, path)

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scaled values ``[B, K]``, and the mean ``[B, 1]`` for the level below."""
        taken, q = nodes.taken, nodes.edge_q  # 0 where never taken
        if carry is not None and tree.has_players:
            carry = torch.where(nodes.discount.unsqueeze(1) < 0, -carry, carry)
        total, count = q.sum(1, keepdim=True), taken.sum(1, keepdim=True)
        mean = total / count.clamp(min=1) if carry is None else (carry + total) / (count + 1)
        return self.scale(tree, torch.lerp(mean.expand_as(q), q, taken)), mean


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

    @property
    def is_local(self) -> bool:
        """Whether what is known of a node decides alone what is done there."""
        return self.values.is_local

    def start(self, tree: Tree) -> None:
        """Before the first simulation."""
        self.values.start(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        self.values.after(tree, path)

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[..., K]`` of nodes ``[...]``."""
        value, carry = self.values(tree, nodes, carry)
        count = nodes.visits - self.uncounted if self.uncounted else nodes.visits
        weight = (((count + (self.c_base + 1)) / self.c_base).log() + self.c_init) * count.sqrt()
        prior = nodes.probs * (weight.unsqueeze(-1) / (1 + nodes.edge_visits))
        return value + prior, carry
