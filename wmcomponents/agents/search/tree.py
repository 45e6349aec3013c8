"""A search tree for each of many roots, kept in tensors."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.agents.search.states import NodeStates

ROOT = 0
UNVISITED = -1


class Path(NamedTuple):
    """The way that one simulation took from each root to its leaf, D levels deep where it was deepest.

    Attributes:
        node: where a choice was made, ``[D, B]``. Rows that arrived before keep the edge that led to their leaf.
        action: the edge that was chosen there, ``[D, B]``.
        child: where that edge leads, ``[D, B]``.
        is_active: whether the row was still on its way, bool ``[D, B]``.
        leaf: the node that was evaluated, ``[B]``.
        returns: what was backed up to each ``node``, for the player who moves there, ``[D, B]``.
        leaf_value: the value of the leaf, ``[B]``.
    """

    node: Tensor
    action: Tensor
    child: Tensor
    is_active: Tensor
    leaf: Tensor
    returns: Tensor
    leaf_value: Tensor


@dataclasses.dataclass
class Tree:
    """Trees of B roots with room for N nodes each, of K edges. Node 0 is the root; parents come before children.

    Nodes are tables ``[B, N]``, edges ``[B, N, K]``; a row has used its first ``size`` nodes. Values are those of the
    player who moves at a node; rewards those of the player who moved at its parent.

    Attributes:
        states: the model's states, by node.
        actions: the action of each edge, ``[B, N, K, *action]``; ``None`` where edge k is choice k everywhere.
        logits: prior of each edge; minus infinity where it cannot be taken.
        probs: the same as probabilities.
        children: node behind each edge, or -1.
        edge_visits: simulations that took each edge.
        edge_q: reward plus discounted mean value behind each edge; 0 where none was taken.
        visits: simulations that passed through or ended in each node, and what a root begins with.
        value_sum: sum of the returns backed up to each node.
        raw_value: the value that the model or the function gave each node.
        reward: of the edge into each node; 0 at the root.
        discount: of the edge into each node: discount times continuation, negative where the players change.
        parent: of each node; -1 at the root.
        parent_action: the edge that leads to each node; -1 at the root.
        depth: edges between the root and each node.
        size: nodes in use, ``[B]``.
        is_masked: whether some edge anywhere cannot be taken.
        has_players: whether two players take turns, so that values change their sign from node to node.
        simulation: which simulation of the present search this is, from 0.
        extra: what the parts of a search keep, ``[B, ...]`` by name.
    """

    states: NodeStates
    actions: Tensor | None
    logits: Tensor
    probs: Tensor
    children: Tensor
    edge_visits: Tensor
    edge_q: Tensor
    visits: Tensor
    value_sum: Tensor
    raw_value: Tensor
    reward: Tensor
    discount: Tensor
    parent: Tensor
    parent_action: Tensor
    depth: Tensor
    size: Tensor
    is_masked: bool = False
    has_players: bool = False
    simulation: int = 0
    extra: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = torch.arange(self.batch, device=self.visits.device) * self.nodes

    @classmethod
    def with_room(cls, states: NodeStates, like: Tensor, nodes: int, actions: Tensor | None) -> "Tree":
        """An empty tree.

        Args:
            states: with room for the same nodes.
            like: the roots' logits, ``[B, K]``; gives batch, edges, dtype and device.
            nodes: room for so many.
            actions: of the roots' edges, ``[B, K, *action]``, or ``None``.
        """
        batch, edges = like.shape

        def numbers(*shape: int) -> Tensor:
            return like.new_zeros(batch, nodes, *shape)

        def indices(*shape: int) -> Tensor:
            return torch.full((batch, nodes, *shape), UNVISITED, dtype=torch.int64, device=like.device)

        return cls(
            states=states,
            actions=None if actions is None else actions.new_zeros(batch, nodes, *actions.shape[1:]),
            logits=numbers(edges),
            probs=numbers(edges),
            children=indices(edges),
            edge_visits=numbers(edges),
            edge_q=numbers(edges),
            visits=numbers(),
            value_sum=numbers(),
            raw_value=numbers(),
            reward=numbers(),
            discount=numbers(),
            parent=indices(),
            parent_action=indices(),
            depth=indices() + 1,
            size=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    @property
    def batch(self) -> int:
        """Number of roots, B."""
        return self.visits.shape[0]

    @property
    def nodes(self) -> int:
        """Room for nodes, N."""
        return self.visits.shape[1]

    @property
    def edges(self) -> int:
        """Edges of a node, K."""
        return self.logits.shape[-1]

    def at(self, table: Tensor, node: Tensor) -> Tensor:
        """Rows of a table ``[B, N, ...]`` at nodes ``[..., B]``: ``[..., B, ...]``."""
        flat = table.flatten(0, 1)
        if node.ndim == 1:
            return flat.index_select(0, self.rows + node)
        return flat[self.rows + node]

    def put(self, table: Tensor, node: Tensor, value: Tensor) -> None:
        """Write one row a root, ``[B, ...]``, at nodes ``[B]``."""
        table.flatten(0, 1).index_copy_(0, self.rows + node, value.to(table.dtype))

    def edge(self, node: Tensor, action: Tensor) -> Tensor:
        """Place of edges in tables ``[B, N, K]`` laid flat: nodes and actions ``[..., B]``."""
        return (self.rows + node) * self.edges + action

    def root(self, table: Tensor) -> Tensor:
        """A table's rows at the roots, ``[B, ...]``."""
        return table[:, ROOT]

    def value(self, node: Tensor) -> Tensor:
        """Mean of what was backed up to nodes ``[..., B]``; 0 where nothing was."""
        return self.at(self.value_sum, node) / self.at(self.visits, node).clamp(min=1)

    @property
    def root_value(self) -> Tensor:
        """Mean of what was backed up to the roots, ``[B]``."""
        return self.value_sum[:, ROOT] / self.visits[:, ROOT].clamp(min=1)

    def backward(self, path: Path) -> Path:
        """Back the value of a leaf up along its path; gives the path with the returns.

        A return is the reward of an edge plus its discount times the return behind it.
        """
        reward = self.at(self.reward, path.child) * path.is_active
        discount = torch.where(path.is_active, self.at(self.discount, path.child), 1.0)
        returns, value = [], path.leaf_value
        for r, d in zip(reward.flip(0).unbind(), discount.flip(0).unbind(), strict=True):
            value = torch.addcmul(r, d, value)
            returns.append(value)
        path = path._replace(returns=torch.stack(returns[::-1]))
        counts = path.is_active.to(reward.dtype)
        passed = torch.cat([path.node, path.leaf.unsqueeze(0)]).add(self.rows).flatten()
        sums = torch.cat([path.returns * counts, path.leaf_value.unsqueeze(0)]).flatten()
        counts = torch.cat([counts, torch.ones_like(counts[:1])]).flatten()
        self.value_sum.view(-1).index_add_(0, passed, sums)
        self.visits.view(-1).index_add_(0, passed, counts)
        # A row that arrived before repeats its last edge, and so writes the same numbers again.
        place = self.edge(path.node, path.action).flatten()
        visits = self.at(self.visits, path.child)
        mean = self.at(self.value_sum, path.child) / visits
        q = self.at(self.reward, path.child) + self.at(self.discount, path.child) * mean
        self.edge_visits.view(-1)[place] = visits.flatten()
        self.edge_q.view(-1)[place] = q.flatten()
        return path

    def resized(self, source: Tensor, is_used: Tensor) -> "Tree":
        """The tree whose node j is this one's node ``source[:, j]``; edges lead where the nodes went, or nowhere.

        Args:
            source: ``[B, N']``.
            is_used: which of the new nodes there are, bool ``[B, N']``; the others are empty.
        """
        nodes = source.shape[1]
        target = torch.full((self.batch, self.nodes + 1), UNVISITED, dtype=torch.int64, device=source.device)
        index = torch.where(is_used, source, self.nodes)
        target.scatter_(1, index, torch.arange(nodes, device=source.device).expand_as(source))
        target[:, -1] = UNVISITED
        flat = (self.rows.unsqueeze(1) + source).flatten()

        def moved(table: Tensor, empty: float = 0) -> Tensor:
            rows = table.flatten(0, 1).index_select(0, flat).reshape(self.batch, nodes, *table.shape[2:])
            return torch.where(is_used.reshape(is_used.shape + (1,) * (table.ndim - 2)), rows, empty)

        def renamed(table: Tensor) -> Tensor:
            there = moved(table, UNVISITED)
            named = target.gather(1, torch.where(there < 0, self.nodes, there).flatten(1))
            return named.reshape(there.shape)

        return Tree(
            states=self.states.moved(source, is_used),
            actions=None if self.actions is None else moved(self.actions),
            logits=moved(self.logits),
            probs=moved(self.probs),
            children=renamed(self.children),
            edge_visits=moved(self.edge_visits),
            edge_q=moved(self.edge_q),
            visits=moved(self.visits),
            value_sum=moved(self.value_sum),
            raw_value=moved(self.raw_value),
            reward=moved(self.reward),
            discount=moved(self.discount),
            parent=renamed(self.parent),
            parent_action=moved(self.parent_action, UNVISITED),
            depth=moved(self.depth),
            size=is_used.sum(1),
            is_masked=self.is_masked,
            has_players=self.has_players,
            extra=dict(self.extra),
        )

    def subtree(self, action: Tensor) -> "Tree":
        """What was found below one edge of each root, ``[B]``, with what is there as the new roots.

        A root's edge that was never taken leaves an empty row (``size`` 0).
        """
        child = self.children[:, ROOT].gather(1, action.unsqueeze(1))
        above = self.parent.clamp(min=0).scatter(1, child.clamp(min=0), child.clamp(min=0))
        for _ in range(max(1, (self.nodes - 1).bit_length())):
            above = above.gather(1, above)
        below = (above == child) & (self.parent >= 0)
        rank = torch.where(below, below.cumsum(1) - 1, self.nodes)
        source = torch.zeros(self.batch, self.nodes + 1, dtype=torch.int64, device=action.device)
        source.scatter_(1, rank, torch.arange(self.nodes, device=action.device).expand_as(rank).contiguous())
        source = source[:, : self.nodes]
        is_used = torch.arange(self.nodes, device=action.device) < below.sum(1, keepdim=True)
        found = self.resized(source, is_used)
        found.parent[:, ROOT] = found.parent_action[:, ROOT] = UNVISITED
        found.depth = (found.depth - 1).clamp(min=0)
        return found

    def grown(self, nodes: int) -> "Tree":
        """The same tree with room for so many nodes, at least as many as any row uses."""
        index = torch.arange(nodes, device=self.size.device).expand(self.batch, nodes)
        return self.resized(index.clamp(max=self.nodes - 1), index < self.size.unsqueeze(1))
