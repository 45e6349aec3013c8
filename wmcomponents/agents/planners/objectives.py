"""What a sequence of actions is worth, told while it is imagined."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wmcomponents.dream.goals import GOAL, DecodedView, GoalReward
from wmcomponents.functional.goal_distances import euclidean
from wmcomponents.world_model import Noise, Prediction, State, WorldModel


class TerminalValue(ABC):
    """What the states at a plan's end are worth."""

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Noise:
        """Noise for :meth:`value`; nothing unless a value says so."""
        return {}

    @abstractmethod
    def value(self, state: State, noise: Noise) -> Tensor:
        """Expected return from the states on, ``[*B, 1]``."""


class ModelValue(TerminalValue):
    """The world model's own value.

    Args:
        model: the world model; it predicts a value.

    Raises:
        CapabilityError: if it does not.
    """

    def __init__(self, model: WorldModel) -> None:
        model.require("value", driver="a terminal value", remedy="hand in a TerminalValue, or plan without one.")
        self.model = model

    def value(self, state: State, noise: Noise) -> Tensor:
        """The model's, ``[*B, 1]``."""
        return self.model.value(state)


Weighed = tuple[Tensor | float, Tensor | float]
"""The value of the steps so far, and the weight of what comes, ``[*B, 1]`` each."""

Continuation = Callable[[Tensor], Tensor]
"""The weight of what follows a step, from P(not terminated) ``[*B, 1]``."""


def expected(cont: Tensor) -> Tensor:
    """What follows counts by its probability."""
    return cont


def thresholded(cont: Tensor) -> Tensor:
    """What follows counts unless the episode has more likely ended than not, as TD-MPC2 and mbrl-lib plan."""
    return (cont >= 0.5).to(cont.dtype)


class Objective(ABC):
    """The value of an imagined sequence, folded step by step so that no state is kept.

    Attributes:
        keys: entries that it reads beside the state, such as a goal.
        needs: what it reads of the model, by capability.
    """

    keys: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def check(self, model: WorldModel) -> None:
        """Refuse a model that lacks what is read of it.

        Raises:
            CapabilityError: naming the remedy.
        """
        model.require(
            *self.needs, driver="the objective of a plan", remedy="plan towards a goal with GoalDistance(...) instead."
        )

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Noise:
        """Noise for :meth:`end`; nothing unless an objective says so."""
        return {}

    @abstractmethod
    def begin(self, state: State) -> Weighed:
        """Before the first step, in states ``[*B, ...]``."""

    @abstractmethod
    def step(self, so_far: Weighed, after: Prediction, given: dict[str, Tensor], is_last: bool) -> Weighed:
        """After a step."""

    def end(self, so_far: Weighed, state: State, noise: Noise) -> Tensor:
        """The value, ``[*B, 1]``."""
        return torch.as_tensor(so_far[0])


class SummedReward(Objective):
    r"""Rewards, discounted and weighed by whether the episode goes on, plus a terminal value.

    .. math:: \sum_{t=0}^{H-1} \gamma^t \Big(\prod_{k \le t} c_k\Big) r_{t+1} +
              \gamma^H \Big(\prod_{k \le H} c_k\Big) V(s_H)

    The reward of the step that ends an episode counts.

    Args:
        discount: gamma; or a function of the states ``[*B, ...]`` that returns it ``[*B, 1]``, such as each task's.
        terminal: what the last states are worth; nothing if not given.
        continuation: the weight of what follows a step, where the model predicts whether the episode goes on.
    """

    needs = ("reward",)

    def __init__(
        self,
        discount: float | Callable[[State], Tensor] = 1.0,
        terminal: TerminalValue | None = None,
        continuation: Continuation = expected,
    ) -> None:
        if not callable(discount) and not 0 <= discount <= 1:
            raise ValueError(f"discount lies in [0, 1]; got {discount}.")
        self.discount, self.terminal, self.continuation = discount, terminal, continuation

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Noise:
        """The terminal value's."""
        return {} if self.terminal is None else self.terminal.draw(batch_size, generator)

    def begin(self, state: State) -> Weighed:
        """Nothing so far."""
        return 0.0, 1.0

    def step(self, so_far: Weighed, after: Prediction, given: dict[str, Tensor], is_last: bool) -> Weighed:
        """Add the reward; what follows weighs less."""
        total, weight = so_far
        assert after.reward is not None  # looked at when the planner was built
        discount = self.discount(after.state) if callable(self.discount) else self.discount
        total = total + weight * after.reward
        weight = weight * discount
        return total, weight if after.cont is None else weight * self.continuation(after.cont)

    def end(self, so_far: Weighed, state: State, noise: Noise) -> Tensor:
        """Add the terminal value."""
        total, weight = so_far
        return torch.as_tensor(total if self.terminal is None else total + weight * self.terminal.value(state, noise))


class GoalDistance(Objective):
    """How near imagined states come to a goal: for models that predict no reward.

    Args:
        view: what is compared, float ``[*B, F]`` of states; see :meth:`latent` and :meth:`observation`.
        goal: ``[F]`` or ``[*B, F]``; read from the entry ``key`` at every plan if not given.
        key: of the goal beside the state.
        distance: of view and goal, ``[*B, 1]``.
        running: weight of the distances before the last one, which has 1.
    """

    def __init__(
        self,
        view: Callable[[State], Tensor],
        goal: Tensor | None = None,
        *,
        key: str = "goal",
        distance: Callable[[Tensor, Tensor], Tensor] = euclidean,
        running: float = 0.0,
    ) -> None:
        self.view, self.goal, self.key, self.distance, self.running = view, goal, key, distance, running
        self.keys = (key,) if goal is None else ()

    @classmethod
    def of(cls, reward: GoalReward, *, running: float = 0.0) -> "GoalDistance":
        """The distance that a :class:`~wmcomponents.dream.GoalReward` pays for, to its goal or the state's own.

        Args:
            reward: what is compared, how, and the goal; where it has none, the entry ``goal`` of a
                :class:`~wmcomponents.dream.GoalWorldModel` is read.
            running: see the class.
        """
        return cls(reward.view, reward.goal, key=GOAL, distance=reward.distance, running=running)

    @classmethod
    def latent(cls, model: WorldModel, goal: Tensor | None = None, **options: float | str) -> "GoalDistance":
        """Distance between features.

        Raises:
            CapabilityError: if the model has none.
        """
        model.require("features", driver="a latent goal", remedy="plan towards an observation, or hand in a view.")
        return cls(model.features, goal, **options)  # pyright: ignore[reportArgumentType]

    @classmethod
    def observation(
        cls, model: WorldModel, observed: str, goal: Tensor | None = None, **options: float | str
    ) -> "GoalDistance":
        """Distance between decoded observations ``[*B, *shape]``, flat, and a goal ``[*B, F]``.

        Raises:
            CapabilityError: if the model decodes nothing.
            KeyError: if it has no such observation.
        """
        model.require("decode", driver="an observed goal", remedy="plan towards a latent goal instead.")
        if observed not in model.observation_spec.keys():
            raise KeyError(f"{type(model).__name__} observes {list(model.observation_spec.keys())}, not {observed!r}.")
        return cls(DecodedView(model, observed), goal, **options)  # pyright: ignore[reportArgumentType]

    def begin(self, state: State) -> Weighed:
        """Nothing so far."""
        return 0.0, 1.0

    def step(self, so_far: Weighed, after: Prediction, given: dict[str, Tensor], is_last: bool) -> Weighed:
        """Subtract the distance."""
        weight = 1.0 if is_last else self.running
        if weight == 0.0:
            return so_far
        view = self.view(after.state)
        goal = given[self.key] if self.goal is None else self.goal.to(view.device)
        goal = goal.reshape(*goal.shape[:-1], *(1,) * (view.ndim - goal.ndim), goal.shape[-1])
        return so_far[0] - weight * self.distance(view, goal.expand_as(view)), 1.0
