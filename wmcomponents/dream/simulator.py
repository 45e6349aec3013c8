"""The dream: one batched simulator, tensors only, that every environment adapter shares."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded

from wmcomponents.dream.starts import PoolStarts, PriorStarts, Starts, model_device, where_rows
from wmcomponents.saving import load_with_starts
from wmcomponents.world_model import Observation, State, WorldModel

Model = WorldModel | str | Path
View = Literal["decoded", "latent", "both"]
Termination = Literal["sample", "threshold", "off"]
LARGE = 2**30
"""Bytes of states from which a dream tells what it will take, before it takes it."""

RewardFunction = Callable[[State, Tensor, State], Tensor]
"""r_{t+1} = f(s_t, a_t, s_{t+1}), in env units, ``[*B, 1]``."""


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
        model: the world model; it is neither copied nor moved, and is put in eval mode.
        starts: where dreams begin; the model's own prior if not given.
        batch_size: N, the number of rows.
        horizon: steps after which a row is truncated; ``None`` never truncates.
        view: what is observed: ``"decoded"`` (as the real environment shows it), ``"latent"`` (``features``, under the
            key ``latent``), or ``"both"``.
        termination: ``"sample"`` draws termination with probability 1 - continue, ``"threshold"`` ends where continue
            is below one half, ``"off"`` never terminates.
        reward: replaces the model's reward, and is needed where the model has none.
        penalty: subtracted from the reward; for example a disagreement of an ensemble, same signature.
        seed: of the rows' common generator.
        compile: compile the model's step.
        print_fn: is told how much memory the rows' states take, before they take it, where that is a gigabyte or more.

    A model that can step in place (capability ``donate``) does so, since the simulator owns its state; but not where
    ``reward``, ``penalty`` or held rows still need the state before.

    Attributes:
        state: the rows' states; empty before the first reset.
        done: bool ``[N, 1]``: the rows whose episode is over, because it ended or was never begun.
        all_running: whether it is certain, without looking at a tensor, that no row is done; False may mean unknown.

    Raises:
        CapabilityError: if the model lacks what the view, the termination or the reward needs.
        ValueError: if an argument is out of range, or the view would show two entries under one name.
    """

    def __init__(
        self,
        model: WorldModel,
        starts: Starts | None = None,
        *,
        batch_size: int = 1,
        horizon: int | None = None,
        view: View = "decoded",
        termination: Termination = "sample",
        reward: RewardFunction | None = None,
        penalty: RewardFunction | None = None,
        seed: int = 0,
        compile: bool = False,
        print_fn: Callable[[str], None] = print,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a dream has at least one row; got batch_size={batch_size}.")
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon counts steps and is at least 1, or None for no limit; got {horizon}.")
        if view not in get_args(View):
            raise ValueError(f"view is one of {get_args(View)}; got {view!r}.")
        if termination not in get_args(Termination):
            raise ValueError(f"termination is one of {get_args(Termination)}; got {termination!r}.")
        if view != "latent":
            model.require("decode", driver=f"the {view} view", remedy="use view='latent', or give it a decoder.")
        if view != "decoded":
            model.require("features", driver=f"the {view} view", remedy="use view='decoded', or write features().")
        if view == "both" and "latent" in model.observation_spec.keys():
            raise ValueError(
                "view='both' shows the features as 'latent', and the environment has an observation of that name: "
                "use view='latent' or view='decoded', or rename the observation."
            )
        if termination != "off":
            model.require("continue", driver="learned termination", remedy="pass termination='off'.")
        if reward is None:
            model.require("reward", driver="a dream", remedy="pass reward=, a function of (state, action, next state).")
        announce_states(model, batch_size, print_fn)
        self.model = model.eval()
        self.batch_size = batch_size
        self.horizon = horizon
        self.view: View = view
        self.termination: Termination = termination
        self.device = model_device(model)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.starts = PriorStarts(model) if starts is None else starts
        self._reward = reward
        self._penalty = penalty
        self._noise = model.noise_source("imagine")
        self._compile = compile
        self._donates = "donate" in model.capabilities and reward is None and penalty is None
        self._imagine, self._imagine_pure = self._steppers()
        self._no_flags = torch.zeros(batch_size, 1, dtype=torch.bool, device=self.device)
        self.state: State = {}
        self.done = ~self._no_flags
        self.all_running = False
        # A row's age is the common clock less its time of birth: a step then moves one number and no tensor, and no row
        # can reach the horizon before the oldest does.
        self._clock = self._oldest = 0
        self._born = torch.zeros(batch_size, 1, dtype=torch.int64, device=self.device)
        self._copies_view, self.observation_spec = self._first_look()

    @property
    def elapsed(self) -> Tensor:
        """Steps that each row has taken since it began, int64 ``[N, 1]``."""
        return self._clock - self._born

    def seed(self, seed: int) -> None:
        """Seed the rows' common generator: the same seed, the same starts and the same dream."""
        self.generator.manual_seed(seed)

    def reset(self, mask: Tensor | None = None) -> Observation:
        """Restart rows.

        Args:
            mask: bool ``[N, 1]`` or ``[N]``, the rows to restart; all if not given. Other rows are left as they are.

        Returns:
            The observation of every row, restarted or not.

        Raises:
            ValueError: if the start states are not the model's, or the first reset names rows.
        """
        with torch.no_grad():
            if mask is None:
                self._begin()
            elif not self.state:
                raise ValueError("the first reset begins every row: leave the mask out.")
            else:
                self._restart(mask)
            return self.look(self.state)

    def step(self, action: Tensor, *, restart: Tensor | None = None, hold: Tensor | None = None) -> DreamStep:
        """Take one step in every row, but for the rows named otherwise.

        Args:
            action: a_t, ``[N, ...]`` as the model's ``action_spec`` says, on the simulator's device.
            restart: bool ``[N, 1]``: rows that begin a new episode instead. Their action is ignored, their reward is 0
                and their flags are false.
            hold: bool ``[N, 1]``: rows that stay where they are, with the same reward and flags.

        Raises:
            RuntimeError: before the first reset.
        """
        if not self.state:
            raise RuntimeError("no dream was begun: call reset() before step().")
        with torch.no_grad():
            before, rows = self.state, (self.batch_size,)
            imagine = self._imagine_pure if self._donates and hold is not None else self._imagine
            self.state, reward, cont = self._advance(imagine, before, action, rows)
            self._clock += 1
            due = self.horizon is not None and self._clock - self._oldest >= self.horizon
            truncated = self._born <= self._clock - cast(int, self.horizon) if due else self._no_flags.clone()
            terminated = self._no_flags.clone() if self.termination == "off" else self._ended(cont, rows)
            self.all_running = self.termination == "off" and not due and hold is None
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
            return DreamStep(self.look(self.state), reward, terminated, truncated)

    def predict(self, state: State, action: Tensor, batch_size: Sequence[int]) -> tuple[State, Tensor, Tensor]:
        """One step from any states, under this dream's reward and termination; moves no row of the dream itself.

        Args:
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            batch_size: B.

        Returns:
            s_{t+1}, r_{t+1} ``[*B, 1]`` and terminated_{t+1} bool ``[*B, 1]``. Differentiable in state and action.

        Raises:
            ValueError: if a reward or a continuation has another shape than ``[*B, 1]``.
        """
        after, reward, cont = self._advance(self._imagine_pure, state, action, batch_size)
        if self.termination == "off":
            return after, reward, torch.zeros(reward.shape, dtype=torch.bool, device=self.device)
        return after, reward, self._ended(cont, batch_size)

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
        if self.view == "decoded":
            seen = self.model.decode(state)
        elif self.view == "latent":
            seen = {"latent": self.model.features(state)}
        else:
            seen = {"latent": self.model.features(state), **self.model.decode(state)}
        return {key: value.clone() for key, value in seen.items()} if self._copies_view else seen

    def get_state(self) -> TensorDict:
        """Everything that decides the future: states, clocks, flags, generator. A value: later steps do not change it.

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
            }
        )

    def set_state(self, saved: TensorDictBase) -> Observation:
        """Go back to a saved state; the future from it repeats itself exactly.

        Args:
            saved: what :meth:`get_state` gave, here or in a dream of the same model and number of rows.

        Returns:
            The observation of every row.

        Raises:
            ValueError: if the saved state has other keys or another number of rows than this dream.
        """
        state = {
            cast(str, key): value.to(self.device, copy=True)
            for key, value in cast(TensorDictBase, saved["state"]).items()
        }
        self._check_state(state)
        self.state = state
        self._born = self._clock - saved["elapsed"].to(self.device)
        self._oldest = int(self._born.min())
        self.done = saved["done"].to(self.device, copy=True)
        self.all_running = False
        self.generator.set_state(saved["generator"].cpu())
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
        twin.generator = torch.Generator(self.device)
        twin.generator.set_state(self.generator.get_state())
        return twin

    def _steppers(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The step of the rows, in place where that may be, and the pure one."""
        pure: Any = torch.compile(self.model.imagine) if self._compile else self.model.imagine
        if not self._donates:
            return pure, pure
        return torch.compile(self.model.imagine_donated) if self._compile else self.model.imagine_donated, pure

    def __getstate__(self) -> dict[str, Any]:
        # A compiled step cannot be pickled, nor copied with its model; it is made again on the other side.
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_imagine")}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self._imagine, self._imagine_pure = self._steppers()

    def _advance(
        self, imagine: Callable[..., Any], state: State, action: Tensor, batch_size: Sequence[int]
    ) -> tuple[State, Tensor, Tensor | None]:
        noise = self._noise(batch_size, self.generator, self.device)
        after, reward, cont = imagine(state, action, noise)
        shape = (*batch_size, 1)
        if self._reward is None:
            reward = _shaped(reward, shape, "the model's reward")
        else:
            # A copy: what a user's function returns may be a slice of the state.
            reward = _shaped(self._reward(state, action, after), shape, "what reward= returns").clone()
        if self._penalty is not None:
            reward = reward - _shaped(self._penalty(state, action, after), shape, "what penalty= returns")
        return after, reward, cont

    def _ended(self, cont: Tensor | None, batch_size: Sequence[int]) -> Tensor:
        shape = (*batch_size, 1)
        cont = _shaped(cont, shape, "the model's continuation")
        if self.termination == "threshold":
            return cont < 0.5
        return torch.rand(shape, generator=self.generator, device=self.device) >= cont

    def _begin(self) -> None:
        fresh = self.starts.sample(self.batch_size, self.generator)
        self._check_state(fresh)
        self.state = fresh
        self._born = torch.full_like(self._born, self._clock)
        self._oldest = self._clock
        self.done, self.all_running = self._no_flags, True

    def _restart(self, mask: Tensor) -> None:
        # Where looking costs nothing, a mask of all rows is seen for what it is: their clocks agree again.
        if self.device.type == "cpu" and bool(mask.all()):
            return self._begin()
        mask = mask.reshape(self.batch_size, 1)
        self.state = where_rows(mask, self.starts.sample(self.batch_size, self.generator), self.state)
        self._born = self._born.masked_fill(mask, self._clock)
        self.done = self.done & ~mask
        self.all_running = False

    def _first_look(self) -> tuple[bool, Composite]:
        """Whether the view shares memory with the state, and so has to be copied; the spec of one row's observation."""
        self._copies_view = False
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

    def _check_state(self, state: State) -> None:
        expected = {key: (self.batch_size, *leaf.shape) for key, leaf in self.model.state_spec.items()}
        got = {key: tuple(value.shape) for key, value in state.items()}
        if got != expected:
            raise ValueError(
                f"{type(self.model).__name__} has the state {expected}, and the start states are {got}; build them "
                f"with this model (ReplayStarts, PriorStarts) and for {self.batch_size} rows."
            )


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


def make_simulator(model: Model, starts: Starts | None = None, **options: Any) -> Simulator:
    """A simulator from a model, or from the path of a saved one together with the start states saved beside it.

    Args:
        model: a world model, or a folder written by ``save_pretrained``.
        starts: where dreams begin; by default the saved start states, else the model's prior.
        **options: of :class:`Simulator`.

    Raises:
        BadModelError: if the folder holds no valid saved model.
    """
    if isinstance(model, (str, Path)):
        model, saved = load_with_starts(model)
        starts = PoolStarts(saved) if starts is None and saved is not None else starts
    return Simulator(model, starts, **options)


def _shaped(value: Tensor | None, shape: tuple[int, ...], name: str) -> Tensor:
    if value is None or value.shape != shape:
        got = None if value is None else tuple(value.shape)
        raise ValueError(f"{name} must have shape {shape}, one number a row and a last dimension of 1; got {got}.")
    return value
