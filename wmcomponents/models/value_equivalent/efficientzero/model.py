"""EfficientZero (Ye et al., Mastering Atari Games with Limited Data, 2021)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import (
    ActionVector,
    FrameHistory,
    Frames,
    History,
    NoHistory,
    make_action_planes,
    policy_distribution,
)
from wmcomponents.dynamics import ConvTransition, StateTransition
from wmcomponents.encoders import ConvRepresentation, StateRepresentation
from wmcomponents.heads import BernoulliHead, PredictionHead, SimSiamProjection, ValuePrefixHead
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel, reward_and_value
from wmcomponents.models.value_equivalent.efficientzero.objective import EfficientZeroLoss
from wmcomponents.models.value_equivalent.efficientzero.official import official_rules
from wmcomponents.nn import (
    Float32LayerNorm,
    MinMaxScale,
    NormalizedStem,
    Perceptron,
    PlainStem,
    ReducedHead,
    ReducedPlanes,
    ResidualPerceptron,
    residual_blocks,
)
from wmcomponents.pretrained import load_mapped, section


@dataclass(frozen=True)
class EfficientZeroConfig:
    """Sizes of an EfficientZero and of its training; the defaults are the official Atari ones.

    Images and boards enter residual convolutions as in the paper; vectors enter the residual perceptrons of
    EfficientZero-V2.

    Attributes:
        units: size of a vector latent (V2).
        hidden: width inside its residual blocks (V2).
        action_units: size of an embedded action (V2).
        state_blocks: residual blocks of its representation and of its dynamics (V2).
        state_heads: hidden widths of its policy and value (V2: 256, 256).
        blocks: residual blocks of each convolutional network.
        channels: of a convolutional latent.
        reduced: channels to which a convolutional head reduces.
        reduced_heads: hidden widths behind the reduction, and behind the LSTM.
        downsample: whether images are brought to a sixteenth. Boards keep their size.
        action_planes: how a choice enters convolutions: one plane filled with ``a / |A|``, or one-hot planes.
        scale: whether convolutional latents are brought to [0, 1] over the whole latent; the official code's
            ``state_norm``, off for Atari.
        frames: observations stacked, the current one among them.
        support: of the value: integers -support..support on the scale of h.
        reward_support: of the value prefix, likewise; as the value's if 0.
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: such as the supports cannot hold in units of a power of
            ten, found in data before training.
        norm: in the heads: by batches as in the paper, or by layers, which knows no running statistics.
        lstm: size of the value prefix's LSTM.
        lstm_horizon: steps after which it begins anew.
        projection: width of SimSiam's projector and size of a projection.
        bottleneck: width of SimSiam's predictor.
        standardize: whether vector observations are standardised, fitted to data before training.
        continue_head: whether P(not terminated) is predicted: not in the paper; an agent that is trained in dreams
            needs it.
        continue_units: width of that head's hidden layer.
        unroll: K, steps of the model that are trained.
        td_steps: n of the value target.
        discount: gamma of one agent step: 0.997 to the 4th, the frames of a step.
        state_gradient: factor on the latent's gradient at every step of the unroll.
        value_scale: weight of the value loss.
        consistency_scale: weight of the consistency loss.
        continue_scale: weight of the termination loss.
        shift: pixels by which a stack of images is moved at most in training; 0 moves none.
        intensity: spread of the random factor on its brightness in training.
        starts: positions of each training sequence from which it is unrolled, drawn anew; 0 takes them all.
        target_interval: updates between refreshments of the target network.
        optimizer: ``"sgd"`` with momentum 0.9, or ``"adam"``.
        lr: learning rate.
        warmup: updates of its linear rise.
        weight_decay: L2 on every weight.
        max_norm: largest norm of the gradient.
        decay_steps: updates after which the learning rate falls to a tenth, again and again; 0: never.
    """

    units: int = 128
    hidden: int = 256
    action_units: int = 64
    state_blocks: int = 2
    state_heads: tuple[int, ...] = (256, 256)
    blocks: int = 1
    channels: int = 64
    reduced: int = 16
    reduced_heads: tuple[int, ...] = (32,)
    downsample: bool = True
    action_planes: Literal["fraction", "one_hot"] = "fraction"
    scale: bool = False
    frames: int = 4
    support: int = 300
    reward_support: int = 0
    rewards: Literal["plain", "scaled"] = "plain"
    norm: Literal["batch", "layer"] = "batch"
    lstm: int = 512
    lstm_horizon: int = 5
    projection: int = 1024
    bottleneck: int = 512
    standardize: bool = False
    continue_head: bool = False
    continue_units: int = 64
    unroll: int = 5
    td_steps: int = 5
    discount: float = 0.997**4
    state_gradient: float = 0.5
    value_scale: float = 0.25
    consistency_scale: float = 2.0
    continue_scale: float = 1.0
    shift: int = 4
    intensity: float = 0.05
    starts: int = 1
    target_interval: int = 200
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.2
    warmup: int = 1000
    weight_decay: float = 1e-4
    max_norm: float = 5.0
    decay_steps: int = 100_000

    @classmethod
    def tiny(cls, **changes: Any) -> "EfficientZeroConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Of EfficientZero-V2 for vectors it takes the networks and Adam; its dreams end, by a head of ours.
        """
        vectors = {"units": 64, "hidden": 128, "action_units": 32, "state_blocks": 1, "state_heads": (64,)}
        planes = {"channels": 16, "reduced": 4, "frames": 1, "action_planes": "one_hot"}
        shared = {"norm": "layer", "lstm": 64, "projection": 128, "bottleneck": 64}
        shared |= {"support": 60, "reward_support": 10, "rewards": "scaled"}
        training = {"unroll": 10, "starts": 4, "discount": 0.997, "target_interval": 100, "standardize": True}
        training |= {"shift": 0, "intensity": 0.0}
        rate = {
            "optimizer": "adam",
            "lr": 1e-3,
            "warmup": 0,
            "weight_decay": 0.0,
            "decay_steps": 0,
            "continue_head": True,
        }
        return cls(**{**vectors, **planes, **shared, **training, **rate, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "EfficientZeroConfig":
        """The official Atari-100k network and training, the default."""
        return cls(**changes)

    @classmethod
    def state(cls, **changes: Any) -> "EfficientZeroConfig":
        """Vectors as in EfficientZero-V2: its networks, discount and optimiser, with EfficientZero's value prefix."""
        sizes = {"frames": 1, "discount": 0.997, "value_scale": 0.5, "standardize": True}
        return cls(**{**sizes, "optimizer": "adam", "lr": 3e-4, "weight_decay": 2e-5, **changes})


class EfficientZero(ValueEquivalentModel):
    """EfficientZero's representation, dynamics with value prefix, prediction and self-supervised projection.

    State, beside what :class:`~wmcomponents.models.ValueEquivalentModel` has: the LSTM's ``lstm_h`` and ``lstm_c``
    ``[*B, lstm]``, the last ``value_prefix`` ``[*B, 1]`` and the steps ``since_reset`` int64 ``[*B, 1]``, all of them
    zero where a filter has just observed. Dream with the model in eval mode: its normalisation is by batches.

    Args:
        config: sizes; a preset such as ``EfficientZeroConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: the environment's single frame; the stack lives in the state.
        action_spec: spec of one real action. Choices have a categorical policy, numbers a squashed Gaussian one.

    Raises:
        ValueError: if an observation cannot be encoded, or an action that is no choice is to be a fraction.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = EfficientZero(EfficientZeroConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'features', 'objective', 'reward', 'value']
    """

    config_class = EfficientZeroConfig
    config: EfficientZeroConfig

    def __init__(self, config: EfficientZeroConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        frames = Frames(observation_spec, c.standardize)
        action = ActionVector(action_spec)
        history: History = NoHistory(frames.shape)
        if c.frames > 1:
            history = FrameHistory(frames.shape, c.frames, frames.dtype)
        params, limits = policy_distribution(action).params, (c.reward_support or c.support, c.support)
        rewards, support = reward_and_value(*limits, c.rewards, c.discount, steps=c.lstm_horizon, dead_zone=1e-3)
        if len(frames.space) == 1:
            event = 1
            representation = StateRepresentation((history.channels, *frames.space), c.units, c.hidden, c.state_blocks)
            transition = StateTransition(c.units, action.size, c.hidden, c.action_units, c.state_blocks)
            trunk: nn.Module = nn.Sequential(ResidualPerceptron(c.units, c.hidden), Float32LayerNorm(c.units, eps=1e-5))
            policy, value = (
                Perceptron(c.units, c.state_heads, size, c.norm, "relu", zero=True) for size in (params, support.size)
            )
            entry, features = nn.Identity(), c.units
        else:
            event = 3
            is_plain = not (frames.is_image and c.downsample)
            stem = (PlainStem if is_plain else NormalizedStem)(history.channels, c.channels)
            scale = MinMaxScale(3, guard="none") if c.scale else None
            representation = ConvRepresentation(stem, frames.space, c.channels, c.blocks, scale)
            transition = ConvTransition(
                c.channels, make_action_planes(action, c.action_planes), c.blocks, skip=True, scale=scale
            )
            trunk = residual_blocks(c.channels, c.blocks)
            shape = representation.latent_shape
            policy, value = (
                ReducedHead(shape, c.reduced, c.reduced_heads, size, c.norm, "relu", zero=True)
                for size in (params, support.size)
            )
            entry, features = ReducedPlanes(c.channels, c.reduced, c.norm == "batch"), c.reduced * shape[1] * shape[2]
        prefix = ValuePrefixHead(
            entry, features, rewards, c.lstm, c.reduced_heads, c.lstm_horizon, c.norm, event_dims=event
        )
        size = math.prod(representation.latent_shape)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            frames=frames,
            history=history,
            representation=representation,
            transition=transition,
            reward_head=prefix,
            prediction=PredictionHead(trunk, policy, value, support, event),
            continue_head=BernoulliHead(size, c.continue_units) if c.continue_head else None,
            projection=SimSiamProjection(size, c.projection, c.projection, c.bottleneck, event),
        )
        self.config = config

    def objective(self) -> EfficientZeroLoss:
        """The paper's loss for this model."""
        c = self.config
        return EfficientZeroLoss(
            self,
            shift=c.shift,
            intensity=c.intensity,
            unroll=c.unroll,
            td_steps=c.td_steps,
            discount=c.discount,
            state_gradient=c.state_gradient,
            value_scale=c.value_scale,
            continue_scale=c.continue_scale,
            consistency_scale=c.consistency_scale,
            starts=c.starts,
            target_interval=c.target_interval,
            optimizer=c.optimizer,
            lr=c.lr,
            warmup=c.warmup,
            weight_decay=c.weight_decay,
            max_norm=c.max_norm,
            decay_rate=0.1,
            decay_steps=c.decay_steps,
            staircase=True,
        )

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        config: EfficientZeroConfig,
        observation_spec: Composite,
        action_spec: TensorSpec,
    ) -> "EfficientZero":
        """A model with the weights of YeWR/EfficientZero.

        Args:
            weights: the network's state dict, as ``model.p`` holds it.
            config: of the same sizes; with ``continue_head`` off, which it does not have.
            observation_spec: spec of one observation, an image.
            action_spec: spec of one action.

        Raises:
            BadModelError: if keys or shapes are not those of this configuration.
        """
        model = cls(config, observation_spec, action_spec)
        downsamples = not isinstance(getattr(model.representation, "stem", None), PlainStem)
        return load_mapped(model, section(weights, "weights", optional=True), official_rules(downsamples))
