"""A search tree for each of many roots, kept in tensors."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.agents.search.states import NodeStates

ROOT = 0
UNVISITED = -1
LOGITS, PROBS, EDGE_VISITS, EDGE_Q = range(4)
VISITS, VALUE_SUM, RAW_VALUE, REWARD, DISCOUNT = range(5)
PARENT, PARENT_ACTION, DEPTH = range(3)


class Path(NamedTuple):
    """The way that one simulation took from each root to its leaf, D levels deep where it was deepest.

    Nodes are named by their place in tables ``[B, N]`` laid flat.

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


class Nodes(NamedTuple):
    """What stands in the tables at nodes ``[..., B]``, each as :class:`Tree` has it.

    Attributes:
        place: of the nodes in tables ``[B, N]`` laid flat.
        logits: prior of the edges, ``[..., B, K]``.
        probs: the same as probabilities.
        edge_visits: simulations that took each edge.
        edge_q: action value of each edge.
        visits: of the nodes, ``[..., B]``.
        value_sum: of the nodes.
        raw_value: of the nodes.
        reward: of the edge into them.
        discount: of the edge into them.
    """

    place: Tensor
    logits: Tensor
    probs: Tensor
    edge_visits: Tensor
    edge_q: Tensor
    visits: Tensor
    value_sum: Tensor
    raw_value: Tensor
    reward: Tensor
    discount: Tensor

    @property
    def value(self) -> Tensor:
        """Mean of what was backed up, ``[..., B]``; 0 where nothing was."""
        return self.value_sum / self.visits.clamp(min=1)

    @property
    def taken(self) -> Tensor:
        """1 where an edge was taken, else 0, ``[..., B, K]``: numbers, which on a CPU are faster than truths."""
        return self.edge_visits.clamp(max=1)


@dataclasses.dataclass
class Tree:
    """Trees of B roots with room for N nodes each, of K edges. Node 0 is the root; parents come before children.

    Nodes are tables ``[B, N]``, edges ``[B, N, K]``; a row has used its first ``size`` nodes. Values are those of the
    player who moves at a node; rewards those of the player who moved at its parent. What is read together lies
    together: ``edge_stats`` are ``logits`` (prior of each edge, minus infinity where it cannot be taken), ``probs``,
    ``edge_visits`` and ``edge_q`` (reward plus discounted mean value behind each edge; 0 where none was taken);
    ``node_stats`` are ``visits`` (simulations that passed through or ended in each node, and what a root begins with),
    ``value_sum``, ``raw_value`` (from the model or the function), ``reward`` (of the edge into each node) and
    ``discount`` (times continuation, negative where the players change); ``links`` are ``parent``, ``parent_action``
    and ``depth``. Each is a view of its own name.

    Attributes:
        states: the model's states, by node.
        actions: the action of each edge, ``[B, N, K, *action]``; ``None`` where edge k is choice k everywhere.
        edge_stats: ``[B, N, 4, K]``.
        node_stats: ``[B, N, 5]``.
        links: int64 ``[B, N, 3]``; -1 at the root.
        children: node behind each edge, or -1.
        preferred: the edge that a local rule takes at each node.
        onward: the place in tables ``[B, N]`` laid flat to which it leads; the node's own where it was never taken.
        size: nodes in use, ``[B]``.
        is_masked: whether some edge anywhere cannot be taken.
        has_players: whether two players take turns, so that values change their sign from node to node.
        simulation: which simulation of the present search this is, from 0.
        extra: what the parts of a search keep, ``[B, ...]`` by name.
    """

    states: NodeStates
    actions: Tensor | None
    edge_stats: Tensor
    node_stats: Tensor
    links: Tensor
    children: Tensor
    preferred: Tensor
    onward: Tensor
    size: Tensor
    is_masked: bool = False
    has_players: bool = False
    simulation: int = 0
    extra: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = torch.arange(self.batch, device=self.size.device) * self.nodes
        """Places of the roots."""
        self.begin(0)

    def begin(self, simulation: int) -> None:
        """Note which simulation of the present search begins, from 0.

        Beside the number there is ``turn``, int64 ``[1]``, the same for what is compiled.
        """
        self.simulation = simulation
        self.turn = torch.full((1,), simulation, dtype=torch.int64, device=self.size.device)

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

        def indices(*shape: int) -> Tensor:
            return torch.full((batch, nodes, *shape), UNVISITED, dtype=torch.int64, device=like.device)

        links = indices(3)
        links[..., DEPTH] = 0
        return cls(
            states=states,
            actions=None if actions is None else actions.new_zeros(batch, nodes, *actions.shape[1:]),
            edge_stats=like.new_zeros(batch, nodes, 4, edges),
            node_stats=like.new_zeros(batch, nodes, 5),
            links=links,
            children=indices(edges),
            preferred=indices(),
            onward=indices(),
            size=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    @property
    def batch(self) -> int:
        """Number of roots, B."""
        return self.node_stats.shape[0]

    @property
    def nodes(self) -> int:
        """Room for nodes, N."""
        return self.node_stats.shape[1]

    @property
    def edges(self) -> int:
        """Edges of a node, K."""
        return self.edge_stats.shape[-1]

    @property
    def logits(self) -> Tensor:
        """Prior of each edge, ``[B, N, K]``; minus infinity where it cannot be taken."""
        return self.edge_stats[:, :, LOGITS]

    @property
    def probs(self) -> Tensor:
        """The same as probabilities."""
        return self.edge_stats[:, :, PROBS]

    @property
    def edge_visits(self) -> Tensor:
        """Simulations that took each edge, ``[B, N, K]``."""
        return self.edge_stats[:, :, EDGE_VISITS]

    @property
    def edge_q(self) -> Tensor:
        """Reward plus discounted mean value behind each edge, ``[B, N, K]``."""
        return self.edge_stats[:, :, EDGE_Q]

    @property
    def visits(self) -> Tensor:
        """Simulations that passed through or ended in each node, ``[B, N]``."""
        return self.node_stats[..., VISITS]

    @property
    def value_sum(self) -> Tensor:
        """Sum of the returns backed up to each node, ``[B, N]``."""
        return self.node_stats[..., VALUE_SUM]

    @property
    def raw_value(self) -> Tensor:
        """The value that each node was given when it was found, ``[B, N]``."""
        return self.node_stats[..., RAW_VALUE]

    @property
    def reward(self) -> Tensor:
        """Of the edge into each node, ``[B, N]``."""
        return self.node_stats[..., REWARD]

    @property
    def discount(self) -> Tensor:
        """Of the edge into each node, ``[B, N]``."""
        return self.node_stats[..., DISCOUNT]

    @property
    def parent(self) -> Tensor:
        """Of each node, ``[B, N]``; -1 at the root."""
        return self.links[..., PARENT]

    @property
    def parent_action(self) -> Tensor:
        """The edge that leads to each node, ``[B, N]``; -1 at the root."""
        return self.links[..., PARENT_ACTION]

    @property
    def depth(self) -> Tensor:
        """Edges between the root and each node, ``[B, N]``."""
        return self.links[..., DEPTH]

    def at(self, table: Tensor, place: Tensor) -> Tensor:
        """Rows of a table ``[B, N, ...]`` at places ``[..., B]``: ``[..., B, ...]``."""
        flat = table.flatten(0, 1)
        return flat.index_select(0, place) if place.ndim == 1 else flat[place]

    def put(self, table: Tensor, place: Tensor, value: Tensor) -> None:
        """Write one row a root, ``[B, ...]``, at places ``[B]``."""
        table.flatten(0, 1).index_copy_(0, place, value.to(table.dtype))

    def look(self, place: Tensor) -> Nodes:
        """What stands at places ``[..., B]``."""
        flat = place.flatten()
        edges = self.edge_stats.flatten(0, 1).index_select(0, flat).unflatten(0, place.shape)
        nodes = self.node_stats.flatten(0, 1).index_select(0, flat).unflatten(0, place.shape)
        return Nodes(place, *edges.unbind(-2), *nodes.unbind(-1))

    def edge(self, place: Tensor, action: Tensor) -> Tensor:
        """Place of edges in tables ``[B, N, K]`` laid flat: places of nodes and actions ``[..., B]``."""
        return place * self.edges + action

    def behind(self, place: Tensor, action: Tensor) -> Tensor:
        """Places of the children behind edges, ``[..., B]``; the nodes' own where an edge was never taken."""
        child = self.children.view(-1)[self.edge(place, action)]
        return torch.where(child < 0, place, child + self.rows)

    def prefer(self, place: Tensor, action: Tensor) -> None:
        """Note the edges ``[..., B]`` that are taken at places ``[..., B]``, and where they lead."""
        flat = place.flatten()
        self.preferred.view(-1).scatter_(0, flat, action.flatten())
        self.onward.view(-1).scatter_(0, flat, self.behind(place, action).flatten())

    def root(self, table: Tensor) -> Tensor:
        """A table's rows at the roots, ``[B, ...]``."""
        return table[:, ROOT]

    @property
    def root_value(self) -> Tensor:
        """Mean of what was backed up to the roots, ``[B]``."""
        return self.value_sum[:, ROOT] / self.visits[:, ROOT].clamp(min=1)

    def backward(self, path: Path) -> Path:
        """Back the value of a leaf up along its path; gives the path with the returns.

        A return is the reward of an edge plus its discount times the return behind it.
        """
        stats, edge_stats = self.node_stats.view(-1), self.edge_stats.view(-1)
        behind = self.at(self.node_stats, path.child)
        reward, discount = behind[..., REWARD], behind[..., DISCOUNT]
        counts = path.is_active.to(reward.dtype)
        gained, kept = reward * counts, torch.lerp(torch.ones_like(counts), discount, counts)
        returns, value = [], path.leaf_value
        for r, d in zip(reversed(gained.unbind()), reversed(kept.unbind()), strict=True):
            value = torch.addcmul(r, d, value)
            returns.append(value)
        returns = torch.stack(returns[::-1])
        passed = torch.cat([path.node, path.leaf.unsqueeze(0)]) * self.node_stats.shape[-1]
        sums = torch.cat([returns * counts, path.leaf_value.unsqueeze(0)])
        counts = torch.cat([counts, torch.ones_like(counts[:1])])
        both = torch.cat([passed + VISITS, passed + VALUE_SUM]).flatten()
        stats.index_add_(0, both, torch.cat([counts, sums]).flatten())
        # A row that arrived before repeats its last edge, and so writes the same numbers again.
        visits, total = self.at(self.node_stats[..., : VALUE_SUM + 1], path.child).unbind(-1)
        q = reward + discount * (total / visits)
        place = (path.node * 4 + EDGE_VISITS) * self.edges + path.action
        both = torch.cat([place, place + self.edges]).flatten()
        edge_stats.scatter_(0, both, torch.cat([visits, q]).flatten())
        return path._replace(returns=returns)

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

        depth, by = moved(self.depth), moved(self.parent_action, UNVISITED)
        links = torch.stack([renamed(self.parent), by, depth], -1)
        return Tree(
            states=self.states.moved(source, is_used),
            actions=None if self.actions is None else moved(self.actions),
            edge_stats=moved(self.edge_stats),
            node_stats=moved(self.node_stats),
            links=links,
            children=renamed(self.children),
            preferred=moved(self.preferred, UNVISITED),
            onward=torch.full_like(source, UNVISITED),
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
        found.links[..., DEPTH] = (found.depth - 1).clamp(min=0)
        return found

    def grown(self, nodes: int) -> "Tree":
        """The same tree with room for so many nodes, at least as many as any row uses."""
        index = torch.arange(nodes, device=self.size.device).expand(self.batch, nodes)
        return self.resized(index.clamp(max=self.nodes - 1), index < self.size.unsqueeze(1))
