"""A recording of episodes that can be read by slices."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torchrl.data import Composite, TensorSpec

from wmcomponents.data.datasets.kinds import ActionScan, observation_spec_of
from wmcomponents.data.datasets.recording import Piece, Recording
from wmcomponents.data.datasets.rows import Rows, checked_length, episode_pieces, steps_of_rows
from wmcomponents.data.folder import BadDataError


@dataclass(frozen=True)
class EpisodeRows:
    """One episode, not yet read.

    Attributes:
        observations: by key, ``[T + 1, ...]``, or ``[T, ...]`` (:func:`episode_pieces`).
        actions: ``[T, ...]``.
        rewards: ``[T]`` or ``[T, 1]``; ``None`` if there are none.
        terminated: whether it ended by itself.
        where: what it is called in an error.
    """

    observations: Mapping[str, Rows]
    actions: Rows
    rewards: Rows | None
    terminated: bool
    where: str


def recording_of(
    name: str,
    episodes: Callable[[], Iterable[EpisodeRows]],
    *,
    observation_spec: Composite | None = None,
    action_spec: TensorSpec | None = None,
    notes: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
) -> Recording:
    """Look at the lengths and the actions of all episodes, and describe them.

    Args:
        name: what the data are called.
        episodes: begins to list them; each call from the start.
        observation_spec: what the numbers of the first episode say, if not given.
        action_spec: what all actions say, if not given.
        notes: see :class:`Recording`.
        facts: see :class:`Recording`.

    Raises:
        BadDataError: if there is no episode, or one whose lengths do not belong together.
    """
    scan, steps, count, cut = ActionScan(f"the actions of {name}"), 0, 0, 0
    has_rewards = True
    for episode in episodes():
        actions = checked_length(episode.observations, episode.actions, episode.rewards, episode.where)
        seen = next(iter(episode.observations.values())).shape[0]
        took = steps_of_rows(seen, actions, episode.terminated)
        if took < 1:  # a single moment: nothing followed it
            continue
        if observation_spec is None:
            observation_spec = observation_spec_of(episode.observations)
        if action_spec is None:
            scan.add(episode.actions, episode.where)
        steps, count, cut = steps + took, count + 1, cut + (seen == actions)
        has_rewards = has_rewards and episode.rewards is not None
    if observation_spec is None or not count:
        raise BadDataError(f"{name} holds no episode of at least one step.")
    if action_spec is None:
        action_spec, notes = scan.spec(), (*notes, *scan.notes)
    if cut:
        notes = (*notes, LAST_IS_MISSING)
    if not has_rewards:
        notes = (*notes, NO_REWARDS)

    def pieces() -> Iterator[Piece]:
        for episode in episodes():
            yield from episode_pieces(
                episode.observations,
                episode.actions,
                episode.rewards,
                terminated=episode.terminated,
                where=episode.where,
            )

    return Recording(name, observation_spec, action_spec, steps, pieces, count, notes, facts)


def succeeded(rewards: Rows | None) -> bool:
    """Whether an episode of which is known that it is done, and not why, terminated: if its last reward is positive.

    Args:
        rewards: of the episode.
    """
    if rewards is None or not rewards.shape or not rewards.shape[0]:
        return False
    count = rewards.shape[0]
    return bool((np.asarray(rewards[count - 1 : count]) > 0).all())


LAST_IS_MISSING = (
    "What followed the last action of an episode was not recorded: that action is left out, and where the episode "
    "terminated, its last observation stands twice."
)
NO_REWARDS = "There are no rewards: they are kept as 0, and what a model says of rewards means nothing."
