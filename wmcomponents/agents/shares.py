"""Which of several processes keeps what of an online run: its replay buffer, its open episodes, its generators."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from wmcomponents.agents.bundle import part_of
from wmcomponents.agents.draws import draws_of, own_draws
from wmcomponents.data import load_replay
from wmcomponents.data.replay import SequenceReplayBuffer, append_replay
from wmcomponents.training import Ranks
from wmcomponents.training.nested_state import load_nested


class Share(NamedTuple):
    """What a process goes on with.

    Attributes:
        written_by: how many processes wrote the bundle.
        real: its open episodes; ``None`` if it was not among them.
        experience: state of the generator of its dreams' starts.
        draws: states of the agent's generators, by where they stand in its state.
        sampler: the priorities of its steps; ``None`` where they are read in another order than they were written in.
    """

    written_by: int
    real: Any
    experience: Any
    draws: Mapping[str, Tensor]
    sampler: Any = None


def share_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a process that is not the first keeps of its state.

    Args:
        state: as the first one keeps it whole.
    """
    own = {name: state[name] for name in ("real", "experience", "sampler")}
    return {**own, "draws": draws_of(state["agent"])}


def of_rank(state: Mapping[str, Any], folder: Path, ranks: Ranks, seed: int) -> Share:
    """What this process goes on with.

    Args:
        state: of the first one, from the bundle.
        folder: of the bundle.
        ranks: the processes that go on.
        seed: of the run.
    """
    count = int(state.get("ranks", 1))
    is_split = ranks.rank + ranks.count < count  # it takes further shares
    if ranks.is_first:
        return Share(count, state["real"], state["experience"], {}, None if is_split else state.get("sampler"))
    if ranks.rank < count:
        own = load_nested(part_of(folder, ranks.rank) / "agent.safetensors")
        return Share(count, own["real"], own["experience"], own["draws"], None if is_split else own["sampler"])
    begun = int(re.sub(r"\D", "", folder.name) or 0)  # another moment, other draws
    return Share(count, None, None, own_draws(state["agent"], ranks, seed + begun))


def load_shares(replay: SequenceReplayBuffer, folder: Path, written_by: int, ranks: Ranks) -> None:
    """Fill a replay buffer from the shares of a bundle: every one is in some buffer, and no buffer is empty.

    Share s goes to process s modulo their number; of more processes than shares, each takes one that another has too.

    Args:
        replay: the buffer; where it has no room for all, the oldest steps of those that are read first are dropped.
        folder: of the bundle.
        written_by: how many processes wrote it.
        ranks: the processes that read it.
    """
    own = ranks.rank % written_by
    others = range(ranks.rank + ranks.count, written_by, ranks.count)
    if not others and ranks.rank < written_by:
        load_replay(replay, part_of(folder, own) / "data")
        return
    replay.empty()
    for share in others:
        append_replay(replay, part_of(folder, share) / "data")
    # Its own last: the episode that is open there goes on.
    append_replay(replay, part_of(folder, own) / "data", goes_on=ranks.rank < written_by)
