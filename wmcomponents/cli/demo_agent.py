"""The agent of a demo, trained in its dreams, and kept on disk with all that decides what it learns next."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmcomponents._interruption import Request
from wmcomponents.data.episodes import derived_seed
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.training import load_checkpoint, save_checkpoint

SAVE_SECONDS = 10.0
"""Between two saves of the agent while it learns."""


class DreamAgent:
    """SB3's PPO, trained in one dream after another. A rollout has its own seed, and the agent is saved between two.

    Args:
        seed: of the demo.
        file: where it is kept.
    """

    def __init__(self, seed: int, file: Path) -> None:
        self._seed, self._file = seed, file
        self._ppo: Any = None
        self._going_on: tuple[int, dict[str, Tensor]] | None = None

    @property
    def ppo(self) -> Any:
        """The agent; ``None`` before the first dream."""
        return self._ppo

    def steps_in(self, number: int) -> int:
        """How many steps it took in a round before the demo was stopped."""
        return self._ppo.num_timesteps if self._going_on is not None and self._going_on[0] == number else 0

    def restore(self, dream: DreamVecEnv) -> None:
        """Make the agent what it was when it was saved last, if it ever was.

        Args:
            dream: of the model, with as many rows as the agent's dreams.

        Raises:
            BadCheckpointError: if the file is damaged or of another demo.
        """
        if not self._file.exists():
            return
        self._ppo = _new_ppo(dream, self._seed)
        seen = dream.reset()
        kept = _Kept(self._ppo.policy, _place(dream, seen, np.ones(dream.num_envs, dtype=bool)))
        policy = self._ppo.policy
        counters = load_checkpoint(
            self._file, model=policy, objective=kept, optimizer=policy.optimizer, generators={},
            check=lambda found: _check_counts(found["round"], found["steps"]),
        )  # fmt: skip
        self._ppo.num_timesteps = counters["steps"]
        self._going_on = counters["round"], kept.place()

    def learn(
        self,
        number: int,
        dream: DreamVecEnv,
        steps: int,
        *,
        anew: bool,
        request: Request,
        show: Callable[[int], None],
    ) -> int:
        """Learn in a dream until so many steps were taken in this round; returns their number.

        Args:
            number: of the round.
            dream: freshly made.
            steps: in all, counting those from before an interruption.
            anew: with an agent that has learnt nothing yet.
            request: is looked at between two rollouts.
            show: receives the number of steps.

        Raises:
            Interrupted: if that was asked for; the agent is saved then.
        """
        from stable_baselines3.common.vec_env import VecMonitor

        env = VecMonitor(dream)
        done = self.steps_in(number)
        place = {} if self._going_on is None else self._going_on[1]
        self._going_on = None
        if done or (self._ppo is not None and not anew):
            self._ppo.set_env(env)
        else:
            self._ppo = _new_ppo(env, self._seed)
        if done < steps:
            if done:
                env.reset()
                self._go_back(dream, place)
            watch = _between_rollouts(
                request, lambda: self._save(number, dream), lambda: self._begin(number, dream), show
            )
            # The learning rate anneals over the steps of one round, each of which counts its own from zero.
            self._ppo.learn(steps - done, callback=watch, reset_num_timesteps=not done)
            self._save(number, dream)
        return self._ppo.num_timesteps

    def _begin(self, number: int, dream: DreamVecEnv) -> None:
        """What is random in a rollout: its dreams, the agent's actions (torch), its batches (NumPy).

        Each has its own seed: two generators of torch with one seed would draw the same numbers.
        """
        dreams, actions, batches = (
            derived_seed(self._seed, what, number, self._ppo.num_timesteps) for what in ("dreams", "actions", "batches")
        )
        dream.simulator.seed(dreams)
        torch.manual_seed(actions)
        np.random.seed(batches)

    def _save(self, number: int, dream: DreamVecEnv) -> None:
        ppo = self._ppo
        kept = _Kept(ppo.policy, _place(dream, ppo._last_obs, ppo._last_episode_starts))
        save_checkpoint(
            self._file, model=ppo.policy, objective=kept, optimizer=ppo.policy.optimizer, generators={},
            counters={"round": number, "steps": ppo.num_timesteps},
        )  # fmt: skip

    def _go_back(self, dream: DreamVecEnv, place: dict[str, Tensor]) -> None:
        """Put the dreams, just begun, where they were when the agent was saved."""
        state = dream.simulator.get_state()
        for name, value in place.items():
            if name.startswith("dream/"):
                state.set(tuple(name.split("/")[1:]), value)
        dream.simulator.set_state(state)
        self._ppo._last_obs = place["seen"].numpy()
        self._ppo._last_episode_starts = place["begins"].numpy()


class _Kept(nn.Module):
    """What an agent goes on from: its policy, and the place in its dreams as buffers."""

    def __init__(self, policy: nn.Module, place: dict[str, Tensor]) -> None:
        super().__init__()
        self.policy = policy
        self._names = list(place)
        for number, name in enumerate(self._names):
            self.register_buffer(f"place{number}", place[name])

    def place(self) -> dict[str, Tensor]:
        """The buffers by their names."""
        return {name: getattr(self, f"place{number}") for number, name in enumerate(self._names)}


def _place(dream: Any, seen: np.ndarray, begins: np.ndarray) -> dict[str, Tensor]:
    """Where the dreams are, and what the agent last saw of them. Their generator is seeded for each rollout."""
    state = dream.simulator.get_state().exclude("generator").flatten_keys("/")
    found = {f"dream/{name}": value for name, value in sorted(state.items())}
    return {**found, "seen": torch.tensor(seen), "begins": torch.tensor(begins)}


def _new_ppo(env: Any, seed: int) -> Any:
    from stable_baselines3 import PPO

    return PPO(
        "MlpPolicy",
        env,
        n_steps=max(8, 1024 // env.num_envs),
        batch_size=256,
        n_epochs=10,
        learning_rate=_annealed,
        seed=seed,
        device="cpu",
    )


def _between_rollouts(
    request: Request, save: Callable[[], None], begin: Callable[[], None], show: Callable[[int], None]
) -> Any:
    """A callback of Stable-Baselines3 that saves between two updates: every few seconds, and when asked to stop."""
    from stable_baselines3.common.callbacks import BaseCallback

    class BetweenRollouts(BaseCallback):
        saved = time.monotonic()

        def _on_rollout_start(self) -> None:
            if request or time.monotonic() >= self.saved + SAVE_SECONDS:
                save()
                self.saved = time.monotonic()
            request.check()
            begin()

        def _on_step(self) -> bool:
            show(self.num_timesteps)
            return True

    return BetweenRollouts()


def _check_counts(*counts: Any) -> None:
    if any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("its counters are no counts")


def _annealed(remaining: float) -> float:
    """PPO's learning rate: falls to a twentieth by the end, so that the agent ends on a settled policy."""
    return 1e-3 * max(remaining, 0.05)
