"""Real steps of several environments side by side, taken by a policy that changes between them, and resumable."""

import functools
import math
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs import ParallelEnv, SerialEnv, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents._arguments import whole
from wmcomponents.data.acting import acted
from wmcomponents.data.episodes import BeginsEpisodes, episode_seed
from wmcomponents.data.random_policy import RandomPolicy
from wmcomponents.data.transitions import transition_keys
from wmcomponents.training import DivergedError

EpisodeEnd = tuple[int, int, float, int]
"""Of an episode that ended: real steps in all until then, the stream, the return, the length."""


class RealSteps:
    """N copies of an environment, stepped together, each episode from a seed of its own.

    An environment cannot be saved in the middle of an episode, but an episode can be repeated: its seed and its actions
    are known. So a run that was killed goes on where it was: every open episode is begun anew and led by the same
    actions to the same observation. Where an environment does not repeat itself, the episode is given up there.

    Args:
        make: makes one copy, without batch dimension, with ``is_init`` (``data.make_env`` does).
        policy: acts on the stacked observations, on any device; what it carries from step to step is that of its
            ``make_tensordict_primer()``, if it has one. What it writes beside the action and is to be kept with each
            step it names in ``recorded_spec``, a ``Composite`` without batch; of random steps zeros are kept.
        streams: N. With 1 there is no batch dimension.
        processes: step each copy in a process of its own, which pays where a step takes milliseconds.
        seed: of all episodes and random actions.

    Attributes:
        steps: real steps taken so far, over all copies.
        lost: streams whose episode could not be repeated at the last :meth:`take`; whoever stored their steps marks the
            last one as cut.
    """

    def __init__(
        self,
        make: Callable[[], TransformedEnv],
        policy: TensorDictModuleBase,
        *,
        streams: int = 1,
        processes: bool = False,
        seed: int = 0,
    ) -> None:
        self._make, self._processes, self._seed = make, processes, seed
        self.streams = whole("streams", streams, 1, "a number of environments, at least 1")
        self.policy = policy
        self.steps = 0
        self._begun = [0] * streams
        self._actions: list[list[Tensor]] = [[] for _ in range(streams)]
        self._returns, self._lengths = [0.0] * streams, [0] * streams
        self._now: TensorDictBase | None = None
        self._saved: TensorDictBase | None = None
        self._env: TransformedEnv | None = None
        self._random = RandomPolicy(self.env.action_spec, generator=torch.Generator().manual_seed(seed))

    @property
    def env(self) -> TransformedEnv:
        """The copies as one environment; built when it is first asked for, and after :meth:`close`."""
        if self._env is None:
            self._env = self._built()
        return self._env

    def _built(self) -> TransformedEnv:
        rows = [
            functools.partial(_row, self._make, self._seed, stream, begun) for stream, begun in enumerate(self._begun)
        ]
        if self.streams == 1 and not self._processes:
            env = rows[0]()
        else:
            base = ParallelEnv(self.streams, rows) if self._processes else SerialEnv(self.streams, rows)
            env = TransformedEnv(base, auto_unwrap=False)
        self.keys = transition_keys(env)  # of what is stored; what the policy carries is no part of it
        self._unrecorded = recorded_spec(self.policy).zero().expand(env.batch_size)
        self._stored = [*self.keys, *self._unrecorded.keys(True, True)]
        primer = getattr(self.policy, "make_tensordict_primer", None)
        return env if primer is None else env.append_transform(primer())

    def take(self, steps: int, *, at_random: bool = False) -> tuple[TensorDictBase, list[EpisodeEnd]]:
        """The next steps of every copy, ``[steps]`` or ``[N, steps]``, and the episodes that ended among them.

        Args:
            steps: of each copy.
            at_random: take random actions; the policy acts otherwise, and draws its actions.

        Raises:
            DivergedError: if what the policy writes, or a reward, is not a number; it names it and the step.
        """
        taken, ended = [], []
        self.lost: Sequence[int] = ()
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            if self._now is None:
                with torch.random.fork_rng(devices=[]):
                    self._now = self.env.reset() if self._saved is None else self._rejoined(self._saved)
                self._saved = None
            for _ in range(steps):
                chosen = self._acted_at_random(self._now) if at_random else self._acted(self._now)
                stepped, self._now = self.env.step_and_maybe_reset(chosen)
                self.steps += self.streams
                taken.append(stepped.select(*self._stored))
                ended += self._count(stepped)
        return cast(TensorDictBase, torch.stack(cast(Any, taken), -1)), ended

    def _acted_at_random(self, now: TensorDictBase) -> TensorDictBase:
        return self._random(now).update(self._unrecorded)

    def _acted(self, now: TensorDictBase) -> TensorDictBase:
        after = acted(self.policy, now)
        for key in self.policy.out_keys:
            value = after.get(key, None)
            if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any()):
                raise DivergedError(
                    f"the policy's {key!r} is NaN at real step {self.steps}: go on from the last bundle with a lower "
                    f"learning rate, or look at the observations and rewards of the environment."
                )
        return after

    def _count(self, stepped: TensorDictBase) -> list[EpisodeEnd]:
        rewards = cast(Tensor, stepped["next", "reward"]).reshape(self.streams).tolist()
        if not all(map(math.isfinite, rewards)):
            raise DivergedError(
                f"the environment's reward at real step {self.steps} is not finite: {rewards}. Mend the environment; "
                f"the step was not kept."
            )
        done = cast(Tensor, stepped["next", "done"]).reshape(self.streams).tolist()
        actions = cast(Tensor, stepped["action"])
        ended = []
        for row, action in enumerate([actions] if self.env.batch_size == torch.Size([]) else actions.unbind(0)):
            self._actions[row].append(action)
            self._returns[row] += rewards[row]
            self._lengths[row] += 1
            if done[row]:
                ended.append((self.steps, row, self._returns[row], self._lengths[row]))
                self._begin(row)
        return ended

    def _begin(self, row: int) -> None:
        self._begun[row] += 1
        self._actions[row], self._returns[row], self._lengths[row] = [], 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Which episodes are open, their actions, and what the policy sees and carries now."""
        now = self._now if self._now is not None else self._saved
        return {
            "steps": self.steps,
            "begun": self._begun,
            "actions": [torch.stack(actions) if actions else None for actions in self._actions],
            "returns": self._returns,
            "lengths": self._lengths,
            "now": None if now is None else [[_parts(key), now.get(key)] for key in now.keys(True, True)],
            "random": self._random.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; the episodes are repeated at the next step."""
        begun, actions = [int(number) for number in state["begun"]], state["actions"]
        per_stream = (begun, actions, state["returns"], state["lengths"])
        if any(len(one) != self.streams for one in per_stream):
            raise ValueError(f"it was taken of {len(begun)} environments, and there are {self.streams} here")
        saved = None
        if state["now"] is not None:
            saved = TensorDict({}, self.env.batch_size)
            for key, value in state["now"]:
                saved.set(tuple(key), value)
        self.close()
        self.steps, self._begun, self._saved = int(state["steps"]), begun, saved
        self._actions = [[] if taken is None else list(taken) for taken in actions]
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self._random.generator.set_state(state["random"])

    def _rejoined(self, saved: TensorDictBase) -> TensorDictBase:
        """Lead every open episode to where it was; rows in which that fails begin another."""
        now, is_there = self._led()
        for key in self.keys:
            if key[0] != "next" and key not in ("action", "is_init"):
                pair = (cast(Tensor, one.get(key)).reshape(self.streams, -1) for one in (now, saved))
                is_there &= torch.eq(*pair).all(-1)
        if bool(is_there.all()):
            return saved.clone()
        rows = torch.nonzero(~is_there)[:, 0].tolist()
        # Of an episode without a step nothing was stored: it is only seen differently.
        self.lost = [row for row in rows if self._actions[row]]
        for row in rows:
            self._begin(row)
        anew = self.env.reset(now.set("_reset", ~is_there.reshape(*self.env.batch_size, 1)))
        anew = anew.exclude("_reset", "_step")
        if self.env.batch_size == torch.Size([]):
            return anew
        going_on = cast(TensorDictBase, saved.select(*anew.keys(True, True)))
        return cast(TensorDictBase, torch.where(is_there, going_on, anew))

    def _led(self) -> tuple[TensorDictBase, Tensor]:
        """Every open episode begun anew and led by its actions, and which rows did not end on the way."""
        now = self.env.reset()
        is_single = self.env.batch_size == torch.Size([])
        is_there = torch.ones(self.streams, dtype=torch.bool)
        for number in range(max(map(len, self._actions))):
            going_on = torch.tensor([number < len(actions) for actions in self._actions]) & is_there
            if not bool(going_on.any()):
                break
            spare = next(actions[number] for actions in self._actions if number < len(actions))
            rows = [actions[number] if number < len(actions) else spare for actions in self._actions]
            now.set("action", rows[0] if is_single else torch.stack(rows))
            if not is_single:
                now.set("_step", going_on)
            stepped = self.env.step(now)
            is_there &= ~(going_on & cast(Tensor, stepped["next", "done"]).reshape(self.streams))
            now = self.env.step_mdp(stepped)
        return now, is_there

    def close(self) -> None:
        """Close the environments; the next step builds them anew and goes on where they were."""
        if self._now is not None:
            self._saved, self._now = self._now, None
        if self._env is not None and not self._env.is_closed:
            self._env.close()
        self._env = None


def recorded_spec(policy: TensorDictModuleBase) -> Composite:
    """What a policy writes that is kept with each step: its ``recorded_spec``, or nothing; without batch.

    Args:
        policy: the policy.
    """
    return getattr(policy, "recorded_spec", Composite())


def _row(make: Callable[[], TransformedEnv], seed: int, stream: int, first: int) -> TransformedEnv:
    if multiprocessing.parent_process() is not None:  # Ctrl-C reaches all processes of a terminal; the parent decides
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    env = make()

    def begin(episode: int) -> None:
        with torch.random.fork_rng(devices=[]):  # TorchRL seeds torch's global generator along with an environment
            env.base_env.set_seed(episode_seed(seed, stream, episode))

    return env.append_transform(BeginsEpisodes(begin, first))


def _parts(key: Any) -> list[str]:
    return [key] if isinstance(key, str) else list(key)
