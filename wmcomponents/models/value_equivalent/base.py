"""What the world models around MuZero's three functions have in common."""

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector, Frames, History, ObservationGroups, policy_distribution, with_planes
from wmcomponents.codecs.normalize import vector_transform
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.dynamics import ConvTransition, MLPTransition, StateTransition
from wmcomponents.encoders import ConvRepresentation, MLPRepresentation, StateRepresentation
from wmcomponents.heads import BernoulliHead, PredictionHead, RewardHead, SimSiamProjection, ValuePrefixHead
from wmcomponents.nn import PlainStem
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of

Representation = MLPRepresentation | StateRepresentation | ConvRepresentation
Transition = MLPTransition | StateTransition | ConvTransition


def frames_of(observation_spec: Composite, *, standardize: bool, by_bounds: bool) -> Frames:
    """Observations as one frame, with numbers scaled as a config of the family says.

    Args:
        observation_spec: spec of one real observation.
        standardize: whether numbers are standardised, fitted to data before training.
        by_bounds: whether those that have bounds are then scaled by these.

    Raises:
        ValueError: if bounds are asked for without standardising, or an observation cannot be encoded.
    """
    if by_bounds and not standardize:
        raise ValueError("by_bounds tells how numbers are standardised: set standardize=True too, or leave both off.")
    if not standardize or not ObservationGroups.from_spec(observation_spec).vector_size:
        return Frames(observation_spec)
    return Frames(observation_spec, vector_transform("bounds" if by_bounds else "standardize", observation_spec))


class ValueEquivalentModel(PretrainedModel):
    """A latent world that is held to predict rewards, values and policies, and nothing else.

    It is deterministic, and has no decoder. State: ``latent`` float ``[*B, F]``, planes flattened; what the history
    keeps of past frames and actions; what the reward head keeps of past steps; with two players ``to_play``, int64
    ``[*B, 1]``. An imagined state has no past frames: zeros stand for them, so a filter that goes on from it knows as
    much of the past as at an episode's start. Features: the latent, flat.

    **Two players.** ``to_play`` is the player (0 or 1) who moves at s_t: 0 at an episode's start, the other after every
    step. The value of s_t is that of the player who moves there. The reward r_{t+1} is that of the player who moved at
    s_t, as an environment of alternating turns gives it.

    Args:
        observation_spec: spec of one real observation.
        action_spec: spec of one real action.
        frames: observations as one frame.
        history: what the filter remembers of frames.
        representation: h, the stack of frames to a latent; has ``latent_shape`` and ``compute``.
        transition: g without the reward; ``compute(latent, action)`` gives the next latent, scaled and unscaled.
        reward_head: the reward of an unscaled latent, alone or with a memory.
        prediction: f, policy and value.
        continue_head: latent to P(not terminated), or ``None`` as in the papers, whose episodes never end: what follows
            the last step are absorbing states without reward.
        projection: SimSiam's projection of latents, or ``None``.
        players: 1 or 2.

    Raises:
        ValueError: for another number of players.
    """

    def __init__(
        self,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        frames: Frames,
        history: History,
        representation: Representation,
        transition: Transition,
        reward_head: RewardHead | ValuePrefixHead,
        prediction: PredictionHead,
        continue_head: BernoulliHead | None = None,
        projection: SimSiamProjection | None = None,
        players: int = 1,
    ) -> None:
        if players not in (1, 2):
            raise ValueError(f"players is 1 or 2; got {players}.")
        latent_shape = torch.Size(representation.latent_shape)
        entries: dict[str, TensorSpec] = {"latent": Unbounded(torch.Size([latent_shape.numel()]))}
        entries.update(history.specs())
        entries.update(reward_head.memory_specs())
        if players == 2:
            entries["to_play"] = Bounded(0, 1, torch.Size([1]), dtype=torch.int64)
        super().__init__(observation_spec=observation_spec, action_spec=action_spec, state_spec=Composite(entries))
        self.action_vector = ActionVector(action_spec)
        self.policy_distribution = policy_distribution(self.action_vector)
        self.frames = frames
        self.history = history
        self.representation = representation
        self.transition = transition
        self.reward_head = reward_head
        self.prediction = prediction
        self.continue_head = continue_head
        self.projection = projection
        self.players = players
        self.latent_shape = latent_shape
        self.history_keys, self.memory_keys = tuple(history.specs()), tuple(reward_head.memory_specs())
        self.eval()

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything but a decoder, and a continuation where no part predicts it."""
        return super().capabilities - (set() if self.continue_head is not None else {"continue"})

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of vector observations and the unit of rewards, once, where the configuration says so."""
        self.frames.prepare({key: sequences[key] for key in keys_of(self.observation_spec)})
        reward = rewards_in(sequences)
        self.reward_head.prepare(reward)
        self.prediction.support.prepare(reward)

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero, as the filter takes it where an episode begins; ``[*batch_size, ...]``."""
        return self.action_vector.null(batch_size).to(device)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """One step of the filter, ``[*B, ...]``: h of the frames so far; nothing of the latent before enters."""
        stack, memory = self._remember(state, self.action_vector(action), self.frames(observation), is_init)
        after = {"latent": self.flat(self.representation.compute(stack)), **memory, **self.fresh_memory(is_init)}
        if self.players == 2:
            after["to_play"] = torch.where(is_init, 0, 1 - state["to_play"])
        return {key: after[key] for key in keys_of(self.state_spec)}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along a sequence ``[*B, T, ...]``, all stacks encoded at once."""
        time = is_init.ndim - 2
        stack, memory = self.stack_sequence(state, self.action_vector(action), observation, is_init)
        after = {"latent": self.flat(self.representation.compute(stack)), **memory, **self.fresh_memory(is_init)}
        if self.players == 2:
            turns = []
            turn = state["to_play"]
            for first in is_init.unbind(time):
                turn = torch.where(first, 0, 1 - turn)
                turns.append(turn)
            after["to_play"] = torch.stack(turns, time)
        return {key: after[key] for key in keys_of(self.state_spec)}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream from states ``[*B, ...]``; the reward in env units, ``[*B, 1]``."""
        latent, unscaled = self.transition.compute(self.shaped(state["latent"]), self.action_vector(action))
        _, reward, memory = self.reward_head.advance(unscaled, {key: state[key] for key in self.memory_keys})
        after = {"latent": self.flat(latent), **memory}
        for key in self.history_keys:
            # Zeros of no stride: a dream's step does not pay for frames that it does not have.
            after[key] = torch.zeros((), dtype=state[key].dtype, device=latent.device).expand(state[key].shape)
        if self.players == 2:
            after["to_play"] = 1 - state["to_play"]
        cont = None
        if self.continue_head is not None:
            cont = self.continue_head.mean(self.continue_head.raw(after["latent"]))
        return Prediction({key: after[key] for key in keys_of(self.state_spec)}, reward, cont)

    def features(self, state: State) -> Tensor:
        """The latent, ``[*B, F]``, in memory of its own."""
        return state["latent"].clone()

    def value(self, state: State) -> Tensor:
        """Expected return of the player who moves, ``[*B, 1]`` in env units."""
        return self.predict(state)[1]

    def predict(self, state: State) -> tuple[Tensor, Tensor]:
        """f: raw policy ``[*B, params]`` (see ``PolicyDistribution``) and value ``[*B, 1]``, for a search."""
        policy, logits = self.prediction.raw(self.shaped(state["latent"]))
        return policy, self.prediction.mean(logits)

    # -- what the objective and the verbs share ------------------------------------------------------------------------

    def flat(self, latent: Tensor) -> Tensor:
        """``[*B, *latent shape]``, as the parts have it, to ``[*B, F]``, as the state has it."""
        return latent.flatten(-len(self.latent_shape))

    def shaped(self, latent: Tensor) -> Tensor:
        """The way back: ``[*B, F]`` to ``[*B, *latent shape]``."""
        return latent.reshape(*latent.shape[:-1], *self.latent_shape)

    def fresh_memory(self, like: Tensor) -> State:
        """The reward head's memory where a dream begins, zeros ``[*B, ...]``.

        Args:
            like: ``[*B, 1]``; gives batch and device.
        """
        return {
            key: torch.zeros(*like.shape[:-1], *spec.shape, dtype=spec.dtype, device=like.device)
            for key, spec in self.reward_head.memory_specs().items()
        }

    def stack_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor
    ) -> tuple[Tensor, State]:
        """What h reads along a sequence, ``[*B, T, C, *space]``, and the history's memory after each step.

        Args:
            state: before the sequence, ``[*B, ...]``; its history is read.
            action: vectors of the actions that led to each observation, ``[*B, T, A]``.
            observation: ``[*B, T, ...]``.
            is_init: ``[*B, T, 1]``.
        """
        frames = self.frames(observation)
        if not self.history_keys:
            return self._remember({}, action, frames, is_init)
        time = is_init.ndim - 2
        stacks, memories = [], []
        for t in range(is_init.shape[time]):
            stack, state = self._remember(
                state, action.select(time, t), frames.select(time, t), is_init.select(time, t)
            )
            stacks.append(stack)
            memories.append(state)
        return torch.stack(stacks, time), {key: torch.stack([m[key] for m in memories], time) for key in memories[0]}

    def _remember(self, state: State, action: Tensor, frame: Tensor, is_init: Tensor) -> tuple[Tensor, State]:
        """The stack that h reads, ``[*B, C, *space]``, and the history's memory after this step."""
        kept = {key: state[key] for key in self.history_keys}
        frames, numbers, memory = self.history.step(kept, action, frame, is_init)
        return with_planes([self.frames.floats(f) for f in frames], numbers, len(self.frames.space)), memory


def has_plain_stem(representation: Representation) -> bool:
    """Whether images or boards enter a representation by a convolution that keeps their resolution."""
    return isinstance(representation, ConvRepresentation) and isinstance(representation.stem, PlainStem)
