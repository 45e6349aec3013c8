"""The range of action values that a whole tree has seen, which brings values of any scale to [0, 1]."""

from typing import Protocol

import torch
from torch import Tensor

from wmcomponents.agents.search.tree import DISCOUNT, REWARD, ROOT, VALUE_SUM, VISITS, Path, Tree

LOW, HIGH = "lowest_q", "highest_q"


class TreeBounds(Protocol):
    """What the lowest and the highest action value of a tree are taken over.

    Implementations keep them in the tree's ``extra`` under ``lowest_q`` and ``highest_q``, ``[B]``.
    """

    @property
    def can_reuse(self) -> bool:
        """Whether what is kept of a tree holds for its subtrees too."""
        ...

    def start(self, tree: Tree) -> None:
        """Before the first simulation: nothing was seen."""
        ...

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        ...


class PathBounds:
    """Over the mean action values along every path that was backed up, the root's own among them.

    The root has no edge into it: its reward is 0. The range only grows.

    Reference: Schrittwieser et al., MuZero (2020), appendix B, as muzero-general and LightZero have it.
    """

    can_reuse = True

    def start(self, tree: Tree) -> None:
        """An empty range."""
        empty_range(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The path's edges with their new means, and the root."""
        behind = tree.at(tree.node_stats, path.child)
        seen = behind[..., REWARD] + behind[..., DISCOUNT] * _mean(behind)
        root = tree.root(tree.reward) + tree.root(tree.discount) * tree.root_value
        widen(tree, torch.cat([seen, root.unsqueeze(0)]))


class ReturnBounds:
    """Over the returns that were backed up along every path, not their means, the root's own among them.

    Reference: Wang et al., EfficientZero V2 (2024), as its tree has it.
    """

    can_reuse = True

    def start(self, tree: Tree) -> None:
        """An empty range."""
        empty_range(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The path's edges with the return of this simulation, and the root."""
        arrivals = torch.cat([path.returns[1:], path.leaf_value.unsqueeze(0)])
        following = torch.where(_goes_on(path), arrivals, path.leaf_value)
        behind = tree.at(tree.node_stats, path.child)
        seen = behind[..., REWARD] + behind[..., DISCOUNT] * following
        root = tree.root(tree.reward) + tree.root(tree.discount) * path.returns[0]
        widen(tree, torch.cat([seen, root.unsqueeze(0)]))


class UncorrectedPrefixBounds:
    """Over what LightZero's tree of value prefixes takes for the rewards: differences of prefixes, resets unheeded.

    Below a node where the prefix began anew, the difference to the prefix before is not the reward. LightZero's tree
    corrects this when it backs values up, and looks at the range before the correction. Elsewhere this is
    :class:`PathBounds`, which is what the paper means.

    Args:
        horizon: steps between two resets of the value prefix.
    """

    can_reuse = False

    def __init__(self, horizon: int = 5) -> None:
        self.horizon = horizon

    def start(self, tree: Tree) -> None:
        """An empty range, and a prefix of 0 at the root."""
        empty_range(tree)
        start_prefixes(tree)

    def after(self, tree: Tree, path: Path) -> None:
        """The path's edges with their new means, and the root."""
        set_prefix(tree, path.leaf, self.horizon)
        prefix = tree.extra[PREFIX]
        difference = tree.at(prefix, path.child) - tree.at(prefix, path.node)
        behind = tree.at(tree.node_stats, path.child)
        seen = difference + behind[..., DISCOUNT] * _mean(behind)
        root = tree.root(tree.reward) + tree.root(tree.discount) * tree.root_value
        widen(tree, torch.cat([seen, root.unsqueeze(0)]))


class RebuiltPrefixBounds:
    """Over all edges of the tree as they are now, with the rewards that EfficientZero's own walk gives them.

    The walk goes down from the root, the last action first, and subtracts from each node's value prefix that of the
    node it came by before, which is the parent only where that was the one before. So the range depends on the order.
    Elsewhere this is the range of the present action values, which is what the paper means.

    Args:
        horizon: steps between two resets of the value prefix.
    """

    can_reuse = False

    def __init__(self, horizon: int = 5) -> None:
        self.horizon = horizon

    def start(self, tree: Tree) -> None:
        """An empty range, a prefix of 0 at the root, and a walk that has only the root."""
        empty_range(tree)
        start_prefixes(tree)
        tree.extra[WALK] = torch.zeros_like(tree.parent)
        tree.extra[WALK_LENGTH] = torch.ones_like(tree.size)

    def after(self, tree: Tree, path: Path) -> None:
        """All edges, along the walk."""
        set_prefix(tree, path.leaf, self.horizon)
        self._take_in(tree, path.leaf - tree.rows)
        walk, length = tree.extra[WALK], tree.extra[WALK_LENGTH]
        node, before = walk[:, 1:], walk[:, :-1]
        prefix, depth = tree.extra[PREFIX], tree.depth
        reset = is_reset(depth.gather(1, before), self.horizon)
        reward = prefix.gather(1, node) - torch.where(reset, 0.0, prefix.gather(1, before))
        mean = tree.value_sum / tree.visits.clamp(min=1)
        seen = reward + (tree.discount * mean).gather(1, node)
        is_there = torch.arange(1, tree.nodes, device=node.device) < length.unsqueeze(1)
        tree.extra[LOW] = torch.where(is_there, seen, torch.inf).amin(1)
        tree.extra[HIGH] = torch.where(is_there, seen, -torch.inf).amax(1)

    def _take_in(self, tree: Tree, leaf: Tensor) -> None:
        """Put a new leaf into the walk: before its sibling of the next smaller action, or after its parent's last."""
        walk, length = tree.extra[WALK], tree.extra[WALK_LENGTH]
        is_new = leaf == length  # nodes are numbered as they come; a leaf revisited at the depth limit is there already
        places = torch.arange(tree.nodes, device=leaf.device)
        position = torch.zeros_like(walk).scatter(1, walk, places.expand_as(walk).where(places < length[:, None], 0))
        place = tree.rows + leaf
        parent, action = tree.at(tree.parent, place), tree.at(tree.parent_action, place)
        siblings = tree.at(tree.children, tree.rows + parent)
        edges = torch.arange(tree.edges, device=leaf.device)
        is_smaller = (siblings >= 0) & (edges < action.unsqueeze(1))
        nearest = torch.where(is_smaller, edges, -1).amax(1)
        sibling = siblings.gather(1, nearest.clamp(min=0).unsqueeze(1)).squeeze(1)
        at_sibling = position.gather(1, sibling.clamp(min=0).unsqueeze(1)).squeeze(1)
        # Below the parent, the walk has as many nodes as are below it, itself among them.
        at_parent = position.gather(1, parent.unsqueeze(1)).squeeze(1)
        end = at_parent + 1 + self._below(tree, walk, at_parent, length)
        place = torch.where(nearest >= 0, at_sibling, end).unsqueeze(1)
        shifted = torch.cat([walk[:, :1], walk[:, :-1]], 1)
        grown = torch.where(places < place, walk, torch.where(places == place, leaf.unsqueeze(1), shifted))
        tree.extra[WALK] = torch.where(is_new.unsqueeze(1), grown, walk)
        tree.extra[WALK_LENGTH] = length + is_new

    @staticmethod
    def _below(tree: Tree, walk: Tensor, at_parent: Tensor, length: Tensor) -> Tensor:
        """How many nodes follow the parent in the walk before one that is no deeper than it."""
        places = torch.arange(tree.nodes, device=walk.device)
        depth = tree.depth.gather(1, walk)
        own = depth.gather(1, at_parent.unsqueeze(1))
        stops = (places > at_parent.unsqueeze(1)) & ((depth <= own) | (places >= length.unsqueeze(1)))
        first = torch.where(stops, places, tree.nodes).amin(1)
        return first - at_parent - 1


PREFIX, WALK, WALK_LENGTH = "value_prefix", "walk", "walk_length"


def start_prefixes(tree: Tree) -> None:
    """A prefix of 0 everywhere."""
    tree.extra[PREFIX] = torch.zeros_like(tree.reward)


def set_prefix(tree: Tree, place: Tensor, horizon: int) -> None:
    """The sum of rewards since the last reset on the way to nodes at places ``[B]``."""
    parent = tree.rows + tree.at(tree.parent, place)
    reset = is_reset(tree.at(tree.depth, parent), horizon)
    before = torch.where(reset, 0.0, tree.at(tree.extra[PREFIX], parent))
    tree.put(tree.extra[PREFIX], place, tree.at(tree.reward, place) + before)


def is_reset(depth: Tensor, horizon: int) -> Tensor:
    """Whether the value prefix begins anew after nodes of this depth."""
    return (depth > 0) & (depth % horizon == 0)


def empty_range(tree: Tree) -> None:
    """A range that has seen nothing."""
    tree.extra[LOW] = torch.full_like(tree.visits[:, ROOT], torch.inf)
    tree.extra[HIGH] = torch.full_like(tree.visits[:, ROOT], -torch.inf)


def widen(tree: Tree, seen: Tensor) -> None:
    """Take values ``[M, B]`` into the range."""
    tree.extra[LOW] = torch.minimum(tree.extra[LOW], seen.amin(0))
    tree.extra[HIGH] = torch.maximum(tree.extra[HIGH], seen.amax(0))


def _mean(stats: Tensor) -> Tensor:
    return stats[..., VALUE_SUM] / stats[..., VISITS].clamp(min=1)


def _goes_on(path: Path) -> Tensor:
    """Whether a row made another choice at the next level, bool ``[D, B]``."""
    return torch.cat([path.is_active[1:], torch.zeros_like(path.is_active[:1])])
