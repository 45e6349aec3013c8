"""What every source of data is read as: what its steps are, how many there are, and the steps themselves, in pieces."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torchrl.data import Composite, TensorSpec

PIECE_BYTES = 2**23
"""What a piece holds, about: memory stays flat however long an episode is."""


@dataclass(frozen=True)
class Piece:
    """Consecutive steps of one episode: all of it, or a part that the next piece goes on from.

    Step ``t`` took ``actions[t]`` on seeing ``observations[t]`` and was followed by ``observations[t + 1]`` and
    ``rewards[t]``. A piece that goes on from another begins with the observation that the other ended with.

    Attributes:
        observations: by key, ``[n + 1, ...]`` each.
        actions: ``[n, ...]``, as the action's spec says, or numbers of choices.
        rewards: ``[n]``; ``None`` where there are none, which are kept as 0.
        terminated: whether the episode ended in the last observation by itself.
        truncated: whether it was cut there. Neither: the next piece goes on.
    """

    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray | None = None
    terminated: bool = False
    truncated: bool = False

    def __len__(self) -> int:
        """Steps."""
        return len(self.actions)


@dataclass(frozen=True)
class Recording:
    """Episodes that lie somewhere, described before they are read.

    Attributes:
        name: what the data are called; stands where collected data name their environment.
        observation_spec: of one observation.
        action_spec: of one action.
        steps: how many there are, for the size and the progress; what is read may differ a little.
        episodes: how many there are; ``None`` if that is not known before.
        pieces: begins to read; each call from the start.
        notes: what whoever trains on the data should know, in sentences.
        facts: more that is kept with the data, plain JSON.
    """

    name: str
    observation_spec: Composite
    action_spec: TensorSpec
    steps: int
    pieces: Callable[[], Iterator[Piece]]
    episodes: int | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None
