"""A world model as a tree search sees it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.agents.search.candidates import AllChoices, Edges
from wmcomponents.codecs import ActionVector
from wmcomponents.functional import at_least_float32
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import CapabilityError, Noise, State, WorldModel

REMEDIES = {
    "reward": "reward=function(state, action, next_state) giving [B, 1]",
    "value": "value=function(state) giving [B, 1] (or value=no_value)",
    "prior": "prior=function(state) giving {params} raw outputs of a policy (or prior=uniform_prior)",
}

StateFunction = Callable[[State], Tensor]
RewardFunction = Callable[[State, Tensor, State], Tensor]


class Evaluation(NamedTuple):
    """What is known of states before anything is searched below them.

    Attributes:
        value: of the player who moves, ``[B]``.
        logits: of the edges, ``[B, K]``; minus infinity where one cannot be taken.
        vectors: actions of the edges, ``[B, K, A]``, where each node has its own; else ``None``.
    """

    value: Tensor
    logits: Tensor
    vectors: Tensor | None


class Arrival(NamedTuple):
    """What an edge led to.

    Attributes:
        state: of the model, ``[B, ...]``.
        reward: of the player who acted, ``[B]``.
        discount: discount times continuation, ``[B]``; negative where the other player moves next.
    """

    state: State
    reward: Tensor
    discount: Tensor


class SearchedModel:
    """A world model with what a search needs of it beside its dream: a value, a prior, and the actions to try.

    With two players (a state that has ``to_play``) values are those of the player who moves, rewards those of the
    player who moved, and what the other gains is lost.

    Args:
        model: the world model. A value-equivalent one brings its value and its policy along.
        discount: gamma of one step, without the sign of two players. A value-equivalent model knows its own.
        edges: the actions to try at a node; every choice if not given.
        prior: raw policy ``[B, params]`` of states ``[B, ...]``: logits of choices, or mean and deviation of numbers.
            ``uniform_prior`` prefers nothing.
        value: value ``[B, 1]`` of states; ``no_value`` is 0.
        reward: reward ``[B, 1]`` of a state, an action and the state after it, for a model without rewards.
        legal: which edges may be taken in states, bool ``[B, K]``, for a model that knows the rules; all if not given.

    Raises:
        CapabilityError: if the model has no value, prior or reward and none is given.
        ValueError: if a discount is missing or outside [0, 1], or actions are numbers and no samples are asked for.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        discount: float | None = None,
        edges: Edges | None = None,
        prior: StateFunction | None = None,
        value: StateFunction | None = None,
        reward: RewardFunction | None = None,
        legal: StateFunction | None = None,
    ) -> None:
        self.model, self.reward, self.legal = model, reward, legal
        self.eval_mode = EvalMode(model)
        self.action_vector = ActionVector(model.action_spec)
        self.edges: Edges = AllChoices(model.action_spec) if edges is None else edges
        own = model.predict if isinstance(model, ValueEquivalentModel) else None
        missing = {
            "reward": reward is None and "reward" not in model.capabilities,
            "value": value is None and "value" not in model.capabilities,
            "prior": prior is None and own is None,
        }
        if any(missing.values()):
            lacks = [name for name, is_missing in missing.items() if is_missing]
            raise CapabilityError(
                f"a tree search needs {' and '.join(lacks)} of its model, and {type(model).__name__} has none: hand in "
                + ", ".join(REMEDIES[name].format(params=self.edges.params) for name in lacks)
                + "."
            )
        self.discount = discount_of(model, discount)
        self._own, self._prior, self._value = own, prior, value
        self.may_forbid = legal is not None or prior is not None or self.edges.vectors is None
        self.has_players = "to_play" in model.state_spec.keys()
        self.root_discount = -self.discount if self.has_players else self.discount

    def evaluate(self, state: State, noise: Tensor | None, is_root: bool) -> Evaluation:
        """Value and edges of states ``[B, ...]``; arguments as those of :class:`Edges`."""
        raw, value = self._policy_and_value(state)
        logits, vectors = self.edges(at_least_float32(raw), noise, is_root)
        if self.legal is not None:
            logits = logits.masked_fill(~self.legal(state), -torch.inf)
        if self.may_forbid:
            # Where nothing may be done the game is over, and what the search tries below counts for nothing.
            nothing = (logits == -torch.inf).all(-1, keepdim=True)
            logits = logits.masked_fill(nothing, 0.0)
        return Evaluation(value.squeeze(-1).to(logits.dtype), logits, vectors)

    def step(self, state: State, vector: Tensor, noise: Noise | None) -> Arrival:
        """Dream one step from states ``[B, ...]`` by actions as vectors ``[B, A]``."""
        action = self.action_vector.inverse(vector)
        after, reward, cont = self.model.imagine(state, action, noise)
        if self.reward is not None:
            reward = self.reward(state, action, after)
        assert reward is not None
        reward = at_least_float32(reward).squeeze(-1)
        discount = torch.full_like(reward, self.discount) if cont is None else self.discount * cont.squeeze(-1)
        if self.has_players:
            changes = state["to_play"] != after["to_play"]
            discount = torch.where(changes.squeeze(-1), -discount, discount)
        return Arrival(after, reward, discount.to(reward.dtype))

    def draw_noise(self, batch: int, steps: int, generator: torch.Generator) -> Noise | None:
        """The model's own z of so many steps from each root, ``[batch, steps, ...]``; ``None`` if nothing is random."""
        source = self.model.noise_source("imagine")
        return None if source.empty else source((batch, steps), generator)

    def _policy_and_value(self, state: State) -> tuple[Tensor, Tensor]:
        if self._own is not None and (self._prior is None or self._value is None):
            raw, value = self._own(state)
            raw = raw if self._prior is None else self._prior(state)
            return raw, value if self._value is None else self._value(state)
        assert self._prior is not None
        value = self.model.value(state) if self._value is None else self._value(state)
        return self._prior(state).expand(value.shape[0], self.edges.params), value


def uniform_prior(state: State) -> Tensor:
    """No preference among choices: one logit of 0 for all, ``[B, 1]``."""
    return no_value(state)


def no_value(state: State) -> Tensor:
    """A value of 0 for every state, ``[B, 1]``."""
    some = next(iter(state.values()))
    return torch.zeros(some.shape[0], 1, device=some.device)


def discount_of(model: WorldModel, discount: float | None) -> float:
    """The discount of one step: the given one, or that of a model that was trained with one."""
    config = getattr(model, "config", None) if isinstance(model, ValueEquivalentModel) else None
    found = config.loss.discount if discount is None and config is not None else discount
    if found is None:
        raise ValueError(
            f"{type(model).__name__} was not trained with a discount of its own: say which one the values have, "
            f"discount=0.997, or 1.0 for a game that is won or lost in the end."
        )
    if not 0 <= found <= 1:
        raise ValueError(f"discount is in [0, 1], also with two players; got {found}.")
    return float(found)
