"""The simulations of a search: what each of them draws, and how they follow each other, eagerly or compiled."""

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from wmcomponents.agents.search.tree import Path, Tree
from wmcomponents.world_model import Noise

TIE = 1e-7
"""Of the noise that decides between equal edges."""

LEAST_LEVELS = 4
"""Of a compiled path: shorter ones are filled up, so that few lengths are compiled."""


class SearchNoise(NamedTuple):
    """All that is random in one search, as base noise.

    Attributes:
        root: ``dirichlet`` and ``gumbel`` of the roots and ``choice`` of the final action (Gumbel), ``[B, K]`` each.
        ties: uniform, ``[B, S, K]``: which of several equal edges a simulation takes; without it the first.
        edges: of sampled actions, ``[B, 1 + S, ...]``: the root's first, then of each simulation's leaf.
        model: the model's z of each simulation, ``[B, S, ...]``.
    """

    root: Noise = {}  # noqa: RUF012
    ties: Tensor | None = None
    edges: Tensor | None = None
    model: Noise | None = None


class Draws(NamedTuple):
    """All that is random in one simulation of each root.

    Attributes:
        ties: what is added to the scores of edges, ``[B, K]``; ``None`` for nothing.
        next_ties: the same in the next simulation.
        edges: of sampled actions, of the leaf.
        model: the model's z, ``[B, ...]``.
        is_last: whether no simulation follows.
    """

    ties: Tensor | None
    next_ties: Tensor | None
    edges: Tensor | None
    model: Noise | None
    is_last: bool


class Search(Protocol):
    """A tree search, as far as its simulations know it."""

    simulations: int
    max_depth: int | None
    selection: Any

    def simulate(self, tree: Tree, draws: Draws, levels: int | None = None) -> Path:
        """One simulation, along a path of so many levels, or of as many as it takes."""
        ...


class Simulations(Protocol):
    """Does all simulations of a search."""

    def __call__(self, search: Search, tree: Tree, noise: SearchNoise) -> None:
        """From a planted tree."""
        ...


def draws_of(noise: SearchNoise, simulations: int) -> Iterator[Draws]:
    """What each simulation draws, one after the other.

    Args:
        noise: of the whole search.
        simulations: of the search.
    """
    ties = [None] * simulations if noise.ties is None else (TIE * noise.ties.transpose(0, 1)).contiguous().unbind()
    for s in range(simulations):
        model = None if noise.model is None else {key: value[:, s] for key, value in noise.model.items()}
        edges = None if noise.edges is None else noise.edges[:, 1 + s]
        is_last = s + 1 == simulations
        yield Draws(ties[s], ties[s if is_last else s + 1], edges, model, is_last)


def simulated_one_by_one(search: Search, tree: Tree, noise: SearchNoise) -> None:
    """All simulations of a search, eagerly: each path as long as it is."""
    for simulation, draws in enumerate(draws_of(noise, search.simulations)):
        tree.begin(simulation)
        search.simulate(tree, draws)


def one_simulation(search: Search, tree: Tree, draws: Draws, levels: int) -> None:
    """A simulation along a path of a fixed length, which compiles as one graph.

    Args:
        search: whose rule is local.
        tree: the trees, which grow.
        draws: of the simulation.
        levels: of the path.
    """
    search.simulate(tree, draws, levels)


class CompiledSimulations:
    """All simulations of a search, each of them one graph: ``search.run = CompiledSimulations()``.

    A path is filled up to 4, 8, 16, ... levels, and each such length is compiled once for each number of roots, with
    masks and without: some ten seconds the first time, which searches without end pay back, and a few do not. What is
    found is what an eager search finds, but for rounding, which may decide between edges that are as good as equal.

    Each search has one of its own; where it is asked for more than eight graphs torch says so, and
    ``torch._dynamo.config.recompile_limit`` allows more.

    Args:
        **options: of ``torch.compile``; ``dynamic=False`` and ``fullgraph=True`` unless given.

    Raises:
        ValueError: when it is called, if the search's rule is not local: its descent branches on what the tree holds.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.agents.search import CompiledSimulations, gumbel_search
        >>> from wmcomponents.models import MuZero, MuZeroConfig
        >>> model = MuZero(MuZeroConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> search = gumbel_search(model, simulations=50)
        >>> search.run = CompiledSimulations()
    """

    def __init__(self, **options: Any) -> None:
        # Graphs are kept by code: with code of its own no search meets the graphs of another one's model.
        own = FunctionType(one_simulation.__code__.replace(), one_simulation.__globals__)
        self._step: Callable[..., None] = torch.compile(own, **{"dynamic": False, "fullgraph": True, **options})

    def __call__(self, search: Search, tree: Tree, noise: SearchNoise) -> None:
        """From a planted tree; the first simulation eagerly, since it makes room for what the model's states hold."""
        if not search.selection.is_local:
            raise ValueError(
                f"{type(search.selection).__name__} scales values by the whole tree, so that a descent cannot be one "
                f"graph: compile a search with a local rule, such as gumbel_search or mctx_muzero_search."
            )
        depth, levels = 0, 0
        for simulation, draws in enumerate(draws_of(noise, search.simulations)):
            tree.begin(simulation)
            if simulation == 0:
                search.simulate(tree, draws)
                depth = int(tree.depth.amax())
                continue
            if depth + 1 > levels:  # the longest path there may be: now is the time to ask how long it really is
                depth = int(tree.depth.amax())
                levels = self._levels(depth + 1, search.max_depth)
            self._step(search, tree, draws._replace(is_last=False), levels)
            depth += 1

    @staticmethod
    def _levels(needed: int, most: int | None) -> int:
        levels = max(LEAST_LEVELS, 1 << (needed - 1).bit_length())
        return levels if most is None else min(levels, most)
