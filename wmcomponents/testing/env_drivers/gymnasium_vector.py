"""A ``gymnasium.vector.VectorEnv`` in each of its autoreset modes."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from wmcomponents.testing.env_drivers.gymnasium_env import FIT
from wmcomponents.testing.env_drivers.player import DreamProbe, Played, Player, Rows, array, flat_rows, same
from wmcomponents.testing.env_drivers.spaces import infinite, violation
from wmcomponents.testing.report import Clause, Failure

SAMPLES = 20
"""Actions drawn to find one that differs from a given one."""


class GymnasiumVectorPlayer(Player):
    """Plays a vector environment; with ``DISABLED``, resets the rows that ended."""

    library = "gymnasium.vector.VectorEnv"

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env = env
        self.rows = int(env.num_envs)
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        self._seed: int | None = None
        self._done = np.zeros(self.rows, dtype=bool)

    def seed(self, seed: int | None) -> None:
        """Kept for the next reset."""
        self._seed = seed

    def reset(self) -> Rows:
        """Reset every row."""
        observation, _ = self.env.reset(seed=self._seed)
        self._seed = None
        self._done = np.zeros(self.rows, dtype=bool)
        return self._seen("reset", observation)

    def step(self, action: Any) -> Played:
        """Step every row, and look at how ended rows begin anew."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen = self._seen("step", observation)
        self._layout(reward, terminated, truncated)
        rewards = array(reward).astype(np.float64).reshape(self.rows)
        ended = array(terminated).astype(bool).reshape(self.rows)
        cut = array(truncated).astype(bool).reshape(self.rows)
        done, pending, self._done = ended | cut, self._done, ended | cut
        if self.mode is AutoresetMode.NEXT_STEP:
            self._next_step(rewards, done, pending)
            return Played(seen, rewards, ended, cut, pending)
        if self.mode is AutoresetMode.SAME_STEP:
            self._same_step(seen, info, done)
        elif done.any():
            seen = self._masked_reset(seen, done)
        return Played(seen, rewards, ended, cut, done)

    def actions(self, count: int, seed: int) -> list[Any]:
        """Samples of a copy of the batched action space."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(seed)
        return [space.sample() for _ in range(count)]

    def altered(self, action: Any, other: Any, row: int) -> Any:
        """One row from the other action."""
        if isinstance(action, dict):
            return {key: self.altered(action[key], other[key], row) for key in action}
        changed = np.array(action)
        changed[row] = other[row]
        return changed

    def clauses(self) -> tuple[Clause[DreamProbe], ...]:
        """The spaces of one row and of all, and the autoreset mode."""
        noted = ("autoreset/next-step", "autoreset/same-step", "autoreset/disabled")
        clause = noted[[AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED].index(self.mode)]
        return (
            Clause(("spaces/batched",), _batched),
            Clause((clause,), _ignored_action if self.mode is AutoresetMode.NEXT_STEP else _autoreset(clause)),
        )

    def _seen(self, where: str, observation: Any) -> Rows:
        self.hand(f"{where}: observation", observation)
        wrong = violation(self.env.observation_space, observation)
        if wrong:
            self.note("spaces/observation", where, f"observations in {self.env.observation_space}", wrong, FIT)
        rows = flat_rows(observation)
        if infinite(rows):
            self.note("values/finite", where, "finite numbers", f"{infinite(rows)}: NaN or infinite", "mend the model.")
        return rows

    def _layout(self, reward: Any, terminated: Any, truncated: Any) -> None:
        values = array(reward)
        if values.shape != (self.rows,) or values.dtype.kind != "f":
            expected = f"floats of shape ({self.rows},)"
            self.note("reward/layout", "step", expected, f"{values.dtype} {values.shape}", "one float for each row.")
        elif not np.isfinite(values).all():
            self.note("values/finite", "step: reward", "finite numbers", f"{values}", "mend the model.")
        for name, flag in (("terminated", array(terminated)), ("truncated", array(truncated))):
            if flag.shape != (self.rows,) or flag.dtype != bool:
                got = f"{name} is {flag.dtype} {flag.shape}"
                self.note("flags/layout", "step", f"bools of shape ({self.rows},)", got, "one bool for each row.")

    def _next_step(self, rewards: np.ndarray, done: np.ndarray, pending: np.ndarray) -> None:
        if (rewards[pending] != 0).any() or done[pending].any():
            self.note(
                "autoreset/next-step",
                "the step after the one that ended a row",
                "this row's first observation with reward 0 and both flags false",
                f"rewards {rewards[pending]}, done {done[pending]}",
                "in NEXT_STEP mode the step after an end only resets the row.",
            )

    def _same_step(self, seen: Rows, info: dict[str, Any], done: np.ndarray) -> None:
        mask = array(info["_final_obs"]).astype(bool) if "_final_obs" in info else np.zeros(self.rows, dtype=bool)
        problem, single = "", self.env.single_observation_space
        if not np.array_equal(mask, done):
            problem = f"_final_obs {mask} where the ended rows are {done}"
        elif done.any() and "final_obs" not in info:
            problem = "no final_obs"
        restarted = not done.any()
        for i in np.flatnonzero(done) if not problem else []:
            final = _row(info["final_obs"], int(i))
            problem = problem or violation(single, final, "final_obs")
            last = flat_rows(final)
            restarted |= any(not np.array_equal(last[key], seen[key][i]) for key in last if key in seen)
            self.hand("step: final_obs", final)
        if not problem and not restarted:
            problem = "the observation returned is the final one"
        if problem:
            self.note(
                "autoreset/same-step",
                "the step that ends a row",
                "the first observation of the new episode; the last one of the old in infos['final_obs'], its mask in "
                "infos['_final_obs']",
                problem,
                "in SAME_STEP mode reset ended rows before returning, and keep their last observation in the infos.",
            )

    def _masked_reset(self, seen: Rows, done: np.ndarray) -> Rows:
        observation, _ = self.env.reset(options={"reset_mask": done.copy()})
        after = self._seen("reset with a mask", observation)
        self._done = np.zeros(self.rows, dtype=bool)
        if not same(seen, after, ~done):
            self.note(
                "autoreset/disabled",
                "reset(options={'reset_mask': mask})",
                "rows outside the mask are left as they are",
                "their observation changed",
                "reset the rows of the mask only.",
            )
        return after


def _batched(probe: DreamProbe) -> Iterator[Failure]:
    env, rows = probe.player.env, probe.player.rows
    pairs = {
        "observation_space": (env.observation_space, env.single_observation_space),
        "action_space": (env.action_space, env.single_action_space),
    }
    for name, (batched, single) in pairs.items():
        if batched != batch_space(single, rows):
            yield Failure(
                "spaces/batched",
                name,
                f"batch_space(single_{name}, {rows})",
                f"{batched}",
                "build the batched space with gymnasium.vector.utils.batch_space.",
            )
    if not isinstance(env.metadata.get("autoreset_mode"), AutoresetMode):
        yield Failure(
            "spaces/batched",
            "metadata['autoreset_mode']",
            "a gymnasium.vector.AutoresetMode",
            f"{env.metadata.get('autoreset_mode')!r}",
            "state the mode: consumers read it from the metadata.",
        )


def _autoreset(clause: str) -> Any:
    def check(probe: DreamProbe) -> list[Failure]:
        probe.ended()
        return probe.found(clause)

    return check


def _ignored_action(probe: DreamProbe) -> Iterator[Failure]:
    """What NEXT_STEP asks of every step, and that the action of a row that only resets is ignored."""
    probe.ended()
    yield from probe.found("autoreset/next-step")
    ends = [(t, i) for t, step in enumerate(probe.trace.steps[:-1]) for i in np.flatnonzero(step.done)]
    if not ends:
        return
    t, row = ends[0]
    actions = probe.player.actions(probe.steps, probe.seed)[: t + 2]
    others = probe.player.actions(SAMPLES, probe.seed + 1)
    other = next((a for a in others if not _same_row(a, actions[-1], int(row))), others[0])
    changed = [*actions[:-1], probe.player.altered(actions[-1], other, int(row))]
    wanted, got = probe.play(actions, probe.seed), probe.play(changed, probe.seed)
    if not same(wanted.steps[-1].observation, got.steps[-1].observation):
        yield Failure(
            "autoreset/next-step",
            "the step after the one that ended a row",
            "this row's action is ignored",
            "another action leads to another observation",
            "in NEXT_STEP mode the step after an end only resets the row.",
        )


def _same_row(a: Any, b: Any, row: int) -> bool:
    if isinstance(a, dict):
        return all(_same_row(a[key], b[key], row) for key in a)
    return np.array_equal(a[row], b[row])


def _row(final: Any, index: int) -> Any:
    return {key: _row(value, index) for key, value in final.items()} if isinstance(final, dict) else final[index]
