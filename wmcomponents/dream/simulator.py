"""The dream: one batched simulator, tensors only, that every environment adapter shares."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded

from wmcomponents.dream.starts import PoolStarts, PriorStarts, Starts
from wmcomponents.saving import load, load_starts
from wmcomponents.world_model import Observation, State, WorldModel

Model = WorldModel | str | Path
View = Literal["decoded", "latent", "both"]
Termination = Literal["sample", "threshold", "off"]
RewardFunction = Callable[[State, Tensor, State], Tensor]
"""r_{t+1} = f(s_t, a_t, s_{t+1}), in env units, ``[N, 1]``."""


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

    A step never restarts a row by itself: the driver calls :meth:`reset` with the mask of rows to restart, when its own
    contract says so. Nothing in a step reads tensor data on the host.

    Args:
        model: the world model; it is neither copied nor moved, and is put in eval mode.
        starts: where dreams begin; the model's own prior if not given.
        batch_size: N, the number of rows.
        horizon: steps after which a row is truncated; ``None`` never truncates.
        view: what is observed: ``"decoded"`` (as the real environment shows it), ``"latent"`` (``features``, under the
            key ``latent``), or ``"both"``.
        termination: ``"sample"`` draws termination with probability 1 - continue, ``"threshold"`` ends where continue is
            below one half, ``"off"`` never terminates.
        reward: replaces the model's reward, and is needed where the model has none.
        penalty: subtracted from the reward; for example a disagreement of an ensemble, same signature.
        seed: of the rows' common generator.
        compile: compile the model's step.

    Raises:
        CapabilityError: if the model lacks what the view, the termination or the reward needs.
        ValueError: if an argument is out of range.
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
        if termination != "off":
            model.require("continue", driver="learned termination", remedy="pass termination='off'.")
        if reward is None:
            model.require("reward", driver="a dream", remedy="pass reward=, a function of (state, action, next state).")
        self.model = model.eval()
        self.batch_size = batch_size
        self.horizon = horizon
        self.view: View = view
        self.termination: Termination = termination
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.starts = PriorStarts(model) if starts is None else starts
        self._reward = reward
        self._penalty = penalty
        self._noise = model.noise_source("imagine")
        self._imagine = torch.compile(model.imagine) if compile else model.imagine
        self._no_flags = torch.zeros(batch_size, 1, dtype=torch.bool, device=self.device)
        self.state: State = {}
        self.elapsed = torch.zeros(batch_size, 1, dtype=torch.int64, device=self.device)
        self._copies_view = False

    @property
    def observation_spec(self) -> Composite:
        """Spec of one row's observation under the chosen view, on the simulator's device."""
        spec = Composite()
        if self.view != "decoded":
            state = self.model.initial_state((), self.device)
            with torch.no_grad():
                features = self.model.features(state)
            spec["latent"] = Unbounded(features.shape, dtype=features.dtype)
        if self.view != "latent":
            for key, leaf in self.model.observation_spec.items():
                spec[key] = leaf.clone()
        return spec.to(self.device)

    def seed(self, seed: int) -> None:
        """Seed the rows' common generator: the same seed, the same starts and the same dream."""
        self.generator.manual_seed(seed)

    @torch.no_grad()
    def reset(self, mask: Tensor | None = None) -> Observation:
        """Restart rows.

        Args:
            mask: bool ``[N, 1]`` or ``[N]``, the rows to restart; all if not given. Other rows are left as they are.

        Returns:
            The observation of every row, restarted or not.
        """
        fresh = self.starts.sample(self.batch_size, self.generator)
        if mask is None or not self.state:
            self._check_start(fresh)
            self.state = fresh
            self.elapsed = torch.zeros_like(self.elapsed)
            self._copies_view = self._view_shares_memory()
        else:
            mask = mask.reshape(self.batch_size, 1)
            self.state = {
                key: torch.where(mask.view(-1, *(1,) * (old.ndim - 1)), fresh[key], old)
                for key, old in self.state.items()
            }
            self.elapsed = self.elapsed.masked_fill(mask, 0)
        return self.observe()

    @torch.no_grad()
    def step(self, action: Tensor) -> DreamStep:
        """Take one step in every row.

        Args:
            action: a_t, ``[N, ...]`` as the model's ``action_spec`` says, on the simulator's device.
        """
        state, reward, terminated = self.predict(self.state, action, (self.batch_size,))
        self.state = state
        self.elapsed = self.elapsed + 1
        truncated = self._no_flags.clone() if self.horizon is None else self.elapsed >= self.horizon
        return DreamStep(self.observe(), reward, terminated, truncated)

    def predict(self, state: State, action: Tensor, batch_size: Sequence[int]) -> tuple[State, Tensor, Tensor]:
        """One step from any states, under this dream's reward and termination; moves no row of the dream itself.

        Args:
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            batch_size: B.

        Returns:
            s_{t+1}, r_{t+1} ``[*B, 1]`` and terminated_{t+1} bool ``[*B, 1]``. Differentiable in state and action.
        """
        after, reward, cont = self._imagine(state, action, self._noise(batch_size, self.generator, self.device))
        if self._reward is not None:
            reward = self._reward(state, action, after)
        if self._penalty is not None:
            reward = cast(Tensor, reward) - self._penalty(state, action, after)
        reward = cast(Tensor, reward)
        if self.termination == "off" or cont is None:
            terminated = torch.zeros(reward.shape, dtype=torch.bool, device=self.device)
        elif self.termination == "sample":
            terminated = torch.rand(cont.shape, generator=self.generator, device=self.device) >= cont
        else:
            terminated = cont < 0.5
        return after, reward, terminated

    @torch.no_grad()
    def observe(self) -> Observation:
        """The view of the current states; fresh tensors."""
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
        """Everything that decides the future: states, clocks, generator. A value: later steps do not change it."""
        return TensorDict(
            {
                "state": {key: value.clone() for key, value in self.state.items()},
                "elapsed": self.elapsed.clone(),
                "generator": self.generator.get_state(),
            }
        )

    def set_state(self, saved: TensorDictBase) -> Observation:
        """Go back to a saved state; the future from it repeats itself exactly.

        Returns:
            The observation of every row.

        Raises:
            ValueError: if the saved state has other keys or another number of rows than this dream.
        """
        state = {key: value.clone().to(self.device) for key, value in saved["state"].items()}
        self._check_start(state)
        self.state = state
        self.elapsed = saved["elapsed"].clone().to(self.device)
        self.generator.set_state(saved["generator"])
        return self.observe()

    def fork(self, copies: int = 1) -> "Simulator":
        """A second dream that starts where this one stands; what happens in one leaves the other untouched.

        Args:
            copies: how many times each row is repeated: row i becomes rows i*copies to (i+1)*copies - 1. With one copy
                the twin draws the same noise, so the same actions lead to the same future.
        """
        twin = object.__new__(Simulator)
        twin.__dict__.update(self.__dict__)
        twin.batch_size = self.batch_size * copies
        twin.state = {key: value.repeat_interleave(copies, 0) for key, value in self.state.items()}
        twin.elapsed = self.elapsed.repeat_interleave(copies, 0)
        twin._no_flags = self._no_flags.repeat_interleave(copies, 0)
        twin.generator = torch.Generator(self.device)
        twin.generator.set_state(self.generator.get_state())
        return twin

    def _check_start(self, state: State) -> None:
        expected = {key: (self.batch_size, *leaf.shape) for key, leaf in self.model.state_spec.items()}
        got = {key: tuple(value.shape) for key, value in state.items()}
        if got != expected:
            raise ValueError(
                f"{type(self.model).__name__} has the state {expected}, and the start states are {got}; build them with "
                f"this model (ReplayStarts, PriorStarts) and for {self.batch_size} rows."
            )

    def _view_shares_memory(self) -> bool:
        held = {value.untyped_storage().data_ptr() for value in self.state.values()}
        return any(value.untyped_storage().data_ptr() in held for value in self.observe().values())


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
        path = model
        model = load(path)
        saved = load_starts(path) if starts is None else None
        starts = PoolStarts(saved) if saved is not None else starts
    return Simulator(model, starts, **options)
