"""A search that goes on with what the last move's search found."""

from typing import Protocol

from torch import Tensor

from wmcomponents.agents.search.search import Plan, SearchNoise, TreeSearch
from wmcomponents.agents.search.tree import Tree
from wmcomponents.world_model import State


class Planning(Protocol):
    """What plans from states: a search, or one that goes on."""

    @property
    def search(self) -> TreeSearch:
        """The search that does it."""
        ...

    def plan(
        self,
        state: State,
        *,
        mask: Tensor | None = None,
        noise: SearchNoise | None = None,
        is_init: Tensor | None = None,
    ) -> Plan:
        """Search from states, see :meth:`TreeSearch.plan`."""
        ...


class ContinuedSearch:
    """Keeps the subtree of the action that was chosen, whose visits count on in the next search.

    It belongs to one run of one environment: every call is the move after the last one. Where ``is_init`` says so, or
    after :meth:`forget`, a row begins with an empty tree. What was found below an action was dreamt from an earlier
    observation; with a model that is much wrong, a fresh search is the better one.

    Args:
        search: the search.

    Raises:
        ValueError: if what the search keeps of a tree does not hold for its subtrees.
    """

    def __init__(self, search: TreeSearch) -> None:
        if not search.selection.can_reuse:
            raise ValueError(
                "this search keeps what holds for whole trees only, the authors' walk or its prefixes: go on with "
                "lightzero_search, which is the same search as the paper means it."
            )
        self.search = search
        self.tree: Tree | None = None

    def plan(
        self,
        state: State,
        *,
        mask: Tensor | None = None,
        noise: SearchNoise | None = None,
        is_init: Tensor | None = None,
    ) -> Plan:
        """Search from states ``[*B, ...]`` and take the chosen action's subtree along; see :meth:`TreeSearch.plan`."""
        plan = self.search.plan(state, mask=mask, noise=noise, reuse=self.tree, is_init=is_init)
        self.tree = plan.tree.subtree(plan.edge.reshape(-1))
        return plan

    def play(self, edge: Tensor) -> None:
        """Somebody else moved: go on below that edge of each root, int64 ``[*B]``."""
        if self.tree is not None:
            self.tree = self.tree.subtree(edge.reshape(-1))

    def forget(self) -> None:
        """Begin the next search with empty trees."""
        self.tree = None
