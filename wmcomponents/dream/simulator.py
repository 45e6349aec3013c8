"""The dream: one batched simulator, tensors only, that every environment adapter shares."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from typing_extensions import Unpack

from wmcomponents._arguments import whole
from wmcomponents.codecs import all_finite
from wmcomponents.dream.announce import announce_states
from wmcomponents.dream.beginnings import Beginnings
from wmcomponents.dream.checks import not_finite, rows_not_finite
from wmcomponents.dream.clock import Clock
from wmcomponents.dream.noise import DreamNoise, NoiseChoice, StepNoise, check_choice, check_noise, repeated
from wmcomponents.dream.options import StepChoices, StepOptions
from wmcomponents.dream.rules import DreamRules
from wmcomponents.dream.saved import read_saved
from wmcomponents.dream.starts import PriorStarts, Starts, where_rows
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Observation, State, WorldModel


class Foreseen(NamedTuple):
    """What one step from any states leads to; leading dims ``*B``.

    Attributes:
        state: s_{t+1}.
        reward: r_{t+1}, ``[*B, 1]``.
        terminated: terminated_{t+1}, bool ``[*B, 1]``.
        uncertainty: u(s_t, a_t), ``[*B, 1]``; ``None`` where none is measured.
    """

    state: State
    reward: Tensor
    terminated: Tensor
    uncertainty: Tensor | None


GLANCE = 64
"""Of so many steps one has its observations looked at."""


class DreamStep(NamedTuple):
    """What one step of a dream gives; N rows.

    Attributes:
        observation: the view of the new state.
        reward: float ``[N, 1]``.
        terminated: bool ``[N, 1]``: the dreamt episode ended.
        truncated: bool ``[N, 1]``: the horizon was reached.
    """

    observation: Observation
    reward: Tensor
    terminated: Tensor
    truncated: Tensor


class Simulator:
    """Steps N dreams at once. Holds their states, their clocks and their generator; knows no environment API.

    A step never restarts a row by itself: the driver calls :meth:`reset` with the mask of rows to restart, or names
    them in :meth:`step`, when its own contract says so. Nothing in a step reads tensor data on the host. No tensor
    handed out shares memory with what the simulator keeps.

    Args:
        model: the world model; neither copied nor moved. Dreams run it in eval mode, and leave every part of it in the
            mode that it was in.
        starts: where dreams begin; the model's own prior if not given.
        batch_size: N, the number of rows.
        seed: of the rows' common generator; fresh entropy if not given.
        compile: compile the model's step.
        print_fn: is told how much memory the rows' states take, before they take it, where that is a gigabyte or more.
        rules: those of another dream of this model, to be shared: neither compiled nor looked at again. Made of the
            options if not given.
        **options: how the dream goes on: horizon, view, termination, reward, penalty, noise and uncertainty,
            as :class:`StepOptions` says.

    A model that can step in place (capability ``inplace``) does so, since the simulator owns its state; but not where
    ``reward``, ``penalty`` or held rows still need the state before.

    Attributes:
        rules: how the dream goes, whatever its rows: its options among them.
        state: the rows' states; empty before the first reset.
        done: bool ``[N, 1]``: the rows whose episode is over, because it ended or was never begun.
        uncertainty: float ``[N, 1]``, of the step just taken (0 in rows that took none); ``None`` where none is
            measured, and before the first step.
        continuation: float ``[N, 1]``, P(not terminated) as the model gave it for the step just computed; ``None``
            where it predicts none, and before the first step.
        all_running: whether it is certain, without looking at a tensor, that no row is done; False may mean unknown.
        may_truncate: whether the last step may have truncated a row, known without looking at a tensor.
        evaluating: the context in which the model is in eval mode.
        shares_view: whether what the model shows is part of its state, and so is copied before it is handed out.

    Raises:
        CapabilityError: if the model lacks what the view, the termination or the reward needs.
        TypeError: if an argument is of another kind.
        ValueError: if an argument is out of range, or the view would show two entries under one name.
    """

    def __init__(
        self,
        model: WorldModel,
        starts: Starts | None = None,
        *,
        batch_size: int = 1,
        seed: int | None = None,
        compile: bool = False,
        print_fn: Callable[[str], None] = print,
        rules: DreamRules | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        _check_kinds(model, starts)
        self.model = model
        self.batch_size = whole("batch_size", batch_size, 1, "the number of rows, at least one row")
        if seed is not None:
            seed = whole("seed", seed, 0, "a number from 0 on, or None for fresh entropy")
        if rules is not None and (options or rules.model is not model):
            raise TypeError(
                "rules are those of another dream of the same model, its options among them: pass no others."
            )
        if rules is None:
            choices = StepChoices.read(model, options, type(self))
            announce_states(model, self.batch_size, print_fn)
            rules = DreamRules(model, choices, compile=compile)
        self.rules, choices = rules, rules.choices
        self.evaluating = EvalMode(model)
        self.device, self.observation_spec, self.shares_view = rules.device, rules.observation_spec, rules.shares_view
        self.horizon, self.view, self.termination = choices.horizon, choices.view, choices.termination
        starts = PriorStarts(model) if starts is None else starts
        self._starting = Beginnings(model, starts, rules.layout(self.batch_size), self.device)
        self._noise = DreamNoise(rules.noise_source, self.device, choices.noise, draws_end=self.termination == "sample")
        self._clock = Clock(self.batch_size, self.horizon, self.device, ends=not rules.endless)
        self._no_flags = torch.zeros(self.batch_size, 1, dtype=torch.bool, device=self.device)
        self.state: State = {}
        self.done = ~self._no_flags
        self.uncertainty: Tensor | None = None
        self.continuation: Tensor | None = None
        self.all_running = self.may_truncate = False
        if seed is not None:
            self.seed(seed)

    @property
    def generator(self) -> torch.Generator:
        """The rows' common generator. Without a seed it takes fresh entropy when it is first used, not when built.

        So workers that are given copies of one dream, not yet begun, dream dreams of their own.
        """
        return self._noise.generator

    @property
    def noise(self) -> NoiseChoice:
        """The noise of the steps: ``"sample"``, ``"mode"``, or the given noise of T steps.

        Setting it begins given noise at its first step.
        """
        return self._noise.choice

    @noise.setter
    def noise(self, choice: NoiseChoice) -> None:
        check_choice(self.model, choice)
        self._noise.play(choice)

    @property
    def starts(self) -> Starts:
        """Where dreams begin."""
        return self._starting.starts

    @starts.setter
    def starts(self, starts: Starts) -> None:
        self._starting.starts = starts

    @property
    def elapsed(self) -> Tensor:
        """Steps that each row has taken since it began, int64 ``[N, 1]``."""
        return self._clock.elapsed

    def seed(self, seed: int) -> None:
        """Seed the rows' common generator: the same seed, the same starts and the same dream.

        Given noise, and starts that are taken in order, begin again too.
        """
        self._noise.seed(seed)
        self._starting.seed()

    def reset(self, mask: Tensor | None = None) -> Observation:
        """Restart rows.

        Args:
            mask: bool ``[N, 1]`` or ``[N]``, the rows to restart; all if not given. Other rows are left as they are.

        Returns:
            The observation of every row, restarted or not.

        Raises:
            NotFiniteError: if the start states hold a NaN or an infinity (on a CPU, where every row begins).
            ValueError: if the start states are not the model's, or the first reset leaves rows out.
        """
        if mask is None:  # what the model gained since its parts were listed is in eval mode too
            self.evaluating = EvalMode(self.model)
        if mask is not None and not self.state and not bool(mask.all()):
            raise ValueError("the first reset begins every row: leave the mask out.")
        with torch.no_grad(), self.evaluating:
            self._restart(mask if self.state else None)
            return self.rules.look(self.state)

    def draw_starts(self, count: int, mask: Tensor | None = None) -> State:
        """Start states as the dream's own rows get them, ``[count, ...]``; moves no row.

        Args:
            count: number of rows.
            mask: bool ``[count, 1]`` or ``[count]``, the rows that begin; all if not given. The others get some state.
        """
        with torch.no_grad(), self.evaluating:
            return self._starting.draw(count, mask, self.generator)

    def step(
        self,
        action: Tensor,
        *,
        restart: Tensor | None = None,
        hold: Tensor | None = None,
        noise: StepNoise | None = None,
        lend: bool = False,
    ) -> DreamStep:
        """Take one step in every row, but for the rows named otherwise.

        Args:
            action: a_t, ``[N, ...]`` as the model's ``action_spec`` says, on the simulator's device.
            restart: bool ``[N, 1]``: rows that begin a new episode instead. Their action is ignored, their reward is 0
                and their flags are false.
            hold: bool ``[N, 1]``: rows that stay where they are, with the same reward and flags.
            noise: this step's noise, ``[N, ...]``, in place of what :attr:`noise` gives; ``StepNoise(None, None)``, the
                constant ``MODE``, takes modes. It draws nothing from the generator.
            lend: what is handed out may be the simulator's own memory, valid until the next call, for a caller who
                copies it anyway. Observations are where :attr:`shares_view` says so, and flags where none is set.

        Raises:
            NotFiniteError: on a CPU, if the model's continuation is not finite. (On an accelerator, where nothing is
                looked at, such a row ends.)
            NoiseUsedUpError: if the noise of T steps was given and T were taken.
            RuntimeError: before the first reset.
        """
        if not self.state:
            raise RuntimeError("no dream was begun: call reset() before step().")
        if not torch.is_grad_enabled():  # asked, since to enter a context costs a microsecond
            with self.evaluating:
                return self._step(action, restart, hold, noise, lend)
        with torch.no_grad(), self.evaluating:
            return self._step(action, restart, hold, noise, lend)

    def predict(
        self, state: State, action: Tensor, batch_size: Sequence[int], *, noise: StepNoise | None = None
    ) -> tuple[State, Tensor, Tensor]:
        """One step from any states, under this dream's reward and termination; moves no row of the dream itself.

        Args:
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            batch_size: B.
            noise: this step's noise, ``[*B, ...]``, as :meth:`step` takes it.

        Returns:
            s_{t+1}, r_{t+1} ``[*B, 1]`` and terminated_{t+1} bool ``[*B, 1]``. Differentiable in state and action.

        Raises:
            NotFiniteError, NoiseUsedUpError: as :meth:`step`.
            ValueError: if a reward or a continuation has another shape than ``[*B, 1]``.
        """
        state, reward, terminated, _ = self.foresee(state, action, batch_size, noise=noise)
        return state, reward, terminated

    def foresee(
        self, state: State, action: Tensor, batch_size: Sequence[int], *, noise: StepNoise | None = None
    ) -> Foreseen:
        """As :meth:`predict`, with the uncertainty where it is measured.

        Args:
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            batch_size: B.
            noise: this step's noise, ``[*B, ...]``, as :meth:`step` takes it.
        """
        if noise is None:
            noise = self._noise.draw(batch_size)
        else:
            check_noise(self.model, noise, batch_size)
        with self.evaluating:
            step = self.rules.advance(self.rules.imagine_pure, state, action, batch_size, noise.z)
        after, reward, cont, uncertainty, halted = step
        if self.rules.endless:
            ended = torch.zeros(reward.shape, dtype=torch.bool, device=self.device)
        else:
            ended = self.rules.ended(cont, noise.end, batch_size, halted)
        return Foreseen(after, reward, ended, uncertainty)

    def observe(self) -> Observation:
        """The view of the current states, ``[N, ...]``; fresh tensors.

        Raises:
            RuntimeError: before the first reset.
        """
        if not self.state:
            raise RuntimeError("there is nothing to observe yet: call reset() first.")
        with torch.no_grad():
            return self.look(self.state)

    def look(self, state: State) -> Observation:
        """The view of any states ``[*B, ...]``; fresh tensors."""
        with self.evaluating:
            return self.rules.look(state)

    def check_shown(
        self, observation: Mapping[str, Tensor | np.ndarray], reward: Tensor | np.ndarray | None = None
    ) -> None:
        """Refuse what this dream shows, on the host, where a float of it is a NaN or an infinity.

        For adapters whose numbers are on the host anyway. A state that is not finite shows in its reward, so rewards
        are looked at in every step, and observations at every reset and in one step of :data:`GLANCE`.

        Args:
            observation: of all rows, ``[N, ...]``.
            reward: of all rows, ``[N, 1]``; not given at a reset.

        Raises:
            NotFiniteError: naming the entry and its rows.
        """
        shown: list[tuple[str, Tensor | np.ndarray]] = []
        if reward is None or self._clock.now % GLANCE == 1:
            shown = [(key, observation[key]) for key in self.rules.float_keys]
        elif all_finite(reward):
            return
        for name, value in [("reward", reward), *shown] if reward is not None else shown:
            if not all_finite(value):
                array = value.detach().numpy() if isinstance(value, Tensor) else value
                raise not_finite(f"the dreamt {name!r}", rows_not_finite(array), self.model)

    def get_state(self) -> TensorDict:
        """Everything that decides the future: states, clocks, flags, generator. A value: later steps do not change it.

        How many steps of given noise were played and how many episodes were begun is in it, not the noise itself.

        Returns:
            A TensorDict without batch dims: ``state`` ``[N, ...]`` each, ``elapsed`` and ``done`` ``[N, 1]``, the
            ``generator``'s state, and the counts ``played`` and ``episodes``.

        Raises:
            RuntimeError: before the first reset.
        """
        if not self.state:
            raise RuntimeError("there is no state to save yet: call reset() first.")
        return TensorDict(
            {
                "state": {key: value.clone() for key, value in self.state.items()},
                "elapsed": self.elapsed,
                "done": self.done.clone(),
                "generator": self.generator.get_state(),
                "played": torch.tensor(self._noise.played),
                "episodes": self._starting.episodes.clone(),
            }
        )

    def set_state(self, saved: TensorDictBase) -> Observation:
        """Go back to a saved state; the future from it repeats itself exactly.

        Args:
            saved: what :meth:`get_state` gave, here or in a dream of the same model and number of rows.

        Returns:
            The observation of every row, ``[N, ...]``.

        Raises:
            TypeError: if it is no TensorDict.
            ValueError: if the saved state has other entries, another number of rows or other dtypes than this dream, or
                holds a NaN or an infinity. The dream is then left as it is.
        """
        read = read_saved(saved, self._starting.layout, self.device, self.model)
        self.state, self.done, self.all_running = read.state, read.done, False
        self._clock.set(read.elapsed)
        self._noise.go_on(read.generator, read.played)
        self._starting.episodes = read.episodes
        return self.observe()

    def fork(self, copies: int = 1) -> "Simulator":
        """A second dream that starts where this one stands; what happens in one leaves the other untouched.

        Args:
            copies: how many times each row is repeated: row i becomes rows i*copies to (i+1)*copies - 1. With one copy
                the twin draws the same noise, so the same actions lead to the same future.

        Raises:
            ValueError: if ``copies`` is below 1.
        """
        if copies < 1:
            raise ValueError(f"a fork repeats each row at least once; got copies={copies}.")
        twin = Simulator(self.model, self.starts, batch_size=self.batch_size * copies, rules=self.rules)
        twin.state = {key: value.repeat_interleave(copies, 0) for key, value in self.state.items()}
        twin.done, twin.all_running = self.done.repeat_interleave(copies, 0), self.all_running
        twin._clock = self._clock.repeated(copies)
        twin._noise.play(repeated(self.noise, copies))
        twin._noise.go_on(self.generator.get_state(), self._noise.played)
        twin._starting.episodes = self._starting.episodes.clone()
        return twin

    def _step(
        self, action: Tensor, restart: Tensor | None, hold: Tensor | None, noise: StepNoise | None, lend: bool
    ) -> DreamStep:
        rules, before, rows = self.rules, self.state, (self.batch_size,)
        if noise is None:
            noise = self._noise.draw(rows)
        else:
            check_noise(self.model, noise, rows)
        imagine = rules.imagine if hold is None else rules.imagine_pure
        self.state, reward, cont, self.uncertainty, halted = rules.advance(imagine, before, action, rows, noise.z)
        self.continuation = cont
        terminated, truncated = self._flags(cont, noise.end, lend, halted)
        if hold is None and restart is None:
            self.done = self._no_flags if self.all_running else terminated | truncated
        else:
            reward, terminated, truncated = self._apart(hold, restart, before, reward, terminated, truncated)
        return DreamStep(rules.look(self.state, lend=lend), reward, terminated, truncated)

    def _flags(
        self, cont: Tensor | None, end: Tensor | None, lend: bool, halted: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Which rows are terminated and which truncated by this step, as if all had taken it."""
        due, unset, endless = self._clock.tick(), self._no_flags, self.rules.endless
        self.all_running, self.may_truncate = endless and not due, due
        truncated = self._clock.reached() if due else unset if lend else unset.clone()
        if endless:
            return unset if lend else unset.clone(), truncated
        return self.rules.ended(cont, end, (self.batch_size,), halted), truncated

    def _apart(
        self,
        hold: Tensor | None,
        restart: Tensor | None,
        before: State,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows that did not take this step: what is told of them, and where they stand."""
        done = terminated | truncated
        if hold is not None:
            self.state = where_rows(hold, before, self.state)
            self._clock.hold(hold)
            done = torch.where(hold, self.done, done)
            self.all_running = False
        self.done = done
        if restart is not None:
            self._restart(restart)
        for idle in (hold, restart):
            if idle is not None:
                reward = reward.masked_fill(idle, 0.0)
                if self.uncertainty is not None:
                    self.uncertainty = self.uncertainty.masked_fill(idle, 0.0)
                terminated, truncated = terminated & ~idle, truncated & ~idle
        return reward, terminated, truncated

    def _restart(self, mask: Tensor | None) -> None:
        """Rows begin anew, or all."""
        # Where looking costs nothing, a mask of all rows is seen for what it is: their clocks agree again.
        if mask is None or (self.device.type == "cpu" and bool(mask.all())):
            self.state = self._starting.begin(self.generator)
            self._clock.begin()
            self.done, self.all_running = self._no_flags, True
            return
        mask = mask.reshape(self.batch_size, 1)
        self.state = where_rows(mask, self._starting.restart(mask, self.generator), self.state)
        self._clock.restart(mask)
        self.done, self.all_running = self.done & ~mask, False


def _check_kinds(model: Any, starts: Any) -> None:
    if not isinstance(model, WorldModel):
        raise TypeError(f"a dream is of a WorldModel, or of the folder of a saved one; got {model!r:.80}.")
    if starts is not None and not isinstance(starts, Starts):
        raise TypeError(
            f"starts= takes a Starts, such as PoolStarts(states) or ReplayStarts(model, replay.sample); got a "
            f"{type(starts).__name__}."
        )
