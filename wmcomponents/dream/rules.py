"""What holds in every dream of one model under the same options, whatever its rows."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchrl.data import Composite, Unbounded

from wmcomponents.codecs import all_finite
from wmcomponents.dream.checks import Layout, not_finite, rows_not_finite
from wmcomponents.dream.options import StepChoices
from wmcomponents.dream.starts import model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Noise, Observation, State, WorldModel, items_of


class Advance(NamedTuple):
    """One step of a model, and what the rules make of it.

    Attributes:
        state: s_{t+1}, ``[*B, ...]``.
        reward: r_{t+1}, ``[*B, 1]``.
        cont: the probability to go on, as the model gives it.
        uncertainty: u(s_t, a_t), ``[*B, 1]``; ``None`` where none is measured.
        halted: bool ``[*B, 1]``, ends for want of knowledge; ``None`` where nothing does.
    """

    state: State
    reward: Tensor
    cont: Tensor | None
    uncertainty: Tensor | None = None
    halted: Tensor | None = None


class DreamRules:
    """How a dream goes: a step of its model, the reward, the end of an episode, and what is seen of a state.

    Holds nothing of any row, so that dreams that were forked share it. Whoever calls it holds the model in eval mode.

    Args:
        model: the world model.
        choices: the options.
        compile: compile the model's step.

    Attributes:
        device: where the model stands.
        noise_source: draws the base noise of its steps.
        endless: whether no row ends before the horizon.
        inplace: whether :attr:`imagine` may overwrite the state that it is given: where the model can, and no function
            of the user's reads the state before.
        imagine: the model's step.
        imagine_pure: the model's step that leaves the state before as it is.
        observation_spec: of what is seen of one row.
        float_keys: the entries of what is seen that are floats.
        shares_view: whether what the model shows is part of its state, and so is copied before it is handed out.
    """

    def __init__(self, model: WorldModel, choices: StepChoices, *, compile: bool = False) -> None:
        self.model, self.choices, self.compiles = model, choices, compile
        self.device = model_device(model)
        self.noise_source = model.noise_source("imagine")
        self._state_leaves = {key: (tuple(leaf.shape), leaf.dtype) for key, leaf in items_of(model.state_spec)}
        self.inplace = "inplace" in model.capabilities and choices.reward is None and choices.penalty is None
        self.imagine, self.imagine_pure = self._steppers()
        self.shares_view = False
        self.shares_view, self.observation_spec = self._first_look()
        uncertainty = choices.uncertainty
        self.endless = choices.termination == "off" and (uncertainty is None or uncertainty.halt is None)
        leaves = items_of(self.observation_spec)
        self.float_keys = [key for key, leaf in leaves if leaf.dtype in (torch.float32, torch.float64)]

    def layout(self, rows: int) -> Layout:
        """Shapes and dtypes of the states of so many rows."""
        return {key: ((rows, *shape), dtype) for key, (shape, dtype) in self._state_leaves.items()}

    def advance(
        self, imagine: Callable[..., Any], state: State, action: Tensor, batch_size: Sequence[int], z: Noise | None
    ) -> Advance:
        """One step of the model.

        Args:
            imagine: :attr:`imagine` or :attr:`imagine_pure`.
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            batch_size: B.
            z: the model's base noise, ``[*B, ...]``; ``None`` takes the mode.

        Raises:
            ValueError: if the reward, or the uncertainty, has another shape.
        """
        shape, choices, unknown = (*batch_size, 1), self.choices, None
        if choices.uncertainty is not None:  # before the step, which may overwrite the state
            unknown = choices.uncertainty.measured(self.model, state, action, shape)
        after, reward, cont = imagine(state, action, z)
        if unknown is not None and reward is None and choices.reward is None:
            reward = torch.zeros_like(unknown)
        elif choices.reward is None:
            reward = _shaped(reward, shape, "the model's reward")
        else:
            # A copy: what a user's function returns may be a slice of the state.
            reward = _shaped(choices.reward(state, action, after), shape, "what reward= returns").clone()
        if choices.penalty is not None:
            reward = reward - _shaped(choices.penalty(state, action, after), shape, "what penalty= returns")
        if unknown is None:
            return Advance(after, reward, cont)
        reward, halted = choices.uncertainty.judged(reward, unknown)  # pyright: ignore[reportOptionalMemberAccess]
        return Advance(after, reward, cont, unknown, halted)

    def ended(
        self, cont: Tensor | None, end: Tensor | None, batch_size: Sequence[int], halted: Tensor | None = None
    ) -> Tensor:
        """Which episodes end here, bool ``[*B, 1]``; asked where the dream is not :attr:`endless`.

        Args:
            cont: the probability to go on, ``[*B, 1]``.
            end: uniform numbers, ``[*B, 1]``; read where ends are drawn. ``None`` ends a row that is likelier to end.
            batch_size: B.
            halted: bool ``[*B, 1]``: those that end whatever their probability.

        Raises:
            NotFiniteError: if the probability is not finite (on a CPU; elsewhere such a row ends).
            ValueError: if it has another shape.
        """
        if halted is not None:
            return halted if self.choices.termination == "off" else halted | self.ended(cont, end, batch_size)
        cont = _shaped(cont, (*batch_size, 1), "the model's continuation")
        if self.choices.termination != "sample":
            end = None
        if self.device.type != "cpu" or torch.compiler.is_compiling():
            # Not looked at here, so written such that a NaN ends its row.
            return ~(cont >= 0.5) if end is None else ~(end < cont)
        if not all_finite(cont):
            rows = rows_not_finite(cont.detach().numpy().reshape(-1, 1))
            raise not_finite(f"the probability to go on that {type(self.model).__name__} predicts", rows, self.model)
        return cont < 0.5 if end is None else end >= cont

    def look(self, state: State, *, lend: bool = False) -> Observation:
        """What is seen of states ``[*B, ...]``.

        Args:
            state: the states.
            lend: whether it may share memory with them.
        """
        view = self.choices.view
        if view == "decoded":
            seen = self.model.decode(state)
        elif view == "latent":
            seen = {"latent": self.model.features(state)}
        elif view == "goal":
            seen = {
                "observation": self.model.goal_free_features(state),
                "achieved_goal": self.model.achieved_goal(state),
                "desired_goal": self.model.desired_goal(state),
            }
        else:
            seen = {"latent": self.model.features(state), **self.model.decode(state)}
        return {key: value.clone() for key, value in seen.items()} if self.shares_view and not lend else seen

    def __getstate__(self) -> dict[str, Any]:
        # A compiled step cannot be pickled, nor copied with its model; it is made again on the other side.
        return {name: value for name, value in self.__dict__.items() if name not in ("imagine", "imagine_pure")}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self.imagine, self.imagine_pure = self._steppers()

    def _steppers(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The step of the rows, in place where that may be, and the pure one."""
        pure: Any = torch.compile(self.model.imagine) if self.compiles else self.model.imagine
        if not self.inplace:
            return pure, pure
        return torch.compile(self.model.imagine_inplace) if self.compiles else self.model.imagine_inplace, pure

    def _first_look(self) -> tuple[bool, Composite]:
        """Whether the view shares memory with the state; the spec of one row's observation."""
        state = self.model.initial_state((1,), self.device)
        with torch.no_grad(), EvalMode(self.model):
            seen = self.look(state)
        held = {value.untyped_storage().data_ptr() for value in state.values()}
        shares = any(value.untyped_storage().data_ptr() in held for value in seen.values())
        spec = Composite()
        shown = self.model.observation_spec if self.choices.view in ("decoded", "both") else {}
        for key, value in seen.items():
            if key not in shown:
                spec[key] = Unbounded(value.shape[1:], dtype=value.dtype)
        for key, leaf in shown.items():
            spec[key] = leaf.clone()
        return shares, spec.to(self.device)


def _shaped(value: Tensor | None, shape: tuple[int, ...], name: str) -> Tensor:
    if value is None or value.shape != shape:
        got = None if value is None else tuple(value.shape)
        raise ValueError(f"{name} must have shape {shape}, one number a row and a last dimension of 1; got {got}.")
    return value
