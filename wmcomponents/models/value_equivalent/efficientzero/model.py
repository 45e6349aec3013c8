"""EfficientZero (Ye et al., Mastering Atari Games with Limited Data, 2021)."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import (
    ActionVector,
    FrameHistory,
    Frames,
    History,
    NoHistory,
    Support,
    make_action_planes,
    policy_distribution,
)
from wmcomponents.dynamics import ConvTransition, StateTransition
from wmcomponents.encoders import ConvRepresentation, StateRepresentation
from wmcomponents.heads import BernoulliHead, PredictionHead, SimSiamProjection, ValuePrefixHead
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel, frames_of, has_plain_stem
from wmcomponents.models.value_equivalent.efficientzero.config import (
    EfficientZeroConfig,
    EfficientZeroNetworkConfig,
)
from wmcomponents.models.value_equivalent.efficientzero.objective import EfficientZeroLoss
from wmcomponents.models.value_equivalent.efficientzero.official import official_rules
from wmcomponents.models.value_equivalent.supports import reward_and_value_supports
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
        n = config.network
        frames = frames_of(observation_spec, standardize=n.standardize, by_bounds=n.by_bounds)
        action = ActionVector(action_spec)
        history: History = NoHistory(frames.shape)
        if n.frames > 1:
            history = FrameHistory(frames.shape, n.frames, frames.dtype)
        params, limits = policy_distribution(action).params, (n.reward_support or n.support, n.support)
        supports = reward_and_value_supports(
            *limits, n.rewards, config.loss.discount, steps=n.lstm_horizon, dead_zone=1e-3
        )
        is_vector = len(frames.space) == 1
        parts = (_perceptrons if is_vector else _convolutions)(n, frames, history, action, params, supports)
        size = math.prod(parts.representation.latent_shape)
        event_dims = len(parts.representation.latent_shape)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            frames=frames,
            history=history,
            representation=parts.representation,
            transition=parts.transition,
            reward_head=parts.reward_head,
            prediction=parts.prediction,
            continue_head=BernoulliHead(size, n.continue_units) if n.continue_head else None,
            projection=SimSiamProjection(size, n.projection, n.projection, n.bottleneck, event_dims),
        )
        self.config = config

    def objective(self) -> EfficientZeroLoss:
        """The paper's loss for this model."""
        return EfficientZeroLoss(self, self.config.loss, optimizer=self.config.optimizer)

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
        rules = official_rules(downsamples=not has_plain_stem(model.representation))
        return load_mapped(model, section(weights, "weights", optional=True), rules)


class _Parts(NamedTuple):
    representation: StateRepresentation | ConvRepresentation
    transition: StateTransition | ConvTransition
    reward_head: ValuePrefixHead
    prediction: PredictionHead


def _perceptrons(
    config: EfficientZeroNetworkConfig,
    frames: Frames,
    history: History,
    action: ActionVector,
    params: int,
    supports: tuple[Support, Support],
) -> _Parts:
    """The networks of vectors, EfficientZero-V2's."""
    c, (rewards, values) = config, supports
    representation = StateRepresentation((history.channels, *frames.space), c.units, c.hidden, c.state_blocks)
    transition = StateTransition(c.units, action.size, c.hidden, c.action_units, c.state_blocks)
    trunk = nn.Sequential(ResidualPerceptron(c.units, c.hidden), Float32LayerNorm(c.units, eps=1e-5))
    policy, value = (
        Perceptron(c.units, c.state_heads, size, c.norm, "relu", zero=True) for size in (params, values.size)
    )
    reward = _value_prefix(c, nn.Identity(), c.units, rewards, event_dims=1)
    return _Parts(representation, transition, reward, PredictionHead(trunk, policy, value, values, event_dims=1))


def _convolutions(
    config: EfficientZeroNetworkConfig,
    frames: Frames,
    history: History,
    action: ActionVector,
    params: int,
    supports: tuple[Support, Support],
) -> _Parts:
    """The networks of images and boards, the paper's."""
    c, (rewards, values) = config, supports
    stem = (NormalizedStem if frames.is_image and c.downsample else PlainStem)(history.channels, c.channels)
    scale = MinMaxScale(3, guard="none") if c.scale else None
    representation = ConvRepresentation(stem, frames.space, c.channels, c.blocks, scale)
    planes = make_action_planes(action, c.action_planes)
    transition = ConvTransition(c.channels, planes, c.blocks, skip=True, scale=scale)
    trunk = residual_blocks(c.channels, c.blocks)
    shape = representation.latent_shape
    policy, value = (
        ReducedHead(shape, c.reduced, c.reduced_heads, size, c.norm, "relu", zero=True)
        for size in (params, values.size)
    )
    entry = ReducedPlanes(c.channels, c.reduced, c.norm == "batch")
    reward = _value_prefix(c, entry, c.reduced * shape[1] * shape[2], rewards, event_dims=3)
    return _Parts(representation, transition, reward, PredictionHead(trunk, policy, value, values, event_dims=3))


def _value_prefix(
    config: EfficientZeroNetworkConfig, entry: nn.Module, features: int, support: Support, event_dims: int
) -> ValuePrefixHead:
    c = config
    return ValuePrefixHead(
        entry, features, support, c.lstm, c.reduced_heads, c.lstm_horizon, c.norm, event_dims=event_dims
    )
