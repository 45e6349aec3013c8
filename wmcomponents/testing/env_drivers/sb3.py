"""A Stable-Baselines3 ``VecEnv``."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from wmcomponents.testing.env_drivers.gymnasium_env import FIT
from wmcomponents.testing.env_drivers.player import DreamProbe, Played, Player, Rows, flat_rows
from wmcomponents.testing.env_drivers.spaces import infinite, violation
from wmcomponents.testing.report import Clause, Failure


class SB3Player(Player):
    """Plays a ``VecEnv``, whose rows begin anew in the step that ends them."""

    library = "stable_baselines3 VecEnv"

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env = env
        self.rows = int(env.num_envs)
        self._restarted: list[bool] = []

    def seed(self, seed: int | None) -> None:
        """Kept by the environment for the next reset."""
        if seed is not None:
            self.env.seed(seed)

    def reset(self) -> Rows:
        """Reset every row."""
        return self._seen("reset", self.env.reset())

    def step(self, action: Any) -> Played:
        """Step every row."""
        observation, rewards, dones, infos = self.env.step(action)
        seen = self._seen("step", observation)
        if not isinstance(rewards, np.ndarray) or rewards.shape != (self.rows,) or rewards.dtype != np.float32:
            got = f"{getattr(rewards, 'dtype', type(rewards).__name__)} {np.shape(rewards)}"
            self.note("reward/layout", "step", f"float32 of shape ({self.rows},)", got, "one float32 for each row.")
        elif not np.isfinite(rewards).all():
            self.note("values/finite", "step: rewards", "finite numbers", f"{rewards}", "mend the model.")
        if not isinstance(dones, np.ndarray) or dones.shape != (self.rows,) or dones.dtype != bool:
            got = f"{getattr(dones, 'dtype', type(dones).__name__)} {np.shape(dones)}"
            self.note("flags/layout", "step", f"bools of shape ({self.rows},)", got, "one bool for each row.")
        done = np.asarray(dones, dtype=bool).reshape(self.rows)
        cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        self._infos(seen, infos, done)
        rewards = np.asarray(rewards, dtype=np.float64).reshape(self.rows)
        return Played(seen, rewards, done & ~cut, done & cut, done)

    def actions(self, count: int, seed: int) -> list[Any]:
        """Samples of a copy of the action space, one for each row."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(seed)
        return [np.stack([np.asarray(space.sample()) for _ in range(self.rows)]) for _ in range(count)]

    def altered(self, action: Any, other: Any, row: int) -> Any:
        """One row from the other action."""
        changed = np.array(action)
        changed[row] = other[row]
        return changed

    def clauses(self) -> tuple[Clause[DreamProbe], ...]:
        """What ``VecEnv`` adds: the infos of a row that ended."""
        return (
            Clause(("sb3/infos",), lambda probe: probe.found("sb3/infos")),
            Clause(("sb3/terminal-observation",), _terminal_observation),
            Clause(("sb3/time-limit",), _time_limit),
        )

    def _seen(self, where: str, observation: Any) -> Rows:
        self.hand(f"{where}: observation", observation)
        rows = flat_rows(observation)
        for i in range(self.rows):
            wrong = violation(self.env.observation_space, _row(observation, i))
            if wrong:
                expected = f"rows in {self.env.observation_space}"
                self.note("spaces/observation", where, expected, wrong, FIT)
        if infinite(rows):
            self.note("values/finite", where, "finite numbers", f"{infinite(rows)}: NaN or infinite", "mend the model.")
        return rows

    def _infos(self, seen: Rows, infos: Any, done: np.ndarray) -> None:
        fresh = isinstance(infos, (list, tuple)) and len({id(info) for info in infos}) == self.rows
        if not fresh or not all(isinstance(info, dict) for info in infos):
            got = f"{type(infos).__name__} of {len(infos)}"
            self.note(
                "sb3/infos", "step", f"a list of {self.rows} dicts of their own", got, "one new dict for each row."
            )
            return
        for i, info in enumerate(infos):
            if (info.get("terminal_observation") is not None) != bool(done[i]):
                self._terminal("none at the end of an episode" if done[i] else "one in the middle of an episode")
            if done[i]:
                self._ended(info, {key: rows[i] for key, rows in seen.items()})
            elif info.get("TimeLimit.truncated", False):
                self._limit("True where no episode ended")

    def _ended(self, info: dict[str, Any], first: Rows) -> None:
        """What the info of an ended episode says, beside the first observation of the next one."""
        if not isinstance(info.get("TimeLimit.truncated"), (bool, np.bool_)):
            self._limit(f"{info.get('TimeLimit.truncated')!r}")
        final = info.get("terminal_observation")
        if final is None:
            return
        wrong = violation(self.env.observation_space, final, "terminal_observation")
        if wrong:
            self._terminal(wrong)
        self.hand("step: terminal_observation", final)
        last = flat_rows(final)
        self._restarted.append(any(not np.array_equal(last[key], first[key]) for key in last if key in first))

    def _terminal(self, got: str) -> None:
        self.note(
            "sb3/terminal-observation",
            "step",
            "infos[i]['terminal_observation'], the last observation of the episode, exactly where dones[i]",
            got,
            "keep the observation from before the reset; the observation returned is the new episode's first.",
        )

    def _limit(self, got: str) -> None:
        self.note(
            "sb3/time-limit",
            "step",
            "infos[i]['TimeLimit.truncated'], a bool, where dones[i]: truncated and not terminated",
            got,
            "set it at every end: without it SB3 takes a cut-off for an end, and values are biased.",
        )

    @property
    def restarted(self) -> list[bool]:
        """For each episode that ended: whether the observation returned differs from the terminal one."""
        return self._restarted


def _terminal_observation(probe: DreamProbe) -> Iterator[Failure]:
    probe.ended()
    yield from probe.found("sb3/terminal-observation")
    player = probe.player
    if isinstance(player, SB3Player) and player.restarted and not any(player.restarted):
        yield Failure(
            "sb3/terminal-observation",
            "step",
            "the observation returned is the new episode's first, the terminal one is the old episode's last",
            "they are always equal",
            "reset the row before returning its observation, and keep the one from before in the infos.",
        )


def _time_limit(probe: DreamProbe) -> list[Failure]:
    probe.ended()
    return probe.found("sb3/time-limit")


def _row(observation: Any, index: int) -> Any:
    if isinstance(observation, dict):
        return {key: _row(value, index) for key, value in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_row(value, index) for value in observation)
    return observation[index]
