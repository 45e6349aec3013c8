"""Sequential halving: how a root's simulations are shared out among its most promising actions."""

import math
from typing import Any

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.search.decision import Decision
from wmcomponents.agents.search.gumbel import CompletedValues
from wmcomponents.agents.search.gumbel_noise import gumbel
from wmcomponents.agents.search.tree import Nodes, Path, Tree
from wmcomponents.world_model import Noise

GUMBEL, BASE, LISTED, ORDER = "root_gumbel", "root_base_visits", "root_listed", "root_order"
DUE = "root_due_visits"
LOWEST = -1e9  # below every score of an action that may be taken, above every one that may not


def considered_visits(considered: int, simulations: int) -> list[int]:
    """The number of visits that the action of each simulation is to have had, for so many actions considered.

    >>> considered_visits(4, 10)
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    """
    if considered <= 1:
        return list(range(simulations))
    rounds, visits, order = math.ceil(math.log2(considered)), [0] * considered, []
    left = considered
    while len(order) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            order += visits[:left]
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return order[:simulations]


class SequentialHalving:
    """Gumbel MuZero's root: the most promising of the actions whose visits are due, by g + logits + sigma.

    Without noise g is 0, as for playing at one's best.

    Args:
        simulations: of each search.
        completed: sigma of the completed values.
        considered: actions that are considered, m; the best so many by g + logits.

    Reference: Danihelka et al., Policy improvement by planning with Gumbel (2022), section 3; mctx.
    """

    def __init__(self, simulations: int, completed: CompletedValues, considered: int = 16) -> None:
        self.completed = completed
        self.considered = whole("considered", considered, 1, "a number of actions, at least 1")
        self.due = torch.tensor([considered_visits(m, simulations) for m in range(considered + 1)]).T.contiguous()

    def start(self, tree: Tree, noise: Noise) -> None:
        """Note the noise, and the visits of a tree that is reused."""
        start_root(tree, noise)
        legal = (tree.root(tree.logits) > -torch.inf).sum(1)
        tree.extra[LISTED] = legal.clamp(max=self.considered)
        if self.due.device != legal.device:
            self.due = self.due.to(legal.device)
        tree.extra[DUE] = self.due[:, tree.extra[LISTED]]

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[B, K]`` of the root's edges."""
        return self._scores(tree, nodes, tree.extra[DUE].index_select(0, tree.turn).squeeze(0)), None

    def after(self, tree: Tree, path: Path) -> None:
        """Nothing is kept."""

    def decide(self, tree: Tree, noise: Noise) -> Decision:
        """The most promising of the most visited, and the improved policy."""
        root = tree.look(tree.rows)
        most = (root.edge_visits - tree.extra[BASE]).amax(1)
        return Decision(self._scores(tree, root, most).argmax(1), improved_root(tree, self.completed))

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """``gumbel``, ``[B, K]``."""
        return {"gumbel": gumbel(shape, generator)}

    def _scores(self, tree: Tree, root: Nodes, due: Tensor) -> Tensor:
        logits = root.logits
        score = tree.extra[GUMBEL] + (logits - logits.amax(1, keepdim=True)) + self.completed(tree, root)
        visits = root.edge_visits - tree.extra[BASE]
        is_due = (visits == due.unsqueeze(1)) & (logits > -torch.inf)
        return torch.where(is_due, score.clamp(min=LOWEST), -torch.inf)


def phases(considered: int, simulations: int) -> list[int]:
    """How many actions EfficientZero V2's list holds after each simulation.

    >>> phases(4, 16)
    [4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 1]
    """
    if considered <= 1:
        return [1] * simulations
    rounds, left, used, held = math.log2(considered), considered, 0, []
    boundary = math.floor(simulations / (rounds * considered)) * considered
    for done in range(1, simulations + 1):
        if done >= boundary and left > 1:
            left //= 2
            more = simulations - used
            if left > 2:
                more = max(math.floor(simulations / (rounds * left)), 1) * left
            used += more
            boundary = min(boundary + more, simulations)
        held.append(left)
    return held


class ListHalving:
    """EfficientZero V2's root: the least visited of a list of actions, which is halved from phase to phase.

    The list begins with the best actions by g + logits; at each phase's end the better half by g + logits + sigma
    stays. In the end one is left, which is chosen.

    Args:
        simulations: of each search.
        completed: sigma of the completed values.
        considered: actions that the list begins with.

    Reference: Wang et al., EfficientZero V2 (2024), appendix, as its tree has it.
    """

    def __init__(self, simulations: int, completed: CompletedValues, considered: int = 4) -> None:
        self.completed = completed
        self.considered = whole("considered", considered, 1, "a number of actions, at least 1")
        lists = [phases(m, simulations) for m in range(considered + 1)]
        self.held = torch.tensor(lists).T.contiguous()
        self.halves = [
            any(held[i] != (held[i - 1] if i else m) for m, held in enumerate(lists)) for i in range(simulations)
        ]

    def start(self, tree: Tree, noise: Noise) -> None:
        """Make the list."""
        start_root(tree, noise)
        legal = (tree.root(tree.logits) > -torch.inf).sum(1)
        tree.extra["root_considered"] = legal.clamp(max=self.considered)
        if self.held.device != legal.device:
            self.held = self.held.to(legal.device)
        self._keep(tree, tree.root(tree.logits) + tree.extra[GUMBEL], tree.extra["root_considered"])

    def __call__(self, tree: Tree, nodes: Nodes, carry: Any) -> tuple[Tensor, Any]:
        """Scores ``[B, K]`` of the root's edges: few visits first, then the list's order."""
        visits = nodes.edge_visits - tree.extra[BASE]
        turn = visits * tree.edges + tree.extra[ORDER]
        return torch.where(tree.extra[LISTED], -turn, -torch.inf), None

    def after(self, tree: Tree, path: Path) -> None:
        """Halve the list where a phase ends."""
        if not self.halves[tree.simulation]:
            return
        held = self.held[tree.simulation][tree.extra["root_considered"]]
        root = tree.look(tree.rows)
        score = root.logits + tree.extra[GUMBEL] + self.completed(tree, root)
        is_shorter = (held < tree.extra[LISTED].sum(1)).unsqueeze(1)
        before = tree.extra[LISTED], tree.extra[ORDER]
        self._keep(tree, torch.where(before[0], score, -torch.inf), held)
        tree.extra[LISTED] = torch.where(is_shorter, tree.extra[LISTED], before[0])
        tree.extra[ORDER] = torch.where(is_shorter, tree.extra[ORDER], before[1])

    def decide(self, tree: Tree, noise: Noise) -> Decision:
        """The first of those left on the list, and the improved policy."""
        left = torch.where(tree.extra[LISTED], tree.extra[ORDER], tree.edges)
        return Decision(left.argmin(1), improved_root(tree, self.completed))

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """``gumbel``, ``[B, K]``."""
        return {"gumbel": gumbel(shape, generator)}

    @staticmethod
    def _keep(tree: Tree, score: Tensor, count: Tensor) -> None:
        """The best so many by a score, in its order."""
        order = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        tree.extra[ORDER] = order
        tree.extra[LISTED] = order < count.unsqueeze(1)


def start_root(tree: Tree, noise: Noise) -> None:
    """Note a root's Gumbel noise, 0 where there is none, and the visits it begins with."""
    logits = tree.root(tree.logits)
    gumbel = noise.get("gumbel")
    tree.extra[GUMBEL] = torch.zeros_like(logits) if gumbel is None else gumbel.to(logits)
    tree.extra[BASE] = tree.root(tree.edge_visits).clone()


def improved_root(tree: Tree, completed: CompletedValues) -> Tensor:
    """softmax(logits + sigma) at the roots, ``[B, K]``."""
    root = tree.look(tree.rows)
    return (root.logits + completed(tree, root)).softmax(1)
