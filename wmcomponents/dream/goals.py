"""Goals in a dream: any world model, paid for how near it comes to what a goal observation shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded

from wmcomponents.dream.starts import PriorStarts, Starts, model_device
from wmcomponents.functional.goal_distances import mean_squared
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel, items_of

View = Callable[[State], Tensor]
"""What is compared with a goal: of states ``[*B, ...]``, float ``[*B, G]``."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of what was achieved and what is desired, ``[*B, G]`` each: ``[*B, 1]``."""

GOAL = "goal"
"""State key of what is desired, as the view sees it."""


class GoalTerm(NamedTuple):
    """One part of the distance to a goal, such as images beside proprioception.

    Attributes:
        view: what is compared.
        distance: how; the mean of squared differences if not given.
        weight: of this part in the sum.
    """

    view: View
    distance: Distance = mean_squared
    weight: float = 1.0


class DecodedView:
    """What a model decodes of one observation, flat, as a :data:`View`.

    Args:
        model: the world model.
        key: of the observation.
    """

    def __init__(self, model: WorldModel, key: str) -> None:
        self.model, self.key, self.axes = model, key, model.observation_spec[key].ndim

    def __call__(self, state: State) -> Tensor:
        """``[*B, F]``, float."""
        shown = self.model.decode(state)[self.key]
        return shown.reshape(*shown.shape[: shown.ndim - self.axes], -1).float()


class GoalReward:
    """Minus the distance to a goal, as the ``reward=`` of a dream, a planner's objective or a model with goals.

    Args:
        model: the world model whose states are looked at.
        goal: an observation by key, without batch dims or ``[N, ...]`` (one for each row of the dream); it is seen by
            the model's filter alone, as the first of an episode. It can be given later: :meth:`toward`.
        terms: what is compared and how, summed; the model's features by the mean of squared differences if not given.
        success: distance from which a goal counts as reached; then :attr:`sparse` can be chosen.
        sparse: pay 0 where the goal is reached and -1 elsewhere, in place of minus the distance.

    Attributes:
        goal: what is desired, ``[G]`` or ``[N, G]``; ``None`` before one is given.

    Raises:
        CapabilityError: if the model offers no features and no terms are given.
        ValueError: if there are no terms, or a sparse reward without ``success``.

    Example:
        >>> from torchrl.data import OneHot
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2))
        >>> reward = GoalReward(model, {"observation": torch.ones(3)})
        >>> state = model.initial_state((5,))
        >>> reward(state, model.null_action((5,)), state).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        model: WorldModel,
        goal: Mapping[str, Tensor] | None = None,
        *,
        terms: Sequence[GoalTerm | View] | None = None,
        success: float | None = None,
        sparse: bool = False,
    ) -> None:
        if terms is None:
            remedy = "pass terms=[...] that look at its states, such as GoalTerm(DecodedView(model, key))."
            model.require("features", driver="a goal in latent space", remedy=remedy)
            terms = [GoalTerm(model.features)]
        if not terms:
            raise ValueError("a goal needs at least one term that is compared; got none.")
        if sparse and success is None:
            raise ValueError("a sparse reward tells whether the goal is reached: pass success=, the distance for that.")
        self.model, self.success, self.sparse = model, success, sparse
        self.terms = [one if isinstance(one, GoalTerm) else GoalTerm(one) for one in terms]
        with torch.no_grad(), EvalMode(model):
            empty = model.initial_state((1,), model_device(model))
            self.widths = [term.view(empty).shape[-1] for term in self.terms]
        self.goal: Tensor | None = None
        if goal is not None:
            self.toward(goal)

    def toward(self, goal: Mapping[str, Tensor]) -> "GoalReward":
        """Take another goal; gives itself back.

        Args:
            goal: an observation by key, see the class.

        Raises:
            ValueError: if the observation is not one of the model's.
        """
        self.goal = self.seen_in(goal)
        return self

    def seen_in(self, observation: Mapping[str, Tensor]) -> Tensor:
        """What the view sees of an observation alone, ``[*B, G]``.

        Args:
            observation: by key, ``[*B, ...]``.

        Raises:
            ValueError: if an entry is missing, or has another shape or dtype than the model's.
        """
        model, device = self.model, model_device(self.model)
        entries, batch = _entries(model, observation)
        entries = {key: value.to(device) for key, value in entries.items()}
        flags = torch.ones(*batch, 1, dtype=torch.bool, device=device)
        acted = model.action_spec  # nothing was done before: any action does, as it is not read
        action = torch.zeros(*batch, *acted.shape, dtype=acted.dtype, device=device)
        with torch.no_grad(), EvalMode(model):
            return self.view(model.observe(model.initial_state(batch, device), action, entries, flags, None))

    def view(self, state: State) -> Tensor:
        """What is compared of states ``[*B, ...]``: all terms side by side, ``[*B, G]``."""
        return torch.cat([term.view(state) for term in self.terms], -1)

    def distance(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Between two views ``[*B, G]``: the weighted sum over the terms, ``[*B, 1]``."""
        parts = zip(self.terms, achieved.split(self.widths, -1), desired.split(self.widths, -1), strict=True)
        return torch.stack([term.weight * term.distance(one, other) for term, one, other in parts]).sum(0)

    def paid(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """The reward for two views ``[*B, G]``, ``[*B, 1]``."""
        if self.sparse:
            return self.reached(achieved, desired).to(achieved.dtype) - 1.0
        return -self.distance(achieved, desired)

    def reached(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Whether goals are reached, bool ``[*B, 1]``; nowhere without ``success``."""
        distance = self.distance(achieved, desired)
        return torch.zeros_like(distance, dtype=torch.bool) if self.success is None else distance <= self.success

    def __call__(self, state: State, action: Tensor, after: State) -> Tensor:
        """r_{t+1} of s_t, a_t and s_{t+1}, ``[*B, 1]``.

        Raises:
            ValueError: before a goal is given.
        """
        if self.goal is None:
            raise ValueError("there is no goal yet: GoalReward(model, goal), or reward.toward(goal).")
        achieved = self.view(after)
        return self.paid(achieved, self.goal.expand_as(achieved))


def _entries(model: WorldModel, observation: Mapping[str, Tensor]) -> tuple[Observation, tuple[int, ...]]:
    """The entries of a goal as the model reads them, and their common batch dims."""
    entries, batches = {}, set()
    for key, leaf in items_of(model.observation_spec):
        if key not in observation:
            raise ValueError(
                f"a goal is an observation of the model, with {sorted(map(str, model.observation_spec.keys()))}; "
                f"{key!r} is missing among {sorted(observation)}."
            )
        value = torch.as_tensor(observation[key])
        rows = value.ndim - leaf.ndim
        if rows < 0 or value.shape[rows:] != leaf.shape or value.dtype != leaf.dtype:
            raise ValueError(
                f"a goal's {key!r} is {leaf.dtype} [..., {', '.join(map(str, leaf.shape))}]; got {value.dtype} "
                f"{list(value.shape)}. Give it as the environment shows it."
            )
        entries[key] = value
        batches.add(tuple(value.shape[:rows]))
    if len(batches) > 1:
        raise ValueError(f"the entries of a goal have the same batch dims; got {sorted(map(list, batches))}.")
    return entries, batches.pop()


class GoalWorldModel(WorldModel):
    """Any world model with a goal in its state: it is paid for coming near, and can end where it arrives.

    What it observes is what the model observes, and beside it the goal: ``desired_goal``, or ``desired_<key>`` where
    the model observes several things. So a policy that was trained in its dreams acts in a real environment that shows
    its goals. Its features are the model's, and what is desired.

    Args:
        model: the world model.
        reward: what is compared, how, and from where a goal counts as reached; features by the mean of squared
            differences if not given.
        ends: episodes end where the goal is reached.

    Attributes:
        model: the world model.
        reward: see above.

    Raises:
        CapabilityError: if the model offers no features and none are told in ``reward``.
        ValueError: if episodes are to end and ``reward`` has no ``success``.

    Example:
        >>> from torchrl.data import OneHot
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = GoalWorldModel(ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2)))
        >>> sorted(model.observation_spec.keys())
        ['desired_goal', 'observation']
    """

    def __init__(self, model: WorldModel, reward: GoalReward | None = None, *, ends: bool = False) -> None:
        reward = GoalReward(model) if reward is None else reward
        if ends and reward.success is None:
            raise ValueError("episodes end where the goal is reached: pass GoalReward(model, success=...).")
        observed, state = dict(items_of(model.observation_spec)), dict(items_of(model.state_spec))
        names = {key: "desired_goal" if len(observed) == 1 else f"desired_{key}" for key in observed}
        kept = {key: f"goal_{key}" for key in observed} if "decode" in model.capabilities else {}
        goals = {GOAL: Unbounded(sum(reward.widths)), **{name: observed[key].clone() for key, name in kept.items()}}
        super().__init__(
            observation_spec=Composite({**observed, **{name: observed[key].clone() for key, name in names.items()}}),
            action_spec=model.action_spec,
            state_spec=Composite({**state, **goals}),
            noise_spec=model.noise_spec,
        )
        self.model, self.reward, self.ends = model, reward, ends
        # By the model's keys: the name of a goal among observations, and, where it is shown, in the state.
        self._names, self._kept, self._inner = names, kept, list(state)

    @property
    def capabilities(self) -> frozenset[str]:
        """The model's, with rewards and goals; ends where it predicts them, or where arriving ends an episode."""
        own = set(self.model.capabilities) & {"decode", "features", "continue", "inplace"}
        return frozenset(own | {"reward", "goal"} | ({"continue"} if self.ends else set()))

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """The model's, and goals of zeros."""
        zeros = super().initial_state(batch_size, device)
        return {**zeros, **self.model.initial_state(batch_size, device)}

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The model's."""
        return self.model.null_action(batch_size, device)

    @property
    def infers_actions(self) -> bool:
        """As the model's."""
        return self.model.infers_actions

    def relabelled(self, sequences: TensorDictBase) -> TensorDictBase:
        """As the model's."""
        return self.model.relabelled(sequences)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Filter what the model observes, and look at the goal."""
        seen = {key: observation[key] for key in self._names}
        desired = {key: observation[name] for key, name in self._names.items()}
        after = self.model.observe(self._of_model(state), action, seen, is_init, noise)
        return {**after, **self.goal_state(desired)}

    def goal_state(self, goal: Mapping[str, Tensor]) -> State:
        """The entries of a state that tell its goal, ``[*B, ...]``.

        Args:
            goal: an observation of the model, ``[*B, ...]`` by key.
        """
        seen = self.reward.seen_in(goal)
        kept = {name: torch.as_tensor(goal[key], device=seen.device).clone() for key, name in self._kept.items()}
        return {GOAL: seen, **kept}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """A step of the model; its reward is that of the goal."""
        goal = {key: value.clone() for key, value in state.items() if key not in self._inner}
        return self._after(self.model.imagine(self._of_model(state), action, noise), goal)

    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same, in a state that is given away."""
        goal = {key: value for key, value in state.items() if key not in self._inner}
        return self._after(self.model.imagine_inplace(self._of_model(state), action, noise), goal)

    def decode(self, state: State) -> Observation:
        """What the model decodes, and the goal as it was given."""
        shown = {self._names[key]: state[name].clone() for key, name in self._kept.items()}
        return {**self.model.decode(self._of_model(state)), **shown}

    def features(self, state: State) -> Tensor:
        """The model's features and what is desired, side by side."""
        return torch.cat([self.model.features(self._of_model(state)), state[GOAL]], -1)

    def goal_free_features(self, state: State) -> Tensor:
        """The model's features."""
        return self.model.features(self._of_model(state))

    def achieved_goal(self, state: State) -> Tensor:
        """What is compared with the goal."""
        return self.reward.view(self._of_model(state))

    def desired_goal(self, state: State) -> Tensor:
        """What is desired."""
        return state[GOAL]

    def goal_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Minus the distance, or whether it is small enough."""
        return self.reward.paid(achieved, desired)

    def _of_model(self, state: State) -> State:
        return {key: state[key] for key in self._inner}

    def _after(self, step: Prediction, goal: State) -> Prediction:
        achieved, cont = self.reward.view(step.state), step.cont
        if self.ends:
            on = (~self.reward.reached(achieved, goal[GOAL])).to(achieved.dtype)
            cont = on if cont is None else cont * on
        return Prediction({**step.state, **goal}, self.reward.paid(achieved, goal[GOAL]), cont)


class GoalStarts(Starts):
    """Starts of a dream with goals: a state of the model, and a goal drawn from given observations.

    Args:
        model: the world model with goals.
        goals: observations of its model to reach, ``[G, ...]`` by key.
        starts: where the model's dreams begin; its prior if not given.

    Raises:
        ValueError: if the goals are no observations of the model, or there are none.
    """

    def __init__(self, model: GoalWorldModel, goals: Mapping[str, Tensor], starts: Starts | None = None) -> None:
        self.starts = PriorStarts(model.model) if starts is None else starts
        self.pool = model.goal_state(goals)
        if self.pool[GOAL].ndim != 2 or not len(self.pool[GOAL]):
            raise ValueError(f"goals are observations [G, ...], at least one; got {list(self.pool[GOAL].shape)}.")
        self.ordered = self.starts.ordered

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """States of the model and goals, drawn apart from each other, ``[count, ...]``."""
        begun = self.starts.sample(count, generator, rows) if self.ordered else self.starts.sample(count, generator)
        device = generator.device
        index = torch.randint(len(self.pool[GOAL]), (count,), generator=generator, device=device)
        self.pool = {key: value.to(device) for key, value in self.pool.items()}
        return {**begun, **{key: value.index_select(0, index) for key, value in self.pool.items()}}
