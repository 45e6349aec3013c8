"""Returns and lengths of episodes in a vector environment."""

import time
from typing import Any

import numpy as np

from wmcomponents._extras import require

gymnasium = require("gymnasium", extra="gym")

from gymnasium.utils import RecordConstructorArgs  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402

from wmcomponents.integrations.gymnasium.rows import keeps_autoreset_through_reset  # noqa: E402


class EpisodeStatistics(gymnasium.vector.VectorWrapper, RecordConstructorArgs):
    """Returns and lengths of finished episodes, exact in all three autoreset modes.

    Where a row is done, ``infos["episode"]`` holds its return ``"r"``, its length ``"l"`` and its seconds ``"t"``, with
    the mask ``infos["_episode"]``, in the layout of Gymnasium's ``RecordEpisodeStatistics`` (which loses the first step
    of each episode but the first in ``SAME_STEP``). NumPy only.

    Args:
        env: the vector environment.
    """

    def __init__(self, env: VectorEnv) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.vector.VectorWrapper.__init__(self, env)
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._marks_stay = keeps_autoreset_through_reset(env)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._begun = np.full(env.num_envs, time.perf_counter())
        self._done = np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, and the counts of the rows that begin anew."""
        mask = (options or {}).get("reset_mask")
        begun = np.ones(self.num_envs, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        self._forget(begun)
        if not self._marks_stay:
            self._done = self._done & ~begun
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environment and tell of the episodes that end."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if self._mode is AutoresetMode.NEXT_STEP:
            self._forget(self._done)  # such a row has only been reset: its step counts for neither episode
            moved = ~self._done
        else:
            moved = np.ones(self.num_envs, dtype=bool)
        self._returns += np.where(moved, reward, 0.0)
        self._lengths += moved
        done = np.asarray(terminated) | np.asarray(truncated)
        if done.any():
            seconds = np.round(time.perf_counter() - self._begun, 6)
            told = {"r": self._returns, "l": self._lengths, "t": seconds}
            episode = {name: np.where(done, values, 0) for name, values in told.items()}
            info = {**info, "episode": episode, "_episode": done.copy()}
        if self._mode is AutoresetMode.SAME_STEP:
            self._forget(done)
        self._done = done
        return observation, reward, terminated, truncated, info

    def _forget(self, rows: np.ndarray) -> None:
        self._returns[rows], self._lengths[rows], self._begun[rows] = 0.0, 0, time.perf_counter()
