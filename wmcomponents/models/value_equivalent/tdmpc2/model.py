"""TD-MPC2's world model (Hansen, Su, Wang, TD-MPC2: Scalable, Robust World Models for Continuous Control, 2024)."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import RewardUnit, Standardize
from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.observation import DiscreteCodec
from wmcomponents.codecs.observation_groups import ObservationGroups
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.dynamics import SimNormDynamics
from wmcomponents.encoders import SimNormEncoder
from wmcomponents.functional import episode_discount
from wmcomponents.heads import CategoricalPolicyPrior, GaussianPolicyPrior, QEnsemble, SymlogTwoHotHead, TerminationHead
from wmcomponents.models.value_equivalent.tdmpc2.objective import TDMPC2Loss
from wmcomponents.models.value_equivalent.tdmpc2.official import RULES, plain_state, sizes, specs
from wmcomponents.nn import TaskEmbedding
from wmcomponents.pretrained import PretrainedModel, load_mapped
from wmcomponents.world_model import Noise, Observation, Prediction, State, items_of

TASK = "task"
"""Observation key of the index of the task, where a model knows several."""


@dataclass(frozen=True)
class TDMPC2Config:
    """Sizes and objective of a TD-MPC2 world model; the defaults are the official default, 5M parameters, one task.

    Attributes:
        latent: size of the latent.
        encoder_units: width of the encoder's hidden layers.
        encoder_layers: layers of the encoder, the last one included.
        units: width of the hidden layers of dynamics, heads, policy prior and value functions.
        members: value functions in the ensemble.
        group: size of a simplex of the latent.
        bins: bins of reward and value.
        limit: the outermost bins lie at this distance from 0 in symlog space.
        dropout: in the first layer of the value functions, in training.
        channels: of the image encoder's convolutions. For 64x64 images alone, ``latent`` is 16 times this.
        task_size: size of a task's embedding; 0 for a model of one task.
        action_sizes: with several tasks: how many entries of the action each of them has; the others are ignored.
        episodic: whether there is a termination head.
        vectors: how numbers enter: ``"raw"``, as in the paper, or ``"standardize"`` (zero mean and unit variance,
            fitted to data before training).
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: such as the bins cannot hold in units of a power of ten,
            found in data before training.
        horizon: H, transitions that the model is rolled out for in training.
        rho: weight of a step relative to the one before it.
        episode_lengths: agent steps of an episode, of each task; the discounts follow from them.
        largest_discount: the discounts' upper bound.
        consistency_scale: weight of the latent's prediction error in the objective.
        reward_scale: weight of the reward's.
        value_scale: weight of the value's.
        encoder_lr_scale: learning rate of the encoder, relative to the rest.
    """

    latent: int = 512
    encoder_units: int = 256
    encoder_layers: int = 2
    units: int = 512
    members: int = 5
    group: int = 8
    bins: int = 101
    limit: float = 10.0
    dropout: float = 0.01
    channels: int = 32
    task_size: int = 0
    action_sizes: tuple[int, ...] = ()
    episodic: bool = False
    vectors: Literal["raw", "standardize"] = "raw"
    rewards: Literal["plain", "scaled"] = "plain"
    horizon: int = 3
    rho: float = 0.5
    episode_lengths: tuple[int, ...] = (500,)
    largest_discount: float = 0.995
    consistency_scale: float = 20.0
    reward_scale: float = 0.1
    value_scale: float = 0.1
    encoder_lr_scale: float = 0.3

    @classmethod
    def tiny(cls, **changes: Any) -> "TDMPC2Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Vectors are standardised. The model is rolled out further than in the paper, with a slower fade, and rewards
        have ten times the weight, since it is dreamt in rather than planned with.
        """
        sizes = {"latent": 128, "encoder_units": 64, "units": 64, "members": 2, "channels": 8, "dropout": 0.0}
        kinds = {"vectors": "standardize", "rewards": "scaled", "episodic": True}
        training = {"horizon": 8, "rho": 0.95, "reward_scale": 1.0}
        return cls(**{**sizes, **kinds, **training, **changes})

    @classmethod
    def size1(cls, **changes: Any) -> "TDMPC2Config":
        """1M parameters (official preset, like all below)."""
        return cls(**{"units": 384, "latent": 128, "members": 2, **changes})

    @classmethod
    def size5(cls, **changes: Any) -> "TDMPC2Config":
        """5M parameters, the official default; all official checkpoints of one task are of this size."""
        return cls(**changes)

    @classmethod
    def size19(cls, **changes: Any) -> "TDMPC2Config":
        """19M parameters; the checkpoint of 30 tasks has ``latent=512``."""
        sizes = {"encoder_units": 1024, "units": 1024, "latent": 768, "encoder_layers": 3}
        return cls(**{**sizes, **changes})

    @classmethod
    def size48(cls, **changes: Any) -> "TDMPC2Config":
        """48M parameters."""
        sizes = {"encoder_units": 1792, "units": 1792, "latent": 768, "encoder_layers": 4}
        return cls(**{**sizes, **changes})

    @classmethod
    def size317(cls, **changes: Any) -> "TDMPC2Config":
        """317M parameters."""
        sizes = {"encoder_units": 4096, "units": 4096, "latent": 1376, "encoder_layers": 5, "members": 8}
        return cls(**{**sizes, **changes})

    @staticmethod
    def mt30(size: int = 5, action_sizes: Sequence[int] = (6,) * 30, **changes: Any) -> "TDMPC2Config":
        """The official model of 30 DMControl tasks, of a size in {1, 5, 19, 48, 317}.

        Args:
            size: million parameters, roughly.
            action_sizes: entries of the action that each task has; a checkpoint says them.
            **changes: other entries of the config.
        """
        task = {"task_size": 96 if size in (1, 317) else 64, "episode_lengths": (500,) * 30}
        latent = {"latent": 512} if size == 19 else {}
        return _sized(size, **{**task, **latent, "action_sizes": tuple(action_sizes), **changes})

    @staticmethod
    def mt80(size: int = 5, action_sizes: Sequence[int] = (6,) * 80, **changes: Any) -> "TDMPC2Config":
        """The official model of 30 DMControl and 50 Meta-World tasks, of a size in {1, 5, 19, 48, 317}.

        Args:
            size: million parameters, roughly.
            action_sizes: entries of the action that each task has; a checkpoint says them.
            **changes: other entries of the config.
        """
        task = {"task_size": 96, "episode_lengths": (500,) * 30 + (100,) * 50}
        return _sized(size, **{**task, "action_sizes": tuple(action_sizes), **changes})

    @property
    def discounts(self) -> tuple[float, ...]:
        """Of each task, by the heuristic of its episodes' length."""
        return tuple(episode_discount(length, high=self.largest_discount) for length in self.episode_lengths)


def _sized(size: int, **changes: Any) -> TDMPC2Config:
    if size not in (1, 5, 19, 48, 317):
        raise ValueError(f"TD-MPC2's sizes are 1, 5, 19, 48 and 317 (million parameters); got {size}.")
    return getattr(TDMPC2Config, f"size{size}")(**changes)


def _unit(config: TDMPC2Config) -> RewardUnit | None:
    """Of rewards and of their sums, which the bins have to hold too."""
    if config.rewards not in ("plain", "scaled"):
        raise ValueError(f"rewards must be 'plain' or 'scaled'; got {config.rewards!r}.")
    if config.rewards == "plain":
        return None
    largest = math.expm1(config.limit)
    return RewardUnit(largest, largest * (1.0 - max(config.discounts)))


class TDMPC2(PretrainedModel):
    """TD-MPC2's world model: a deterministic latent without a decoder, with rewards, values and a policy prior.

    State: ``latent`` float ``[*B, L]``, whose groups sum to 1. With several tasks the embedding of the task stands
    behind it (``[*B, L + E]``), and beside it ``task_index``, int64 ``[*B, 1]``; both are set by the observation
    ``task`` and stay. Features: the latent. The filter needs no past: a state encodes the latest observation.

    The value is the mean of all value functions at the policy prior's mode. Its discount is the config's.

    Args:
        config: sizes; a preset such as ``TDMPC2Config.size5()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: vectors, boards, images of 64x64 or so, or several of them;
            with several tasks, also ``task``, ``Categorical(n)``.
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
        c = config
        self.tasks = _tasks(c, observation_spec)
        state_spec = Composite(latent=Unbounded(torch.Size([c.latent + c.task_size])))
        if self.tasks:
            state_spec["task_index"] = Categorical(self.tasks, shape=torch.Size([1]))
        super().__init__(observation_spec=observation_spec, action_spec=action_spec, state_spec=state_spec)
        self.config = c
        shown = Composite({key: leaf for key, leaf in items_of(observation_spec) if not self.tasks or key != TASK})
        numbers = ObservationGroups.from_spec(shown).vector_size
        self.action_vector = ActionVector(action_spec)
        size, feat = self.action_vector.size, c.latent + c.task_size
        self.register_buffer("action_mask", _masks(c, size), persistent=False)
        self.task_embedding = TaskEmbedding(self.tasks, c.task_size) if self.tasks else None
        self.encoder = SimNormEncoder(
            shown,
            latent=c.latent,
            units=c.encoder_units,
            layers=c.encoder_layers,
            channels=c.channels,
            group=c.group,
            context=c.task_size,
            transform=Standardize(numbers) if c.vectors == "standardize" else None,
        )
        self.dynamics = SimNormDynamics(feat + size, c.latent, c.units, c.group)
        self.reward_head = SymlogTwoHotHead(feat + size, c.units, bins=c.bins, limit=c.limit, unit=_unit(c))
        self.termination_head = TerminationHead(c.latent, c.units) if c.episodic else None
        self.policy = _policy(self.action_vector, feat, c.units)
        self.q = QEnsemble(feat + size, c.units, c.members, c.bins, c.limit, c.dropout, _unit(c))
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
        """The action whose vector is zero."""
        return self.action_vector.null(batch_size).to(device)

    # -- tensors in the model's own terms ------------------------------------------------------------------------------

    def task_of(self, observation: Mapping[str, Tensor]) -> Tensor | None:
        """Index of the task that an observation names, ``[*B]``; ``None`` if there is one alone."""
        return observation[TASK] if self.tasks else None

    def mask_of(self, task: Tensor | None) -> Tensor | None:
        """1 for the entries of the action vector that a task has, ``[*B, A]``; ``None`` if every task has all."""
        return None if task is None or self.action_mask is None else self.action_mask[task]

    def vector_of(self, action: Tensor, task: Tensor | None) -> Tensor:
        """The action vector ``[*B, A]``; 0 in the entries that the task lacks."""
        vector, mask = self.action_vector(action), self.mask_of(task)
        return vector if mask is None else vector * mask

    def joined(self, latent: Tensor, task: Tensor | None) -> Tensor:
        """The latent, and the embedding of its task behind it, ``[*B, F]``."""
        return latent if self.task_embedding is None else torch.cat([latent, self.task_embedding(task)], -1)

    def encode(self, observation: Mapping[str, Tensor], task: Tensor | None) -> Tensor:
        """The latent of an observation, ``[*B, L]``."""
        return self.encoder.encode(observation, None if self.task_embedding is None else self.task_embedding(task))

    def _task_in(self, state: State) -> Tensor | None:
        return state["task_index"].squeeze(-1) if self.tasks else None

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The encoding of the observation; nothing else is read."""
        task = self.task_of(observation)
        seen: State = {"latent": self.joined(self.encode(observation, task), task)}
        return seen if task is None else {**seen, "task_index": task.unsqueeze(-1).clone()}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The encodings of a sequence, all at once."""
        return self.observe(state, action, observation, is_init, noise)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream; see :meth:`WorldModel.imagine`."""
        feat, task = state["latent"], self._task_in(state)
        x = torch.cat([feat, self.vector_of(action, task)], -1)
        latent = self.dynamics.compute(x)
        cont = None
        if self.termination_head is not None:
            cont = 1.0 - self.termination_head.mean(self.termination_head.raw(latent))
        reward = self.reward_head.mean(self.reward_head.raw(x))
        if task is None:
            return Prediction({"latent": latent}, reward, cont)
        latent = torch.cat([latent, feat[..., self.config.latent :]], -1)
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
        c = self.config
        return TDMPC2Loss(
            self,
            horizon=c.horizon,
            rho=c.rho,
            consistency_scale=c.consistency_scale,
            reward_scale=c.reward_scale,
            value_scale=c.value_scale,
            discounts=c.discounts,
            encoder_lr_scale=c.encoder_lr_scale,
        )

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
        config = TDMPC2Config(**{**sizes(state), **changes})
        model = cls(config, seen if observation_spec is None else observation_spec, action_spec or acted)
        return load_mapped(model, state, RULES, keeps=(r"encoder\.transform\..+",))


def _tasks(config: TDMPC2Config, observation_spec: Composite) -> int:
    """How many tasks; 0 for one that has no embedding."""
    c, count = config, len(config.action_sizes)
    if bool(c.task_size) != bool(count):
        raise ValueError(
            f"a model of several tasks has a task_size and action_sizes; got {c.task_size}, {count} sizes."
        )
    if not count:
        if len(c.episode_lengths) != 1:
            raise ValueError(f"one task has one length of episodes; got {c.episode_lengths}.")
        return 0
    leaf = observation_spec.get(TASK, None)
    if not isinstance(leaf, Categorical) or leaf.n != count or tuple(leaf.shape):
        raise ValueError(
            f"a model of {count} tasks observes which it is: give the observation_spec an entry {TASK!r}, "
            f"Categorical({count}); got {leaf}."
        )
    if len(c.episode_lengths) != count:
        raise ValueError(f"{count} tasks have {count} lengths of episodes; got {len(c.episode_lengths)}.")
    return count


def _masks(config: TDMPC2Config, size: int) -> Tensor | None:
    """1 where a task's action has an entry, ``[tasks, A]``."""
    if not config.action_sizes:
        return None
    if max(config.action_sizes) > size or min(config.action_sizes) < 1:
        raise ValueError(f"action_sizes lie in 1..{size}, the size of the action; got {config.action_sizes}.")
    return (torch.arange(size) < torch.tensor(config.action_sizes)[:, None]).float()


def _policy(action: ActionVector, features: int, units: int) -> GaussianPolicyPrior | CategoricalPolicyPrior:
    if isinstance(action.described, DiscreteCodec):
        return CategoricalPolicyPrior(features, action.described.classes, units)
    return GaussianPolicyPrior(features, action.size, units)
