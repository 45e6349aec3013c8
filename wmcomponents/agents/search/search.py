"""Tree search in tensors: simulate, expand, back up, for all roots at once."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.search.bounds import HIGH, LOW
from wmcomponents.agents.search.decision import Decision, FinalChoice
from wmcomponents.agents.search.root_prior import RootPrior
from wmcomponents.agents.search.searched import Arrival, Evaluation, SearchedModel
from wmcomponents.agents.search.simulations import TIE, Draws, SearchNoise, Simulations, simulated_one_by_one
from wmcomponents.agents.search.states import NodeStates
from wmcomponents.agents.search.tree import PROBS, RAW_VALUE, ROOT, Nodes, Path, Tree
from wmcomponents.world_model import Noise, State

LOOK = 3
"""Levels that a descent goes down between two looks at whether all rows have arrived."""


class Selection(Protocol):
    """Which edge a simulation takes at a node."""

    @property
    def can_reuse(self) -> bool:
        """Whether what is kept of a tree holds for its subtrees too."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether what is known of a node decides alone what is done there.

        Then its choice stays until a simulation passes through it, and a descent follows choices that were made before,
        of all levels at once.
        """
        ...

    def start(self, tree: Tree) -> None:
        """Before the first simulation."""
        ...

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        ...

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[..., K]`` of the edges of nodes ``[...]``, of which the highest is taken.

        Args:
            tree: the trees.
            nodes: where each row stands, ``[B]``; for a local rule of several levels, ``[D, B]``.
            carry: what the level above handed on; ``None`` at the root, and for a local rule.
        """
        ...


class RootRule(Protocol):
    """A root's own way of choosing, in simulations and in the end."""

    def start(self, tree: Tree, noise: Noise) -> None:
        """Before the first simulation."""
        ...

    def after(self, tree: Tree, path: Path) -> None:
        """After a simulation was backed up."""
        ...

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[B, K]`` of the roots, as a :class:`Selection` gives them."""
        ...

    def decide(self, tree: Tree, noise: Noise) -> Decision:
        """The choice when the search is over."""
        ...

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """The noise it reads, each ``[B, K]``."""
        ...


class RootCount(NamedTuple):
    """What a root counts before its first simulation.

    Attributes:
        visits: how many.
        value: how often the model's value of the root stands among the values backed up to it.
    """

    visits: int
    value: int


EVALUATED = RootCount(1, 1)  # the evaluation of the root is its first visit, as of every node (mctx)
UNCOUNTED = RootCount(0, 0)  # only what was backed up counts (MuZero's pseudocode)
PHANTOM = RootCount(1, 0)  # a first visit that brought the value 0 (LightZero, EfficientZero)


class Plan(NamedTuple):
    """What a search found.

    Attributes:
        action: as the model's ``action_spec`` says, ``[*B, *action]``.
        edge: which edge that is, int64 ``[*B]``.
        policy: of the edges, ``[*B, K]``: shares of visits, or the improved policy.
        target: what the policy is to learn, ``[*B, A]``: probabilities of choices, the action where it is numbers.
        value: mean of what was backed up to the root, ``[*B, 1]``.
        visits: of the root's edges, ``[*B, K]``.
        tree: all of it, of the roots laid flat.
    """

    action: Tensor
    edge: Tensor
    policy: Tensor
    target: Tensor
    value: Tensor
    visits: Tensor
    tree: Tree


class TreeSearch:
    """Searches on a model's dream, one leaf a simulation, from many roots at once.

    A search is its parts: what is done to the root's prior, how an edge is selected, what a root counts, how the
    final action is chosen. The papers' are put together in ``agents.search.papers``.

    Args:
        searched: the model with its value and prior.
        simulations: of each search.
        selection: which edge a simulation takes.
        root: the root's own rule, for both; if not given, ``selection`` and ``choice``.
        choice: how the action is chosen; not beside ``root``.
        root_prior: what is done to the root's prior, one after the other.
        root_count: what a root counts before the first simulation.
        max_depth: edges down to the deepest leaf; a simulation that comes there again backs up the leaf's value once
            more.

    Attributes:
        run: does all simulations of a planted tree; :func:`simulated_one_by_one`, or what takes its place, such as
            :class:`CompiledSimulations`.

    Raises:
        ValueError: for a number of simulations or a depth below 1, or both or neither of ``root`` and ``choice``.
    """

    def __init__(
        self,
        searched: SearchedModel,
        *,
        simulations: int,
        selection: Selection,
        root: RootRule | None = None,
        choice: FinalChoice | None = None,
        root_prior: Sequence[RootPrior] = (),
        root_count: RootCount = EVALUATED,
        max_depth: int | None = None,
    ) -> None:
        if (root is None) == (choice is None):
            raise ValueError("the final action is chosen by the root's rule or by a choice: pass root or choice.")
        self.searched, self.selection, self.root, self.choice = searched, selection, root, choice
        self.simulations = whole("simulations", simulations, 1, "a number of simulations, at least 1")
        self.root_prior, self.root_count = tuple(root_prior), root_count
        self.max_depth = max_depth if max_depth is None else whole("max_depth", max_depth, 1, "a depth, at least 1")
        final = root if choice is None else choice
        assert final is not None
        self.final: FinalChoice | RootRule = final
        self.run: Simulations = simulated_one_by_one

    @property
    def search(self) -> "TreeSearch":
        """Itself: what a policy asks of everything that plans."""
        return self

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> SearchNoise:
        """Noise for one search from roots ``[*batch_size]``, all from one generator, on its device."""
        batch = torch.Size(batch_size).numel()
        shape = (batch, self.searched.edges.count)
        root: Noise = {}
        for part in (*self.root_prior, self.final):
            root.update(part.draw(shape, generator))
        ties = torch.rand(batch, self.simulations, shape[1], generator=generator, device=generator.device)
        edges = self.searched.edges.draw(batch, 1 + self.simulations, generator)
        return SearchNoise(root, ties, edges, self.searched.draw_noise(batch, self.simulations, generator))

    @torch.no_grad()
    def plan(
        self,
        state: State,
        *,
        mask: Tensor | None = None,
        noise: SearchNoise | None = None,
        reuse: Tree | None = None,
        is_init: Tensor | None = None,
    ) -> Plan:
        """Search from states.

        Args:
            state: of the model, ``[*B, ...]``.
            mask: which edges may be taken at the roots, bool ``[*B, K]``; all if not given.
            noise: of :meth:`draw`; ``None`` for none: the first of equal edges, no noise at the root, the model's mode.
            reuse: the subtree of the last move, ``plan.tree.subtree(plan.edge)``, whose visits count on.
            is_init: where an episode begins, so that nothing is reused, bool ``[*B, 1]``.

        Raises:
            ValueError: if a mask has another shape or forbids everything, or a reused tree is of other roots or of a
                search that cannot be continued.
        """
        key, spec = next(iter((key, self.searched.model.state_spec[key]) for key in state))
        lead = state[key].shape[: state[key].ndim - len(spec.shape)]
        flat = {name: value.flatten(0, len(lead) - 1) if lead else value.unsqueeze(0) for name, value in state.items()}
        batch = lead.numel()
        mask = self._checked(mask, lead)
        noise = SearchNoise() if noise is None else noise
        fresh = None if is_init is None else is_init.reshape(batch)
        with self.searched.eval_mode:
            tree = self._planted(flat, mask, noise, reuse, fresh)
            self.run(self, tree, noise)
        decision = self.final.decide(tree, noise.root)
        vectors = self._root_vectors(tree)
        vector = vectors[torch.arange(batch, device=vectors.device), decision.edge]
        action = self.searched.action_vector.inverse(vector)
        target = self.searched.edges.target(decision.policy, decision.edge, vectors)
        return Plan(
            action=action.reshape(*lead, *action.shape[1:]),
            edge=decision.edge.reshape(lead),
            policy=decision.policy.reshape(*lead, -1),
            target=target.reshape(*lead, -1),
            value=tree.root_value.reshape(*lead, 1),
            visits=tree.root(tree.edge_visits).reshape(*lead, -1),
            tree=tree,
        )

    # -- the steps of a simulation -------------------------------------------------------------------------------------

    def simulate(self, tree: Tree, draws: Draws, levels: int | None = None) -> Path:
        """One simulation: down to a leaf, look at it, back up.

        Args:
            tree: the trees, which grow.
            draws: of this simulation.
            levels: of the path, at least as many as it takes; as many as it takes, if not given. Only with a local
                rule; then nothing branches on what the tree holds.
        """
        if self.selection.is_local:
            path, is_new = self._follow(tree, draws, levels)
        else:
            path, is_new = self._descend(tree, draws)
        value = self._expand(tree, path, is_new, draws)
        path = tree.backward(path._replace(leaf_value=value))
        self.selection.after(tree, path)
        if self.root is not None:
            self.root.after(tree, path)
        if self.selection.is_local and not draws.is_last:
            passed = torch.cat([path.node, path.leaf.unsqueeze(0)])
            self._prefer(tree, passed, draws.next_ties)
        return path

    def _choose(
        self, tree: Tree, rule: Selection | RootRule, nodes: Nodes, carry: Any, ties: Tensor | None
    ) -> tuple[Tensor, Any]:
        """The edges that a rule takes at nodes ``[..., B]``, and what the level below is to know."""
        score, carry = rule(tree, nodes, carry)
        if ties is not None:
            score = score + ties
        if tree.is_masked:
            score = score.masked_fill(nodes.logits == -torch.inf, -torch.inf)
        return score.argmax(-1), carry

    def _prefer(self, tree: Tree, place: Tensor, ties: Tensor | None) -> None:
        """Choose anew, for the next simulation, at places ``[..., B]`` of which more is known now."""
        action, _ = self._choose(tree, self.selection, tree.look(place), None, ties)
        tree.prefer(place, action)

    def _follow(self, tree: Tree, draws: Draws, levels: int | None) -> tuple[Path, Tensor | None]:
        """As :meth:`_descend`, along the edges that a local rule prefers."""
        if self.root is not None:
            action, _ = self._choose(tree, self.root, tree.look(tree.rows), None, draws.ties)
            tree.prefer(tree.rows, action)
        onward = tree.onward.view(-1)
        places = [tree.rows]
        following = onward.index_select(0, tree.rows)
        while len(places) != (self.max_depth if levels is None else levels):
            # Whether all have arrived is asked now and then; until then a row that has repeats its last node.
            if levels is None and len(places) % LOOK == 1 and torch.equal(following, places[-1]):
                break
            places.append(following)
            following = onward.index_select(0, following)
        is_new = None if self.max_depth is None else following == places[-1]
        leaf = tree.rows + tree.size
        leaf = leaf if is_new is None else torch.where(is_new, leaf, following)
        node = torch.stack(places)
        below = torch.cat([node[1:], leaf.unsqueeze(0)])
        goes_on = below != node  # a row that stays has arrived: its edge leads to the leaf
        # As numbers, since inductor (torch 2.13) makes no valid code of truths that are put together.
        is_active = torch.cat([torch.ones_like(node[:1]), goes_on[:-1].to(node.dtype)]).bool()
        child = torch.where(goes_on, below, leaf)
        action = tree.preferred.view(-1)[node]
        return Path(node, action, child, is_active, leaf, leaf, leaf), is_new

    def _descend(self, tree: Tree, draws: Draws) -> tuple[Path, Tensor | None]:
        """From the roots down to edges that were never taken, or the depth limit; and where those are new."""
        place, active, carry = tree.rows, torch.ones_like(tree.size, dtype=torch.bool), None
        places, actions, actives, children = [], [], [], []
        rule: Selection | RootRule = self.selection if self.root is None else self.root
        while True:
            action, carry = self._choose(tree, rule, tree.look(place), carry, draws.ties)
            if places:
                action = torch.where(active, action, actions[-1])
            child = tree.behind(place, action)
            places.append(place)
            actions.append(action)
            actives.append(active)
            children.append(child)
            active = active & (child != place)
            if len(places) == self.max_depth or not bool(active.any()):
                break
            place = torch.where(active, child, place)
            rule = self.selection
        is_new = children[-1] == places[-1]
        leaf = torch.where(is_new, tree.rows + tree.size, children[-1])
        node, behind = torch.stack(places), torch.stack(children)
        child = torch.where(behind == node, leaf, behind)
        path = Path(node, torch.stack(actions), child, torch.stack(actives), leaf, leaf, leaf)
        return path, None if self.max_depth is None else is_new

    def _expand(self, tree: Tree, path: Path, is_new: Tensor | None, draws: Draws) -> Tensor:
        """Dream to the leaves, look at them, and write them down; gives their values ``[B]``.

        Args:
            tree: the trees.
            path: to the leaves.
            is_new: where the leaf was not there before; ``None``: everywhere.
            draws: of this simulation.
        """
        parent, action, leaf = path.node[-1], path.action[-1], path.leaf
        state = tree.states.read(parent)
        arrival = self.searched.step(state, self._vector(tree, parent, action), draws.model)
        found = self.searched.evaluate(arrival.state, draws.edges, is_root=False)
        if is_new is not None:  # a leaf that was there before stays what it was
            found, arrival = kept_leaves(tree, leaf, is_new, found, arrival)
        tree.states.write(leaf, arrival.state)
        known = torch.stack([found.value, arrival.reward, arrival.discount], -1)
        tree.put(tree.node_stats[..., RAW_VALUE:], leaf, known)
        depth = tree.at(tree.depth, parent) + 1
        tree.put(tree.links, leaf, torch.stack([parent - tree.rows, action, depth], -1))
        write_edges(tree, leaf, found)
        tree.children.view(-1).scatter_(0, tree.edge(parent, action), leaf - tree.rows)
        tree.size = tree.size + (1 if is_new is None else is_new)
        return found.value

    def _vector(self, tree: Tree, node: Tensor, action: Tensor) -> Tensor:
        """Actions of edges as vectors, ``[B, A]``."""
        if tree.actions is None:
            return self._table(tree)[action]
        return tree.actions.flatten(0, 2).index_select(0, tree.edge(node, action))

    def _root_vectors(self, tree: Tree) -> Tensor:
        if tree.actions is None:
            table = self._table(tree)
            return table.expand(tree.batch, *table.shape)
        return tree.actions[:, ROOT]

    def _table(self, tree: Tree) -> Tensor:
        edges = self.searched.edges
        assert edges.vectors is not None
        if edges.vectors.device != tree.visits.device:
            edges.vectors = edges.vectors.to(tree.visits.device)
        return edges.vectors

    # -- the roots -----------------------------------------------------------------------------------------------------

    def _planted(
        self, state: State, mask: Tensor | None, noise: SearchNoise, reuse: Tree | None, fresh: Tensor | None
    ) -> Tree:
        """Trees with their roots evaluated, and what is kept of the last move's below them."""
        drawn = None if noise.edges is None else noise.edges[:, 0]
        found = self.searched.evaluate(state, drawn, is_root=True)
        logits = found.logits
        for part in self.root_prior:
            logits = part(logits, mask, noise.root)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        if reuse is None:
            nodes = 1 + self.simulations
            tree = Tree.with_room(NodeStates(state, nodes), logits, nodes, found.vectors)
        else:
            tree = self._regrown(reuse, state, fresh)
        tree.is_masked = tree.is_masked or mask is not None or bool((logits == -torch.inf).any())
        tree.is_masked = tree.is_masked or self.searched.may_forbid
        tree.has_players = self.searched.has_players
        self._root(tree, found._replace(logits=logits))
        before = {name: tree.extra.get(name) for name in (LOW, HIGH)}
        self.selection.start(tree)
        if self.root is not None:
            self.root.start(tree, noise.root)
        if reuse is not None:
            kept = tree.root(tree.edge_visits).sum(1) > 0
            for name, value in before.items():
                if value is not None:
                    tree.extra[name] = torch.where(kept, value, tree.extra[name])
        if self.selection.is_local:
            places = (
                tree.rows
                if reuse is None
                else tree.rows + torch.arange(tree.nodes, device=tree.rows.device).unsqueeze(1)
            )
            self._prefer(tree, places, None if noise.ties is None else TIE * noise.ties[:, 0])
        return tree

    def _regrown(self, reuse: Tree, state: State, fresh: Tensor | None) -> Tree:
        """The last move's subtree with room for this search, empty where an episode begins."""
        rows = next(iter(state.values())).shape[0]
        if not self.selection.can_reuse:
            raise ValueError("what this search's bounds keep holds for whole trees only: plan without reuse.")
        if reuse.batch != rows:
            raise ValueError(
                f"the reused tree has {reuse.batch} roots and the states are of {rows}; pass its own rows."
            )
        if fresh is not None:
            reuse = dataclasses.replace(reuse, size=torch.where(fresh, 0, reuse.size))
        kept = int(reuse.size.max())
        blocks = -(-max(kept - 1, 0) // self.simulations)  # few different sizes, so that memory is found again
        tree = reuse.grown(1 + (blocks + 1) * self.simulations)
        tree.states.set_root(state)
        return tree

    def _root(self, tree: Tree, found: Evaluation) -> None:
        """Write the roots' evaluation, and count them as this search does."""
        root, count = tree.rows, self.root_count
        is_empty, taken = tree.size == 0, tree.root(tree.edge_visits)
        visits = taken.sum(1) + count.visits
        total = (taken * tree.root(tree.edge_q)).sum(1) + count.value * found.value
        if tree.actions is not None:
            kept = ~is_empty.unsqueeze(1)
            logits = torch.where(kept, tree.root(tree.logits), found.logits)
            assert found.vectors is not None
            vectors = torch.where(kept.unsqueeze(2), tree.actions[:, ROOT], found.vectors)
            found = found._replace(logits=logits, vectors=vectors)
        discount = torch.full_like(total, self.searched.root_discount)
        known = torch.stack([visits, total, found.value, torch.zeros_like(total), discount], -1)
        tree.put(tree.node_stats, root, known)
        write_edges(tree, root, found)
        tree.size = tree.size.clamp(min=1)

    def _checked(self, mask: Tensor | None, lead: torch.Size) -> Tensor | None:
        if mask is None:
            return None
        edges = self.searched.edges
        if edges.vectors is None or mask.shape != (*lead, edges.count):
            raise ValueError(
                f"a mask says of each of {edges.count} choices whether it may be taken, bool {[*lead, edges.count]}; "
                f"got {list(mask.shape)}" + (", and sampled actions have none." if edges.vectors is None else ".")
            )
        mask = mask.bool().reshape(-1, edges.count)
        if not bool(mask.any(1).all()):
            raise ValueError("the mask of a root forbids every action; a game that is over is not searched.")
        return mask


def write_edges(tree: Tree, place: Tensor, found: Evaluation) -> None:
    """Write what is known of the edges of nodes at places ``[B]``."""
    tree.put(tree.edge_stats[:, :, : PROBS + 1], place, torch.stack([found.logits, found.logits.softmax(-1)], 1))
    if tree.actions is not None:
        assert found.vectors is not None
        tree.put(tree.actions, place, found.vectors)


def kept_leaves(
    tree: Tree, leaf: Tensor, is_new: Tensor, found: Evaluation, arrival: Arrival
) -> tuple[Evaluation, Arrival]:
    """New leaves ``[B]`` as they were found, others as they stand in the tree."""

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(is_new.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    before = tree.states.read(leaf)
    state = {key: chosen(value, before[key]) for key, value in arrival.state.items()}
    reward = chosen(arrival.reward, tree.at(tree.reward, leaf))
    discount = chosen(arrival.discount, tree.at(tree.discount, leaf))
    value = chosen(found.value, tree.at(tree.raw_value, leaf))
    logits = chosen(found.logits, tree.at(tree.logits, leaf))
    vectors = found.vectors
    if vectors is not None and tree.actions is not None:
        vectors = chosen(vectors, tree.at(tree.actions, leaf))
    return Evaluation(value, logits, vectors), Arrival(state, reward, discount)
