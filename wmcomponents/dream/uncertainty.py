"""What a dream does where its model does not know: tell it, charge for it, end there, or seek it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.dream.starts import model_device
from wmcomponents.functional import ensemble_variance, max_aleatoric_std
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import CapabilityError, Quantity, State, WorldModel

UNCERTAINTY = "uncertainty"
"""Key of the uncertainty: in ``info``, and in TensorDicts under ``next``."""

Measure = Callable[[WorldModel, State, Tensor], Tensor]
"""u(s_t, a_t) of a model, ``[*B]`` or ``[*B, 1]``; 0 where it knows what comes."""

RewardRule = Callable[[Tensor, Tensor], Tensor]
"""The reward that an agent gets, from the model's ``[*B, 1]`` and the uncertainty ``[*B, 1]``."""


@dataclass(frozen=True)
class Disagreement:
    """How far the members of an ensemble lie apart in what they predict of the next step.

    Args:
        by: the distance of the members' means ``[*B, M, D]``, one number a row: ``ensemble_variance`` (Plan2Explore),
            ``ensemble_std``, ``max_pairwise_distance`` (MOReL).
        of: what is predicted: ``"observation"``, ``"reward"``, or ``"features"`` (where members share a latent space).
    """

    by: Callable[[Tensor], Tensor] = ensemble_variance
    of: Quantity = "observation"

    def __call__(self, model: WorldModel, state: State, action: Tensor) -> Tensor:
        """The disagreement ``[*B]`` in states ``[*B, ...]`` under actions ``[*B, ...]``."""
        return self.by(model.predict_members(state, action, self.of).mean)


@dataclass(frozen=True)
class PredictedSpread:
    """How uncertain the most uncertain member is, by its own word (MOPO).

    Args:
        by: the size of the members' standard deviations ``[*B, M, D]``, one number a row.
        of: what is predicted.
    """

    by: Callable[[Tensor], Tensor] = max_aleatoric_std
    of: Quantity = "observation"

    def __call__(self, model: WorldModel, state: State, action: Tensor) -> Tensor:
        """The spread ``[*B]`` in states ``[*B, ...]`` under actions ``[*B, ...]``.

        Raises:
            CapabilityError: if the members predict no spread.
        """
        std = model.predict_members(state, action, self.of).std
        if std is None:
            raise CapabilityError(
                f"the members of {type(model).__name__} predict no spread: measure their Disagreement() instead, or "
                f"take a ProbabilisticEnsemble."
            )
        return self.by(std)


@dataclass(frozen=True)
class Penalty:
    r"""Charge for uncertainty: :math:`r - \lambda u` (MOPO).

    Args:
        scale: lambda.
    """

    scale: float = 1.0

    def __call__(self, reward: Tensor, uncertainty: Tensor) -> Tensor:
        """The reward less the charge, ``[*B, 1]``."""
        return reward - self.scale * uncertainty


@dataclass(frozen=True)
class Bonus:
    r"""Pay for uncertainty besides the reward: :math:`r + \beta u`.

    Args:
        scale: beta.
    """

    scale: float = 1.0

    def __call__(self, reward: Tensor, uncertainty: Tensor) -> Tensor:
        """The reward and the bonus, ``[*B, 1]``."""
        return reward + self.scale * uncertainty


@dataclass(frozen=True)
class Exploration:
    r"""Pay for uncertainty alone: :math:`\beta u` (Plan2Explore). The model needs no reward.

    Args:
        scale: beta.
    """

    scale: float = 1.0

    def __call__(self, reward: Tensor, uncertainty: Tensor) -> Tensor:
        """The bonus, ``[*B, 1]``."""
        return self.scale * uncertainty


@dataclass(frozen=True)
class Halt:
    r"""End the episode where the model does not know (MOReL's HALT).

    The episode is terminated, so that nothing is expected to follow: one reward stands for all that an absorbing state
    would give. For a penalty of kappa at each step that is :math:`-\kappa / (1 - \gamma)`.

    Args:
        threshold: the largest uncertainty from which a dream goes on.
        reward: of the step that ends there, in place of any other.
    """

    threshold: float
    reward: float


class Judged(NamedTuple):
    """A step after its uncertainty was looked at.

    Attributes:
        reward: ``[*B, 1]``.
        halted: bool ``[*B, 1]``: ends here; ``None`` where nothing ends for uncertainty.
    """

    reward: Tensor
    halted: Tensor | None


class JudgedDream(NamedTuple):
    """All steps of a dream after their uncertainty was looked at, ``[*B, T, 1]`` each.

    Attributes:
        uncertainty: u(s_t, a_t).
        reward: what each step pays; ``None`` where nothing does.
        cont: P(not terminated), 0 where the dream is halted; ``None`` where nothing ends it.
    """

    uncertainty: Tensor
    reward: Tensor | None
    cont: Tensor | None


@dataclass(frozen=True)
class Uncertainty:
    """What is measured of every dreamt step, and what follows from it.

    Where it is given, every step tells its uncertainty u(s_t, a_t): adapters in ``info["uncertainty"]`` or under the
    key ``("next", "uncertainty")``. It costs what the measure costs: for an :class:`~wmcomponents.models.Ensemble`
    another step of every member.

    Args:
        measure: u; how far an ensemble's members disagree, if not given.
        reward: what becomes of the reward: :class:`Penalty`, :class:`Bonus`, :class:`Exploration`, or a function of
            yours; it stays as it is if not given.
        halt: where the dream ends early; nowhere if not given.
    """

    measure: Measure = Disagreement()  # noqa: RUF009  frozen
    reward: RewardRule | None = None
    halt: Halt | None = None

    @property
    def needs_reward(self) -> bool:
        """Whether the model's reward is read."""
        return not isinstance(self.reward, Exploration)

    def check(self, model: WorldModel) -> None:
        """Refuse what is no measure of this model.

        Raises:
            CapabilityError: if the model has no members, and the measure asks them.
            TypeError: if an argument is of another kind.
        """
        for name, part in (("measure", self.measure), ("reward", self.reward)):
            if not callable(part) and not (part is None and name == "reward"):
                raise TypeError(
                    f"{name} of an Uncertainty is a function, such as Disagreement() or Penalty(); got {part!r:.80}."
                )
        if self.halt is not None and not isinstance(self.halt, Halt):
            raise TypeError(f"halt of an Uncertainty is a Halt(threshold, reward); got {self.halt!r:.80}.")
        if isinstance(self.measure, (Disagreement, PredictedSpread)):
            model.require(
                "members",
                driver=type(self.measure).__name__,
                remedy="make an ensemble of several such models, Ensemble.of(factory, members=5), and train it; or "
                "give a measure of your own, a function of (model, state, action).",
            )

    def try_out(self, model: WorldModel) -> None:
        """Measure once, in the state before anything was seen.

        Raises:
            CapabilityError: if the model's members do not predict what is measured.
            ValueError: if the measure does not give one number a row.
        """
        device = model_device(model)
        with torch.no_grad(), EvalMode(model):
            self.measured(model, model.initial_state((1,), device), model.null_action((1,), device), (1, 1))

    def measured(self, model: WorldModel, state: State, action: Tensor, shape: tuple[int, ...]) -> Tensor:
        """u(s_t, a_t), ``[*B, 1]``.

        Args:
            model: the world model, in eval mode.
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            shape: ``[*B, 1]``.

        Raises:
            ValueError: if the measure has another shape.
        """
        found = self.measure(model, state, action)
        if found.shape == shape[:-1]:
            found = found.unsqueeze(-1)
        if found.shape != shape:
            raise ValueError(
                f"a measure of uncertainty gives one number a row, {list(shape)}; got {list(found.shape)}."
            )
        return found

    def judged(self, reward: Tensor, uncertainty: Tensor) -> Judged:
        """What becomes of a step, all ``[*B, 1]``.

        Args:
            reward: the model's.
            uncertainty: as :meth:`measured`.
        """
        if self.reward is not None:
            reward = self.reward(reward, uncertainty)
        if self.halt is None:
            return Judged(reward, None)
        halted = ~(uncertainty <= self.halt.threshold)  # NaN is not known either
        return Judged(torch.where(halted, torch.full_like(reward, self.halt.reward), reward), halted)

    def judged_dream(
        self, model: WorldModel, states: State, actions: Tensor, reward: Tensor | None, cont: Tensor | None
    ) -> JudgedDream:
        """Measure all steps of a dream at once, and say what becomes of their rewards and ends.

        Args:
            model: the world model; measured in eval mode, and left in its own.
            states: s_0 .. s_{T-1}, ``[*B, T, ...]``.
            actions: taken in them, ``[*B, T, ...]``.
            reward: the model's, ``[*B, T, 1]``; ``None`` where it has none.
            cont: P(not terminated), ``[*B, T, 1]``; ``None`` where the model does not predict it.

        Raises:
            CapabilityError: if the model has no reward, and one is needed.
        """
        key, leaf = next(iter(model.state_spec.items()))
        first = states[str(key)]
        with EvalMode(model):
            unknown = self.measured(model, states, actions, (*first.shape[: first.ndim - leaf.ndim], 1))
        if reward is None and self.needs_reward and (self.reward is not None or self.halt is not None):
            model.require("reward", driver="this uncertainty", remedy="pay with Exploration(), or only measure it.")
        judged, halted = self.judged(torch.zeros_like(unknown) if reward is None else reward, unknown)
        if halted is not None:
            cont = (torch.ones_like(unknown) if cont is None else cont).masked_fill(halted, 0.0)
        return JudgedDream(unknown, None if reward is None and self.reward is None else judged, cont)
