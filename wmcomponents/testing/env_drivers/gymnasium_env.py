"""A single ``gymnasium.Env``."""

import copy
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env

from wmcomponents.testing.env_drivers.player import DreamProbe, Played, Player, Rows, flat_rows
from wmcomponents.testing.env_drivers.spaces import infinite, violation
from wmcomponents.testing.report import Clause, Failure, Skip

FIT = "return NumPy arrays of exactly the space's dtype and shape, or widen the space."


class GymnasiumEnvPlayer(Player):
    """Plays a ``gymnasium.Env`` and begins a new episode whenever one ends."""

    library = "gymnasium.Env"
    rows = 1

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env = env
        self._seed: int | None = None

    def seed(self, seed: int | None) -> None:
        """Kept for the next reset."""
        self._seed = seed

    def reset(self) -> Rows:
        """Reset, and look at what it returns."""
        answer = self.env.reset(seed=self._seed)
        self._seed = None
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            self.note("spaces/observation", "reset", "(observation, info dict)", f"{type(answer)}", "return both.")
        return self._seen("reset", answer[0])

    def step(self, action: Any) -> Played:
        """Step; an episode that ends is followed by the first observation of the next."""
        observation, reward, terminated, truncated, _ = self.env.step(action)
        seen = self._seen("step", observation)
        if isinstance(reward, bool) or not isinstance(reward, (int, float)):
            got = f"{type(reward).__name__} {reward!r}"
            self.note("reward/layout", "step", "a Python float", got, "return float(reward).")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool):
                got = f"{name} is {type(flag).__name__}"
                self.note(
                    "flags/layout", "step", "Python bools: terminated and truncated", got, f"return bool({name})."
                )
        rewards = np.asarray([reward], dtype=np.float64).reshape(-1)
        if not np.isfinite(rewards).all():
            self.note("values/finite", "step: reward", "finite numbers", f"{reward}", "look for a division by zero.")
        ended, cut = np.array([bool(terminated)]), np.array([bool(truncated)])
        began = ended | cut
        return Played(self.reset() if began.any() else seen, rewards, ended, cut, began)

    def actions(self, count: int, seed: int) -> list[Any]:
        """Samples of a copy of the action space."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(seed)
        return [space.sample() for _ in range(count)]

    def altered(self, action: Any, other: Any, row: int) -> Any:
        """The other action: there is one row."""
        return other

    def clauses(self) -> tuple[Clause[DreamProbe], ...]:
        """The libraries' own checkers."""
        return (
            Clause(("library/gymnasium-check-env",), _gymnasium_check),
            Clause(("library/sb3-check-env",), _sb3_check),
        )

    def _seen(self, where: str, observation: Any) -> Rows:
        self.hand(f"{where}: observation", observation)
        wrong = violation(self.env.observation_space, observation)
        if wrong:
            self.note("spaces/observation", where, f"an observation in {self.env.observation_space}", wrong, FIT)
        rows = {key: value[None] for key, value in flat_rows(observation).items()}
        if infinite(rows):
            self.note("values/finite", where, "finite numbers", f"{infinite(rows)}: NaN or infinite", "mend the model.")
        return rows


def _gymnasium_check(probe: DreamProbe) -> Iterator[Failure]:
    env = probe.player.env.unwrapped
    yield from _checked("library/gymnasium-check-env", lambda: check_env(env, skip_render_check=True))


def _sb3_check(probe: DreamProbe) -> Iterator[Failure]:
    if importlib.util.find_spec("stable_baselines3") is None:
        raise Skip("stable_baselines3 is not installed")
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    env = probe.player.env
    yield from _checked("library/sb3-check-env", lambda: check_for_sb3(env, warn=False, skip_render_check=True))


def _checked(clause: str, check: Any) -> Iterator[Failure]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check()
        except Exception as error:  # noqa: BLE001  the checkers raise assertions, type and value errors alike
            got = f"{type(error).__name__}: {error}"
            yield Failure(clause, "check_env", "the library's own checker passes", got, "follow what the checker says.")
