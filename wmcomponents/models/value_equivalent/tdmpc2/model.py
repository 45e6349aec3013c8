"""TD-MPC2's world model (Hansen, Su, Wang, TD-MPC2: Scalable, Robust World Models for Continuous Control, 2024)."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, OneHot, TensorSpec, Unbounded

from wmcomponents.codecs import RewardUnit, Standardize
from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.observation import DiscreteCodec
from wmcomponents.codecs.observation_groups import ObservationGroups
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.dynamics import SimNormDynamics
from wmcomponents.encoders import SimNormEncoder
from wmcomponents.heads import CategoricalPolicyPrior, GaussianPolicyPrior, QEnsemble, SymlogTwoHotHead, TerminationHead
from wmcomponents.models.value_equivalent.tdmpc2.config import TDMPC2Config
from wmcomponents.models.value_equivalent.tdmpc2.objective import TDMPC2Loss
from wmcomponents.models.value_equivalent.tdmpc2.official import RULES, plain_state, sizes, specs
from wmcomponents.nn import TaskEmbedding
from wmcomponents.pretrained import PretrainedModel, load_mapped
from wmcomponents.world_model import Noise, Observation, Prediction, State, items_of

TASK = "task"
"""Observation key of the index of the task, where a model knows several."""


class TDMPC2(PretrainedModel):
    """TD-MPC2's world model: a deterministic latent without a decoder, with rewards, values and a policy prior.

    State: ``latent`` float ``[*B, L]``, whose groups sum to 1. With several tasks the embedding of the task stands
    behind it (``[*B, L + E]``), and beside it ``task_index``, int64 ``[*B, 1]``; both are set by the observation
    ``task`` and stay. Features: the latent. The filter needs no past: a state encodes the latest observation.

    The value is the mean of all value functions at the policy prior's mode. Its discount is the config's.

    Args:
        config: sizes; a preset such as ``TDMPC2Config.size5()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: vectors, boards, images of 64x64 or so, or several of them;
            with several tasks, also ``task``, ``Categorical(n)``, or ``OneHot(n)`` as ``make_env`` shows a choice.
        action_spec: spec of one real action. The policy prior of numbers gives actions in [-1, 1] of their bounds; the
            paper has no choices, for which ours is categorical.

    Raises:
        ValueError: if sizes do not fit each other, an observation cannot be encoded, or tasks are told of in one place
            and not in another.

    Example:
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> model = TDMPC2(TDMPC2Config.tiny(), Composite(observation=Unbounded(4)), Bounded(-1, 1, (2,)))
        >>> sorted(model.capabilities)
        ['continue', 'features', 'objective', 'reward', 'value']
    """

    config_class = TDMPC2Config
    format_1_weights = ((r"^(reward_head|q)\.unit\.", r"\1.distribution.unit."),)
    config: TDMPC2Config
    action_mask: Tensor | None

    def __init__(self, config: TDMPC2Config, observation_spec: Composite, action_spec: TensorSpec) -> None:
        n = config.network
        self.tasks = _tasks(config, observation_spec)
        state_spec = Composite(latent=Unbounded(torch.Size([n.latent + n.task_size])))
        if self.tasks:
            state_spec["task_index"] = Categorical(self.tasks, shape=torch.Size([1]))
        super().__init__(observation_spec=observation_spec, action_spec=action_spec, state_spec=state_spec)
        self.config = config
        shown = Composite({key: leaf for key, leaf in items_of(observation_spec) if not self.tasks or key != TASK})
        numbers = ObservationGroups.from_spec(shown).vector_size
        self.action_vector = ActionVector(action_spec)
        size, feat = self.action_vector.size, n.latent + n.task_size
        self.register_buffer("action_mask", _action_masks(n.action_sizes, size), persistent=False)
        self.task_embedding = TaskEmbedding(self.tasks, n.task_size) if self.tasks else None
        self.encoder = SimNormEncoder(
            shown,
            latent=n.latent,
            units=n.encoder_units,
            layers=n.encoder_layers,
            channels=n.channels,
            group=n.group,
            context=n.task_size,
            transform=Standardize(numbers) if n.vectors == "standardize" else None,
        )
        self.dynamics = SimNormDynamics(feat + size, n.latent, n.units, n.group)
        unit = _reward_unit(config)
        self.reward_head = SymlogTwoHotHead(feat + size, n.units, bins=n.bins, limit=n.limit, unit=unit)
        self.termination_head = TerminationHead(n.latent, n.units) if n.episodic else None
        self.policy = _policy(self.action_vector, feat, n.units)
        self.q = QEnsemble(feat + size, n.units, n.members, n.bins, n.limit, n.dropout, _reward_unit(config))
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)

    @property
    def capabilities(self) -> frozenset[str]:
        """All but decoding; and continuation only if there is a termination head."""
        return super().capabilities - (frozenset() if self.termination_head is not None else {"continue"})

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of vector observations and the unit of rewards, once, where the configuration says so."""
        self.encoder.prepare({key: sequences[key] for key in self.encoder.groups.keys})
        reward = rewards_in(sequences)
        for part in (self.reward_head, self.q, self.target_q):
            part.prepare(reward)

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero, ``[*batch_size, ...]``."""
        return self.action_vector.null(batch_size).to(device)

    # -- tensors in the model's own terms ------------------------------------------------------------------------------

    def task_of(self, observation: Mapping[str, Tensor]) -> Tensor | None:
        """Index of the task that an observation names, ``[*B]``; ``None`` if there is one alone."""
        if not self.tasks:
            return None
        task = observation[TASK]
        return task.argmax(-1) if isinstance(self.observation_spec[TASK], OneHot) else task

    def mask_of(self, task: Tensor | None) -> Tensor | None:
        """1 for the entries of the action vector that a task has, ``[*B, A]``; ``None`` if every task has all."""
        return None if task is None or self.action_mask is None else self.action_mask[task]

    def vector_of(self, action: Tensor, task: Tensor | None) -> Tensor:
        """The action vector ``[*B, A]``; 0 in the entries that the task lacks."""
        vector, mask = self.action_vector(action), self.mask_of(task)
        return vector if mask is None else vector * mask

    def embedding_of(self, task: Tensor | None) -> Tensor | None:
        """The embedding of a task, ``[*B, E]``; ``None`` if there is one alone."""
        return None if self.task_embedding is None else self.task_embedding(task)

    def joined(self, latent: Tensor, task: Tensor | None) -> Tensor:
        """The latent, and the embedding of its task behind it, ``[*B, F]``."""
        embedding = self.embedding_of(task)
        return latent if embedding is None else torch.cat([latent, embedding], -1)

    def encode(self, observation: Mapping[str, Tensor], task: Tensor | None) -> Tensor:
        """The latent of an observation, ``[*B, L]``."""
        return self.encoder.encode(observation, self.embedding_of(task))

    def _task_in(self, state: State) -> Tensor | None:
        return state["task_index"].squeeze(-1) if self.tasks else None

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The encoding of the observation, ``[*B, L]``, or ``[*B, L + E]``; nothing else is read."""
        task = self.task_of(observation)
        seen: State = {"latent": self.joined(self.encode(observation, task), task)}
        return seen if task is None else {**seen, "task_index": task.unsqueeze(-1).clone()}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The encodings of a sequence ``[*B, T, ...]``, all at once."""
        return self.observe(state, action, observation, is_init, noise)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream from states ``[*B, ...]``; see :meth:`WorldModel.imagine`."""
        feat, task = state["latent"], self._task_in(state)
        x = torch.cat([feat, self.vector_of(action, task)], -1)
        latent = self.dynamics.compute(x)
        cont = None
        if self.termination_head is not None:
            cont = 1.0 - self.termination_head.mean(self.termination_head.raw(latent))
        reward = self.reward_head.mean(self.reward_head.raw(x))
        if task is None:
            return Prediction({"latent": latent}, reward, cont)
        latent = torch.cat([latent, feat[..., self.config.network.latent :]], -1)
        return Prediction({"latent": latent, "task_index": state["task_index"].clone()}, reward, cont)

    def features(self, state: State) -> Tensor:
        """The latent, ``[*B, L]``; with several tasks ``[*B, L + E]``."""
        return state["latent"].clone()

    def value(self, state: State) -> Tensor:
        """Mean of all value functions at the policy prior's mode, ``[*B, 1]``."""
        feat = state["latent"]
        action = self.policy.mode(feat, self.mask_of(self._task_in(state)))
        return self.q.mean(self.q.logits(torch.cat([feat, action], -1))).mean(-1, keepdim=True)

    def objective(self) -> TDMPC2Loss:
        """The paper's objective for this model."""
        return TDMPC2Loss(self, self.config.loss, optimizer=self.config.optimizer)

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
        **changes: Any,
    ) -> "TDMPC2":
        """A model with the weights of a checkpoint of nicklashansen/tdmpc2, of 2023 or later.

        Sizes are read off the weights; what is not in them (lengths of episodes, hence discounts) is the default, or
        what ``changes`` say.

        Args:
            weights: ``{"model": state_dict}``, or the ``state_dict``.
            observation_spec: of one observation; a vector ``observation`` (with several tasks, the padded one, and
                ``task``) or 64x64 ``pixels`` if not given.
            action_spec: of one action; as many numbers in [-1, 1] as the weights have if not given.
            **changes: entries of the config.

        Raises:
            BadModelError: naming the keys that are unknown, missing or of another shape.
        """
        state = plain_state(weights)
        seen, acted = specs(state)
        config = TDMPC2Config().vary(**{**sizes(state), **changes})
        model = cls(config, seen if observation_spec is None else observation_spec, action_spec or acted)
        return load_mapped(model, state, RULES, keeps=(r"encoder\.transform\..+",))


def _tasks(config: TDMPC2Config, observation_spec: Composite) -> int:
    """How many tasks; 0 for one that has no embedding."""
    task_size, count, lengths = config.network.task_size, len(config.network.action_sizes), config.loss.episode_lengths
    if bool(task_size) != bool(count):
        raise ValueError(f"a model of several tasks has a task_size and action_sizes; got {task_size}, {count} sizes.")
    if not count:
        if len(lengths) != 1:
            raise ValueError(f"one task has one length of episodes; got {lengths}.")
        return 0
    leaf: Any = observation_spec.get(TASK, None)
    lone = isinstance(leaf, Categorical) and not tuple(leaf.shape) or isinstance(leaf, OneHot) and leaf.ndim == 1
    if not lone or leaf.space.n != count:
        raise ValueError(
            f"a model of {count} tasks observes which it is: give the observation_spec an entry {TASK!r}, "
            f"Categorical({count}) or OneHot({count}); got {leaf}."
        )
    if len(lengths) != count:
        raise ValueError(f"{count} tasks have {count} lengths of episodes; got {len(lengths)}.")
    return count


def _action_masks(sizes: Sequence[int], size: int) -> Tensor | None:
    """1 where a task's action has an entry, ``[tasks, A]``."""
    if not sizes:
        return None
    if max(sizes) > size or min(sizes) < 1:
        raise ValueError(f"action_sizes lie in 1..{size}, the size of the action; got {tuple(sizes)}.")
    return (torch.arange(size) < torch.tensor(sizes)[:, None]).float()


def _reward_unit(config: TDMPC2Config) -> RewardUnit | None:
    """Of rewards and of their sums, which the bins have to hold too."""
    if config.network.rewards not in ("plain", "scaled"):
        raise ValueError(f"rewards must be 'plain' or 'scaled'; got {config.network.rewards!r}.")
    if config.network.rewards == "plain":
        return None
    largest = math.expm1(config.network.limit)
    return RewardUnit(largest, largest * (1.0 - max(config.loss.discounts)))


def _policy(action: ActionVector, features: int, units: int) -> GaussianPolicyPrior | CategoricalPolicyPrior:
    if isinstance(action.codec, DiscreteCodec):
        return CategoricalPolicyPrior(features, action.codec.classes, units)
    return GaussianPolicyPrior(features, action.size, units)
