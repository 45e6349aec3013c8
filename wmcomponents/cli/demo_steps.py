"""The real steps of a demo, which can be broken off anywhere and go on as if they had not been."""

import time
from collections.abc import Callable
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import TransformedEnv

from wmcomponents._interruption import Request
from wmcomponents.data.episodes import EpisodeCount, EpisodeStream, derived_seed, equal_steps

STEPS_AT_A_TIME = 100
"""Real steps between two looks at whether to stop."""

SAVE_SECONDS = 10.0
"""Between two saves."""


class RoundOfSteps:
    """The real steps of one round: whole episodes but for the last, which is cut where the round ends.

    Every episode has a seed of its own. One that was in progress when the demo was stopped is repeated, with the agent
    and the model of the round, up to where it was.

    Args:
        replay: gets the steps; holds those of the rounds before, and of this one those of a demo that goes on.
        make_env: a fresh environment of the demo.
        seed: of the demo.
        number: of the round.
        first: how many steps the rounds before took.

    Attributes:
        count: of the round's episodes so far.
        mean_return: of those that ended by themselves, once the round is whole; ``None`` if none did.
    """

    def __init__(
        self,
        replay: TensorDictReplayBuffer,
        make_env: Callable[[], TransformedEnv],
        *,
        seed: int,
        number: int,
        first: int,
    ) -> None:
        self._replay, self._make_env = replay, make_env
        self._seed, self._number = seed, number
        self.count = EpisodeCount()
        self.mean_return: float | None = None
        if len(replay) > first:
            self.count.add(self._held(first, len(replay)), keep_open=True)

    def take(
        self,
        last: int,
        policy: Any,
        *,
        save: Callable[[], None],
        request: Request,
        say: Callable[[str], None],
    ) -> None:
        """Take steps until the buffer holds ``last``; all are saved then.

        Args:
            last: of this round and those before.
            policy: acts.
            save: saves the buffer.
            request: is looked at where all is whole.
            say: receives a line where an episode does not repeat itself.

        Raises:
            Interrupted: if that was asked for; what was taken is saved then.
        """
        if len(self._replay) >= last:
            return
        stream = self._rejoined(policy, request, say)
        due = time.monotonic() + SAVE_SECONDS
        try:
            while len(self._replay) < last:
                steps = stream.take(min(STEPS_AT_A_TIME, last - len(self._replay)))
                self.count.add(steps)
                if len(self._replay) + len(steps) == last:
                    self._end(steps)
                self._replay.extend(steps)
                if request or len(self._replay) == last or time.monotonic() >= due:
                    save()
                    due = time.monotonic() + SAVE_SECONDS
                request.check()
        finally:
            stream.close()

    def _end(self, steps: TensorDictBase) -> None:
        """The round is over with these steps, and so is the episode in progress."""
        self.mean_return = self.count.total / self.count.ended if self.count.ended else None
        if not steps["next", "done"][-1].all():
            _cut(steps)
            self.count.cut()

    def _rejoined(self, policy: Any, request: Request, say: Callable[[str], None]) -> EpisodeStream:
        stream = self._stream(policy)
        for steps in () if self.count.open is None else self.count.open.split(STEPS_AT_A_TIME):
            request.check()
            if not equal_steps(stream.take(len(steps)), steps):
                say("the environment did not repeat its episode: it is cut where it was interrupted")
                self._cut_held()
                self.count.cut()
                stream.close()
                stream = self._stream(policy)
                break
        self.count.open = None
        return stream

    def _stream(self, policy: Any) -> EpisodeStream:
        def begins(seed: int) -> None:  # an agent of Stable-Baselines3 draws its actions from the global generator
            torch.manual_seed(derived_seed(seed, "actions"))

        return EpisodeStream(
            self._make_env(),
            policy,
            seed=self._seed,
            stream=self._number,
            episode=self.count.ended,
            begins=begins,
        )

    def _held(self, first: int, last: int) -> TensorDictBase:
        return cast(TensorDictBase, self._replay.storage.get(cast(Any, torch.arange(first, last)))).exclude("index")

    def _cut_held(self) -> None:
        """Write the newest step again, as the end of its episode."""
        row = torch.tensor([len(self._replay) - 1])
        step = cast(TensorDictBase, self._replay.storage.get(cast(Any, row)))
        _cut(step)
        self._replay.storage.set(cast(Any, row), step, set_cursor=False)


def _cut(steps: TensorDictBase) -> None:
    """Mark the last step as the end of its episode by a clock."""
    steps["next", "truncated"][-1] = True
    steps["next", "done"][-1] = True
