"""Self-play by a search that a config names."""

from collections.abc import Callable, Mapping
from typing import Any

from torchrl.data import Categorical, OneHot

from wmcomponents.agents.search import (
    TreeSearch,
    efficientzero_search,
    efficientzero_v2_search,
    gumbel_search,
    muzero_search,
    sampled_search,
    unscaled_gumbel_search,
)
from wmcomponents.agents.self_play import SelfPlayAgent, VisitTemperature, check_teachable
from wmcomponents.world_model import WorldModel

SEARCHES: Mapping[str, Callable[..., TreeSearch]] = {
    "muzero": muzero_search,
    "gumbel": gumbel_search,
    "unscaled_gumbel": unscaled_gumbel_search,
    "efficientzero": efficientzero_search,
    "efficientzero_v2": efficientzero_v2_search,
    "sampled": sampled_search,
}
"""By the name that a config takes."""


def self_play_in(
    model: WorldModel,
    *,
    seed: int = 0,
    search: str | Callable[..., TreeSearch] | None = None,
    usual: str = "muzero",
    temperature: Mapping[int, float] | None = None,
    reanalyze: float = 1.0,
    keep_values: bool = True,
    **changes: Any,
) -> SelfPlayAgent:
    """Self-play by a search that is told by its name; arguments as in :meth:`MuZeroAgent.behaviour_in`.

    ``usual`` is the search where none is told and actions are choices.
    """
    check_teachable(model)
    is_choice = isinstance(model.action_spec, (OneHot, Categorical))
    search = search or (usual if is_choice else "sampled")
    if isinstance(search, str) and search not in SEARCHES:
        raise ValueError(f"there is no search {search!r}: choose one of {', '.join(SEARCHES)}, or pass what makes one.")
    make = SEARCHES[search] if isinstance(search, str) else search
    steps = None if temperature is None else VisitTemperature(temperature)
    planning = make(model, **changes)
    return SelfPlayAgent(planning, temperature=steps, reanalyze=reanalyze, keep_values=keep_values, seed=seed)
