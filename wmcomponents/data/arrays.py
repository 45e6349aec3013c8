"""A researcher's own arrays as a replay buffer, in one call."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchrl.data import Composite, ReplayBuffer, TensorSpec

from wmcomponents.codecs import action_spec_from_space, is_space, observation_spec_from_space
from wmcomponents.data.datasets.arrays import Marks, split
from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.kinds import bare_key
from wmcomponents.data.datasets.rows import Chained, Rows
from wmcomponents.data.datasets.steps import steps_of
from wmcomponents.data.folder import BadDataError
from wmcomponents.data.replay import SequenceReplayBuffer, make_replay
from wmcomponents.data.transitions import recorded_spec

Arrays = Any
"""An array (NumPy's, or a tensor), or a list of them, one an episode; of observations also mappings of arrays."""


def from_arrays(
    observations: Arrays,
    actions: Arrays,
    rewards: Arrays | None = None,
    terminated: Arrays | None = None,
    truncated: Arrays | None = None,
    *,
    next_observations: Arrays | None = None,
    observation_space: Any = None,
    action_space: Any = None,
    sequence_length: int = 64,
    batch_size: int = 16,
    storage: Literal["memory", "memmap"] = "memory",
    directory: str | Path | None = None,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    print_fn: Callable[[str], object] | None = print,
) -> SequenceReplayBuffer:
    """A replay buffer, ready to train on, of steps that lie in arrays.

    Either a list with one entry an episode: observations ``[T + 1, ...]`` (what was seen before each action and after
    the last), actions ``[T, ...]``, rewards ``[T]``, terminated one flag (or ``[T]``). Or one array over all episodes:
    actions ``[N, ...]``, rewards ``[N]``, terminated and truncated ``[N]``, and observations ``[N, ...]`` with
    ``next_observations`` beside them, or with one more row at the end of each episode. Action t was taken on seeing
    observation t, and reward t followed it.

    With as many observations as actions and no next ones, what followed the last action of an episode is unknown: an
    episode that terminated keeps its last step, with its last observation shown again; another loses its last action.
    An episode that is open at the end of the arrays is cut there.

    Args:
        observations: an array, or a mapping of arrays by name, or a list of either. Bytes with three colours become
            ``pixels``, another single array ``observation``; other numbers than bytes and flags become float32.
        actions: real numbers, flags, one-hot rows, or whole numbers, which are choices counted from 0.
        rewards: ``[.., 1]`` is taken too. ``None`` where there are none: they are kept as 0.
        terminated: where an episode ended by itself.
        truncated: where an episode was cut.
        next_observations: what was seen after each action, in the form of ``observations``; compared with them.
        observation_space: Gymnasium space or torchrl spec of one observation, where it says more than the numbers do.
        action_space: of one action. If not given, real numbers are bounded by [-1, 1] if that holds them, else by the
            least and the greatest that occur; of choices there are as many as the greatest says.
        sequence_length: T, steps in a sequence that is sampled.
        batch_size: B, sequences in a sample.
        storage: as in :func:`make_replay`.
        directory: as in :func:`make_replay`.
        seed: as in :func:`make_replay`.
        device: as in :func:`make_replay`.
        print_fn: as in :func:`make_replay`.

    Returns:
        The buffer; :func:`save_replay` makes a folder of it that ``wmc train --data`` opens.

    Raises:
        BadDataError: for lengths that do not belong together, ends that nothing marks, NaN, an action outside of its
            box and whatever else does not fit; it says where, what was expected, what came, and what to do.

    Example:
        >>> import numpy as np
        >>> from wmcomponents.data import from_arrays
        >>> episodes = [np.random.randn(length + 1, 3) for length in (30, 50)]
        >>> actions = [np.random.uniform(-1, 1, (length, 2)) for length in (30, 50)]
        >>> rewards = [np.zeros(30), np.zeros(50)]
        >>> replay = from_arrays(episodes, actions, rewards, [True, False], sequence_length=8, print_fn=None)
        >>> len(replay), replay.sample()["observation"].shape
        (80, torch.Size([16, 8, 3]))
    """
    seen_spec, action_spec = _spec_of(observation_space, action_space)
    is_list = isinstance(actions, list | tuple)
    read = _listed if is_list else _flat
    episodes = read(observations, actions, rewards, terminated, truncated, next_observations)
    if seen_spec is not None:
        episodes = [_named_by(seen_spec, episode) for episode in episodes]
    recording = recording_of("these arrays", lambda: episodes, observation_spec=seen_spec, action_spec=action_spec)
    if recording.steps < sequence_length:
        raise BadDataError(
            f"the arrays hold {recording.steps} steps, fewer than one sequence of {sequence_length}: give more, or ask "
            f"for a shorter sequence_length."
        )
    replay = make_replay(
        recording.steps,
        recorded_spec(recording.observation_spec, recording.action_spec),
        sequence_length=sequence_length,
        batch_size=batch_size,
        storage=storage,
        directory=directory,
        seed=seed,
        device=device,
        print_fn=print_fn,
    )
    for steps in steps_of(recording):
        ReplayBuffer.extend(replay, steps.to(device))
    return replay


def _spec_of(observed: Any, action: Any) -> tuple[Composite | None, TensorSpec | None]:
    if is_space(observed):
        observed = observation_spec_from_space(observed)
    if observed is not None and not isinstance(observed, Composite):
        raise TypeError(f"observation_space is a Gymnasium space or a Composite spec; got {type(observed).__name__}.")
    if is_space(action):
        action = action_spec_from_space(action)
    if action is not None and not isinstance(action, TensorSpec):
        raise TypeError(f"action_space is a Gymnasium space or a torchrl spec; got {type(action).__name__}.")
    return observed, action


def _named_by(spec: Composite, episode: EpisodeRows) -> EpisodeRows:
    """A single observation gets the name that its spec has."""
    if len(episode.observations) == 1 and len(list(spec.keys())) == 1:
        rows = next(iter(episode.observations.values()))
        key = str(next(iter(spec.keys())))
        return EpisodeRows({key: rows}, episode.actions, episode.rewards, episode.terminated, episode.where)
    return episode


def _flat(
    observations: Any, actions: Any, rewards: Any, terminated: Any, truncated: Any, following: Any
) -> list[EpisodeRows]:
    took = _array("actions", actions)
    if isinstance(observations, list | tuple):
        raise BadDataError(
            f"observations are a list of {len(observations)}, and actions one array {list(took.shape)}: give lists of "
            f"both, one array an episode, or one array of both."
        )
    marks = (
        None if value is None else _flag(name, value)
        for name, value in (("terminated", terminated), ("truncated", truncated))
    )
    return split(
        _observations(observations),
        took,
        None if rewards is None else _array("rewards", rewards),
        marks=Marks(*marks),
        following=None if following is None else _observations(following),
        where="the data",
    )


def _listed(
    observations: Any, actions: Any, rewards: Any, terminated: Any, truncated: Any, following: Any
) -> list[EpisodeRows]:
    given = {
        "observations": observations,
        "rewards": rewards,
        "terminated": terminated,
        "truncated": truncated,
        "next_observations": following,
    }
    for name, value in given.items():
        if value is not None and (not hasattr(value, "__len__") or isinstance(value, Mapping)):
            raise BadDataError(f"actions are a list of episodes, and {name} is none: one entry for each is expected.")
        if value is not None and len(value) != len(actions):
            raise BadDataError(
                f"actions are a list of {len(actions)} episodes, and {name} has {len(value)} entries: one for each "
                f"is expected."
            )
    if not len(actions):
        raise BadDataError("actions are an empty list: there is no episode.")
    found = []
    for number, took in enumerate(actions):
        where = f"episode {number}"
        action = _array(f"{where}: actions", took)
        shown = _observations(observations[number])
        if following is not None:
            after = _observations(following[number])
            shown = {key: Chained(rows, after[key], where) for key, rows in shown.items()}
        count = len(action) if action.ndim else 0
        ends = [
            flag is not None and _ends_it(f"{where}: {name}", flag[number], count)
            for name, flag in (("terminated", terminated), ("truncated", truncated))
        ]
        earned = None if rewards is None else _array(f"{where}: rewards", rewards[number])
        found.append(EpisodeRows(shown, action, earned, ends[0], where))
    return found


def _ends_it(where: str, flag: Any, count: int) -> bool:
    """Whether an episode's own flags say so; in its middle none may."""
    flags = _array(where, flag)
    if flags.ndim == 0:
        return bool(flags)
    flags = _flag(where, flags)
    if len(flags) not in (1, count):
        raise BadDataError(f"{where} has {len(flags)} flags for {count} actions: expected one, or one for each action.")
    if flags[:-1].any():
        step = int(np.argmax(flags))
        raise BadDataError(
            f"{where} at step {step} of {count}, and an episode ends there: split it, so that each entry of the lists "
            f"is one episode."
        )
    return bool(flags[-1])


def _observations(given: Any) -> dict[str, Rows]:
    if isinstance(given, Mapping):
        if not given:
            raise BadDataError("observations are an empty mapping: there is nothing to observe.")
        return {str(name): _rows(f"observation {name!r}", value) for name, value in given.items()}
    rows = _rows("observations", given)
    return {bare_key(rows): rows}


def _rows(name: str, given: Any) -> np.ndarray:
    array = _array(name, given)
    if array.ndim == 0:
        raise BadDataError(f"{name} is a single number; expected one row for each moment.")
    return array


def _flag(name: str, given: Any) -> np.ndarray:
    flags = _array(name, given)
    return flags.reshape(-1) if flags.shape[1:] in ((), (1,)) else flags


def _array(name: str, given: Any) -> np.ndarray:
    try:
        array = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadDataError(
            f"{name} is no array of numbers ({error}): episodes of unequal length are given as a list of arrays, for "
            f"observations, actions and all the rest alike."
        ) from error
    if array.dtype.kind not in "biuf":
        raise BadDataError(f"{name} is an array of {array.dtype}; expected numbers.")
    return array
