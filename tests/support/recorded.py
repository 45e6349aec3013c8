"""Episodes that are known step by step, and what a reader must make of them."""

from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDict

from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.steps import steps_of


class Known(NamedTuple):
    """One episode: ``[T + 1, ...]`` observed, ``[T, ...]`` done, ``[T]`` earned."""

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


def vectors(lengths, terminated, *, seed=0, size=3) -> list[Known]:
    """Episodes of vectors, with two numbers an action in [-1, 1]."""
    rng = np.random.default_rng(seed)
    return [
        Known(
            {"observation": rng.normal(size=(length + 1, size)).astype(np.float32)},
            rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            rng.normal(size=length).astype(np.float32),
            bool(died),
        )
        for length, died in zip(lengths, terminated, strict=True)
    ]


def expected(episodes: list[Known]) -> TensorDict:
    """The steps of these episodes, one behind the other."""
    found = []
    for known in episodes:
        count = len(known.actions)
        flags = {
            name: torch.zeros(count, 1, dtype=torch.bool) for name in ("is_init", "terminated", "truncated", "done")
        }
        flags["is_init"][0] = True
        flags["terminated" if known.terminated else "truncated"][-1] = True
        flags["done"][-1] = True
        seen = {key: torch.from_numpy(value) for key, value in known.observations.items()}
        following = {key: value[1:] for key, value in seen.items()}
        following["reward"] = torch.from_numpy(np.asarray(known.rewards, np.float32))[:, None]
        following.update({name: flags.pop(name) for name in ("terminated", "truncated", "done")})
        now = {key: value[:-1] for key, value in seen.items()}
        found.append(
            TensorDict({**now, **flags, "action": torch.from_numpy(known.actions), "next": following}, [count])
        )
    return torch.cat(found)


def cut_short(known: Known) -> Known:
    """What is left of an episode whose last observation was not recorded."""
    if known.terminated:
        kept = {key: np.concatenate([value[:-1], value[-2:-1]]) for key, value in known.observations.items()}
        return known._replace(observations=kept)
    kept = {key: value[:-1] for key, value in known.observations.items()}
    return known._replace(observations=kept, actions=known.actions[:-1], rewards=known.rewards[:-1])


def read(recording: Recording) -> TensorDict:
    """All steps of a recording."""
    return torch.cat(list(steps_of(recording)))


def check(recording: Recording, episodes: list[Known]) -> None:
    """A recording holds these episodes, and said so before it was read."""
    steps, wanted = read(recording), expected(episodes)
    assert recording.steps == len(wanted) and recording.episodes == len(episodes)
    same(steps, wanted)


def same(steps: TensorDict, wanted: TensorDict) -> None:
    """Two runs of steps are the same to the bit."""
    assert set(steps.keys(True, True)) == set(wanted.keys(True, True))
    for key in wanted.keys(True, True):
        assert steps[key].dtype == wanted[key].dtype and torch.equal(steps[key], wanted[key]), key
