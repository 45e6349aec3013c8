"""The dream: one batched simulator, tensors only, that every environment adapter shares."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded
from typing_extensions import Unpack

from wmcomponents._arguments import whole
from wmcomponents.codecs import all_finite
from wmcomponents.dream.checks import check_finite_states, check_layout, not_finite, rows_not_finite
from wmcomponents.dream.noise import MODE, NoiseChoice, StepNoise, at_step, check_choice, check_noise, repeated
from wmcomponents.dream.options import StepChoices, StepOptions, Termination, View
from wmcomponents.dream.saved import read_saved
from wmcomponents.dream.starts import PoolStarts, PriorStarts, Starts, model_device, where_rows
from wmcomponents.models.loading import load_with_starts
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Noise, Observation, State, WorldModel, items_of

Model = WorldModel | str | Path
LARGE = 2**30
"""Bytes of states from which a dream tells what it will take, before it takes it."""
GLANCE = 64
"""Of so many steps one has its observations looked at."""
ENDLESS = 10_000
"""Steps without an end after which a dream without a horizon says so."""


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
        **options: how the dream goes on: horizon, view, termination, reward, penalty and noise, as
            :class:`StepOptions` says.

    A model that can step in place (capability ``inplace``) does so, since the simulator owns its state; but not where
    ``reward``, ``penalty`` or held rows still need the state before.

    Attributes:
        choices: the options, as they were given, defaults filled in.
        compiles: whether the model's step is compiled.
        state: the rows' states; empty before the first reset.
        done: bool ``[N, 1]``: the rows whose episode is over, because it ended or was never begun.
        all_running: whether it is certain, without looking at a tensor, that no row is done; False may mean unknown.
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
        **options: Unpack[StepOptions],
    ) -> None:
        if not isinstance(model, WorldModel):
            raise TypeError(f"a dream is of a WorldModel, or of the folder of a saved one; got {model!r:.80}.")
        if starts is not None and not isinstance(starts, Starts):
            raise TypeError(
                f"starts= takes a Starts, such as PoolStarts(states) or ReplayStarts(model, replay.sample); got "
                f"a {type(starts).__name__}."
            )
        batch_size = whole("batch_size", batch_size, 1, "the number of rows, at least one row")
        if seed is not None:
            seed = whole("seed", seed, 0, "a number from 0 on, or None for fresh entropy")
        choices = StepChoices.read(model, options, type(self))
        announce_states(model, batch_size, print_fn)
        self.model = model
        self.evaluating = EvalMode(model)
        self.batch_size = batch_size
        self.choices, self.horizon = choices, choices.horizon
        self.view: View = choices.view
        self.termination: Termination = choices.termination
        self.device = model_device(model)
        self._generator, self._seeded = torch.Generator(self.device), False
        self.starts = PriorStarts(model) if starts is None else starts
        self._reward, self._penalty = choices.reward, choices.penalty
        self._source = model.noise_source("imagine")
        self._draws_nothing = self._source.empty
        self.compiles = compile
        self._steps_inplace = "inplace" in model.capabilities and self._reward is None and self._penalty is None
        self._imagine, self._imagine_pure = self._steppers()
        self._no_flags = torch.zeros(batch_size, 1, dtype=torch.bool, device=self.device)
        self.state: State = {}
        self.done = ~self._no_flags
        self.all_running = False
        # A row's age is the common clock less its time of birth: a step then moves one number and no tensor, and no row
        # can reach the horizon before the oldest does.
        self._clock = self._oldest = 0
        self._born = torch.zeros(batch_size, 1, dtype=torch.int64, device=self.device)
        self._episodes = torch.zeros((), dtype=torch.int64, device=self.device)
        self._patience = ENDLESS
        self._layout = {key: ((batch_size, *leaf.shape), leaf.dtype) for key, leaf in items_of(model.state_spec)}
        self.noise = choices.noise
        if seed is not None:
            self.seed(seed)
        with self.evaluating:
            self.shares_view, self.observation_spec = self._first_look()
        leaves = items_of(self.observation_spec)
        self._floats = [key for key, leaf in leaves if leaf.dtype in (torch.float32, torch.float64)]

    @property
    def generator(self) -> torch.Generator:
        """The rows' common generator. Without a seed it takes fresh entropy when it is first used, not when built.

        So workers that are given copies of one dream, not yet begun, dream dreams of their own.
        """
        if not self._seeded:
            self._generator.seed()
            self._seeded = True
        return self._generator

    @property
    def noise(self) -> NoiseChoice:
        """The luck of the steps: ``"sample"``, ``"mode"``, or the given noise of T steps.

        Setting it begins given noise at its first step.
        """
        return self._choice

    @noise.setter
    def noise(self, choice: NoiseChoice) -> None:
        check_choice(self.model, choice)
        self._samples = isinstance(choice, str) and choice == "sample"
        self._choice: NoiseChoice = choice
        self._played = 0

    @property
    def elapsed(self) -> Tensor:
        """Steps that each row has taken since it began, int64 ``[N, 1]``."""
        return self._clock - self._born

    def seed(self, seed: int) -> None:
        """Seed the rows' common generator: the same seed, the same starts and the same dream.

        Given noise, and starts that are taken in order, begin again too.
        """
        self._generator.manual_seed(seed)
        self._seeded = True
        self._played = 0
        self._episodes = torch.zeros_like(self._episodes)

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
        with torch.no_grad(), self.evaluating:
            if mask is None:
                self._begin()
            elif self.state:
                self._restart(mask)
            elif bool(mask.all()):
                self._begin()
            else:
                raise ValueError("the first reset begins every row: leave the mask out.")
            return self._look(self.state)

    def draw_starts(self, count: int, mask: Tensor | None = None) -> State:
        """Start states as the dream's own rows get them, ``[count, ...]``; moves no row.

        Args:
            count: number of rows.
            mask: bool ``[count, 1]`` or ``[count]``, the rows that begin; all if not given. The others get some state.
        """
        with torch.no_grad(), self.evaluating:
            return self._fresh(count, mask)

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
            noise: this step's luck, ``[N, ...]``, in place of what :attr:`noise` gives; ``StepNoise(None, None)``, the
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
            noise: this step's luck, ``[*B, ...]``, as :meth:`step` takes it.

        Returns:
            s_{t+1}, r_{t+1} ``[*B, 1]`` and terminated_{t+1} bool ``[*B, 1]``. Differentiable in state and action.

        Raises:
            NotFiniteError, NoiseUsedUpError: as :meth:`step`.
            ValueError: if a reward or a continuation has another shape than ``[*B, 1]``.
        """
        if noise is None:
            noise = self._drawn(batch_size)
        else:
            check_noise(self.model, noise, batch_size)
        with self.evaluating:
            after, reward, cont = self._advance(self._imagine_pure, state, action, batch_size, noise.z)
        if self.termination == "off":
            return after, reward, torch.zeros(reward.shape, dtype=torch.bool, device=self.device)
        return after, reward, self._ended(cont, noise.end, batch_size)

    def observe(self) -> Observation:
        """The view of the current states; fresh tensors.

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
            return self._look(state)

    def _look(self, state: State, lend: bool = False) -> Observation:
        if self.view == "decoded":
            seen = self.model.decode(state)
        elif self.view == "latent":
            seen = {"latent": self.model.features(state)}
        else:
            seen = {"latent": self.model.features(state), **self.model.decode(state)}
        return {key: value.clone() for key, value in seen.items()} if self.shares_view and not lend else seen

    def check_shown(
        self, observation: Mapping[str, Tensor | np.ndarray], reward: Tensor | np.ndarray | None = None
    ) -> None:
        """Refuse what this dream shows, on the host, where a float of it is a NaN or an infinity.

        For adapters whose numbers are on the host anyway. A state that is not finite shows in its reward, so rewards
        are looked at in every step, and observations at every reset and in one step of :data:`GLANCE`.

        Args:
            observation: of all rows.
            reward: of all rows; not given at a reset.

        Raises:
            NotFiniteError: naming the entry and its rows.
        """
        shown: list[tuple[str, Tensor | np.ndarray]] = []
        if reward is None or self._clock % GLANCE == 1:
            shown = [(key, observation[key]) for key in self._floats]
        elif all_finite(reward):
            return
        for name, value in [("reward", reward), *shown] if reward is not None else shown:
            if not all_finite(value):
                array = value.detach().numpy() if isinstance(value, Tensor) else value
                raise not_finite(f"the dreamt {name!r}", rows_not_finite(array), self.model)

    def get_state(self) -> TensorDict:
        """Everything that decides the future: states, clocks, flags, generator. A value: later steps do not change it.

        How many steps of given noise were played and how many episodes were begun is in it, not the noise itself.

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
                "played": torch.tensor(self._played),
                "episodes": self._episodes.clone(),
            }
        )

    def set_state(self, saved: TensorDictBase) -> Observation:
        """Go back to a saved state; the future from it repeats itself exactly.

        Args:
            saved: what :meth:`get_state` gave, here or in a dream of the same model and number of rows.

        Returns:
            The observation of every row.

        Raises:
            TypeError: if it is no TensorDict.
            ValueError: if the saved state has other entries, another number of rows or other dtypes than this dream, or
                holds a NaN or an infinity. The dream is then left as it is.
        """
        read = read_saved(saved, self._layout, self.device, self.model)
        self.state = read.state
        self._born = self._clock - read.elapsed
        self._oldest = int(self._born.min())
        self._patience = ENDLESS
        self.done = read.done
        self.all_running = False
        self._generator.set_state(read.generator)
        self._seeded = True
        self._played, self._episodes = read.played, read.episodes
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
        twin = object.__new__(Simulator)
        twin.__dict__.update(self.__dict__)
        twin.batch_size = self.batch_size * copies
        twin.state = {key: value.repeat_interleave(copies, 0) for key, value in self.state.items()}
        twin.done = self.done.repeat_interleave(copies, 0)
        twin._born = self._born.repeat_interleave(copies, 0)
        twin._no_flags = self._no_flags.repeat_interleave(copies, 0)
        twin._layout = {key: ((twin.batch_size, *shape[1:]), dtype) for key, (shape, dtype) in self._layout.items()}
        twin._generator = torch.Generator(self.device)
        twin._generator.set_state(self.generator.get_state())
        twin._episodes = self._episodes.clone()
        twin.evaluating = EvalMode(self.model)
        if isinstance(self._choice, StepNoise) and copies > 1:
            twin._choice = repeated(self._choice, copies)
        return twin

    def _step(
        self, action: Tensor, restart: Tensor | None, hold: Tensor | None, noise: StepNoise | None, lend: bool
    ) -> DreamStep:
        before, rows = self.state, (self.batch_size,)
        if noise is None:
            noise = self._drawn(rows)
        else:
            check_noise(self.model, noise, rows)
        imagine = self._imagine_pure if self._steps_inplace and hold is not None else self._imagine
        self.state, reward, cont = self._advance(imagine, before, action, rows, noise.z)
        self._clock += 1
        if self.horizon is None and self._clock - self._oldest >= self._patience:
            self._tell_endless()
        due = self.horizon is not None and self._clock - self._oldest >= self.horizon
        unset, endless = self._no_flags, self.termination == "off"
        truncated = self._born <= self._clock - cast(int, self.horizon) if due else unset if lend else unset.clone()
        terminated = self._ended(cont, noise.end, rows) if not endless else unset if lend else unset.clone()
        self.all_running = endless and not due and hold is None
        done = self._no_flags if self.all_running else terminated | truncated
        if hold is not None:
            self.state = where_rows(hold, before, self.state)
            self._born = self._born + hold
            done = torch.where(hold, self.done, done)
        self.done = done
        if restart is not None:
            self._restart(restart)
        for idle in (hold, restart):
            if idle is not None:
                reward = reward.masked_fill(idle, 0.0)
                terminated, truncated = terminated & ~idle, truncated & ~idle
        return DreamStep(self._look(self.state, lend), reward, terminated, truncated)

    def _steppers(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The step of the rows, in place where that may be, and the pure one."""
        pure: Any = torch.compile(self.model.imagine) if self.compiles else self.model.imagine
        if not self._steps_inplace:
            return pure, pure
        return torch.compile(self.model.imagine_inplace) if self.compiles else self.model.imagine_inplace, pure

    def __getstate__(self) -> dict[str, Any]:
        # A compiled step cannot be pickled, nor copied with its model; it is made again on the other side.
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_imagine")}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self._imagine, self._imagine_pure = self._steppers()

    def _advance(
        self, imagine: Callable[..., Any], state: State, action: Tensor, batch_size: Sequence[int], z: Noise | None
    ) -> tuple[State, Tensor, Tensor | None]:
        after, reward, cont = imagine(state, action, z)
        shape = (*batch_size, 1)
        if self._reward is None:
            reward = _shaped(reward, shape, "the model's reward")
        else:
            # A copy: what a user's function returns may be a slice of the state.
            reward = _shaped(self._reward(state, action, after), shape, "what reward= returns").clone()
        if self._penalty is not None:
            reward = reward - _shaped(self._penalty(state, action, after), shape, "what penalty= returns")
        return after, reward, cont

    def _drawn(self, batch_size: Sequence[int]) -> StepNoise:
        """The luck of the next step, as :attr:`noise` says."""
        if self._samples:
            if self._draws_nothing and self.termination != "sample":
                return StepNoise({}, None)
            z = self._source(batch_size, self.generator, self.device)
            if self.termination != "sample":
                return StepNoise(z, None)
            return StepNoise(z, torch.rand((*batch_size, 1), generator=self.generator, device=self.device))
        if isinstance(self._choice, str):
            return MODE
        drawn = at_step(self._choice, self._played, batch_size)
        self._played += 1
        return drawn

    def _ended(self, cont: Tensor | None, end: Tensor | None, batch_size: Sequence[int]) -> Tensor:
        cont = _shaped(cont, (*batch_size, 1), "the model's continuation")
        if self.termination != "sample":
            end = None
        if self.device.type != "cpu" or torch.compiler.is_compiling():
            # Not looked at here, so written such that a NaN ends its row.
            return ~(cont >= 0.5) if end is None else ~(end < cont)
        if not all_finite(cont):
            rows = rows_not_finite(cont.detach().numpy().reshape(-1, 1))
            raise not_finite(f"the probability to go on that {type(self.model).__name__} predicts", rows, self.model)
        return cont < 0.5 if end is None else end >= cont

    def _fresh(self, count: int, mask: Tensor | None) -> State:
        if not self.starts.ordered:
            return self.starts.sample(count, self.generator)
        if mask is None:
            rows = self._episodes + torch.arange(count, device=self.device)
            self._episodes = self._episodes + count
        else:
            begins = mask.reshape(count)
            ahead = begins.cumsum(0)
            rows = torch.where(begins, self._episodes + ahead - 1, -1)
            self._episodes = self._episodes + ahead[-1]
        return self.starts.sample(count, self.generator, rows)

    def _begin(self) -> None:
        fresh = self._fresh(self.batch_size, None)
        check_layout(fresh, self._layout, "the start states", self.model)
        if self.device.type == "cpu":
            check_finite_states(fresh, "the start state", "begin elsewhere, or with a model whose weights are finite.")
        self.state = fresh
        self._born = torch.full_like(self._born, self._clock)
        self._oldest = self._clock
        self._patience = ENDLESS
        self.done, self.all_running = self._no_flags, True

    def _restart(self, mask: Tensor) -> None:
        # Where looking costs nothing, a mask of all rows is seen for what it is: their clocks agree again.
        if self.device.type == "cpu" and bool(mask.all()):
            return self._begin()
        mask = mask.reshape(self.batch_size, 1)
        fresh = self._fresh(self.batch_size, mask)
        check_layout(fresh, self._layout, "the start states", self.model)
        self.state = where_rows(mask, fresh, self.state)
        self._born = self._born.masked_fill(mask, self._clock)
        self.done = self.done & ~mask
        self.all_running = False

    def _tell_endless(self) -> None:
        """Say once that a dream without a horizon does not end, for whoever waits until it does."""
        if self.device.type == "cpu":
            longest = int(self.elapsed.max())
            if longest < ENDLESS:  # rows began anew since all did
                self._patience = self._clock - self._oldest + ENDLESS - longest
                return
        elif self.termination != "off":
            return
        self._patience = 2**62
        rule = "terminations are off" if self.termination == "off" else "the model foretells no end"
        warnings.warn(
            f"this dream has no horizon, {rule}, and a row has gone on for {ENDLESS} steps: whoever waits for the end "
            f"of an episode waits for ever. Pass horizon=.",
            stacklevel=4,
        )

    def _first_look(self) -> tuple[bool, Composite]:
        """Whether the view shares memory with the state, and so has to be copied; the spec of one row's observation."""
        self.shares_view = False
        state = self.model.initial_state((1,), self.device)
        with torch.no_grad():
            seen = self.look(state)
        held = {value.untyped_storage().data_ptr() for value in state.values()}
        shares = any(value.untyped_storage().data_ptr() in held for value in seen.values())
        spec = Composite()
        if self.view != "decoded":
            spec["latent"] = Unbounded(seen["latent"].shape[1:], dtype=seen["latent"].dtype)
        if self.view != "latent":
            for key, leaf in self.model.observation_spec.items():
                spec[key] = leaf.clone()
        return shares, spec.to(self.device)


def announce_states(model: WorldModel, rows: int, print_fn: Callable[[str], None] = print) -> int:
    """Tell what the states of so many rows will take, where that is a gigabyte or more (:data:`LARGE`).

    Args:
        model: the world model.
        rows: number of states.
        print_fn: what to tell it.

    Returns:
        Bytes.
    """
    size = model.state_bytes(rows)
    if size >= LARGE:
        each = model.state_bytes() / 2**20
        print_fn(
            f"{rows} states of {type(model).__name__} take {size / 2**30:.1f} GiB, {each:.1f} MiB each; a step that "
            f"copies them takes it twice. Fewer rows take less."
        )
    return size


def make_simulator(
    model: Model,
    starts: Starts | None = None,
    *,
    batch_size: int = 1,
    seed: int | None = None,
    compile: bool = False,
    **options: Unpack[StepOptions],
) -> Simulator:
    """A simulator from a model, or from the path of a saved one together with the start states saved beside it.

    Args:
        model: a world model, or a folder written by ``save_pretrained``.
        starts: where dreams begin; by default the saved start states, else the model's prior.
        batch_size: the number of rows.
        seed: of the rows' common generator; fresh entropy if not given.
        compile: compile the model's step.
        **options: how the dream goes on, as :class:`StepOptions` says.

    Raises:
        BadModelError: if the folder holds no valid saved model.
        CapabilityError, TypeError, ValueError: as :class:`Simulator`.
    """
    if isinstance(model, (str, Path)):
        model, saved = load_with_starts(model)
        starts = PoolStarts(saved) if starts is None and saved is not None else starts
    return Simulator(model, starts, batch_size=batch_size, seed=seed, compile=compile, **options)


def _shaped(value: Tensor | None, shape: tuple[int, ...], name: str) -> Tensor:
    if value is None or value.shape != shape:
        got = None if value is None else tuple(value.shape)
        raise ValueError(f"{name} must have shape {shape}, one number a row and a last dimension of 1; got {got}.")
    return value
