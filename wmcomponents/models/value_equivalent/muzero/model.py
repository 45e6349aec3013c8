"""MuZero (Schrittwieser et al., Mastering Atari, Go, Chess and Shogi by Planning with a Learned Model, 2020)."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import (
    ActionVector,
    FrameActionHistory,
    Frames,
    History,
    NoHistory,
    Support,
    make_action_planes,
    policy_distribution,
)
from wmcomponents.dynamics import ConvTransition, MLPTransition
from wmcomponents.encoders import ConvRepresentation, MLPRepresentation
from wmcomponents.heads import BernoulliHead, PredictionHead, RewardHead
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel, frames_of, has_plain_stem
from wmcomponents.models.value_equivalent.muzero.config import MuZeroConfig, MuZeroNetworkConfig
from wmcomponents.models.value_equivalent.muzero.objective import MuZeroLoss
from wmcomponents.models.value_equivalent.muzero.official import official_rules
from wmcomponents.models.value_equivalent.supports import reward_and_value_supports
from wmcomponents.nn import MinMaxScale, Perceptron, PlainStem, PooledStem, ReducedHead, ResidualStem, residual_blocks
from wmcomponents.nn.conv.residual import Stem
from wmcomponents.pretrained import load_mapped, section


class MuZero(ValueEquivalentModel):
    """MuZero's representation, dynamics and prediction, as muzero-general builds them.

    Args:
        config: sizes; a preset such as ``MuZeroConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: the environment's single frame; the stack of past frames and
            actions lives in the state.
        action_spec: spec of one real action. Choices have a categorical policy, numbers a squashed Gaussian one.

    Raises:
        ValueError: if an observation cannot be encoded, or an action that is no choice is to be a fraction.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = MuZero(MuZeroConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'features', 'objective', 'reward', 'value']
    """

    config_class = MuZeroConfig
    config: MuZeroConfig

    def __init__(self, config: MuZeroConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        n = config.network
        frames = frames_of(observation_spec, standardize=n.standardize, by_bounds=n.by_bounds)
        action = ActionVector(action_spec)
        history = _history(n, frames, action)
        params = policy_distribution(action).params
        limits = (n.reward_support or n.support, n.support)
        supports = reward_and_value_supports(*limits, n.rewards, config.loss.discount)
        is_vector = len(frames.space) == 1
        parts = (_perceptrons if is_vector else _convolutions)(n, frames, history, action, params, supports)
        size = math.prod(parts.representation.latent_shape)
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
            players=n.players,
        )
        self.config = config

    def objective(self) -> MuZeroLoss:
        """The paper's loss for this model."""
        return MuZeroLoss(self, self.config.loss, optimizer=self.config.optimizer)

    @classmethod
    def from_official(
        cls, weights: Mapping[str, Any], *, config: MuZeroConfig, observation_spec: Composite, action_spec: TensorSpec
    ) -> "MuZero":
        """A model with the weights of werner-duvaud/muzero-general, "fullyconnected" or "resnet".

        Args:
            weights: its ``model.checkpoint`` (the network's under ``weights``), or the network's state dict alone.
            config: of the same sizes; with ``standardize`` and ``continue_head`` off, which it does not have.
            observation_spec: spec of one observation.
            action_spec: spec of one action.

        Raises:
            BadModelError: if keys or shapes are not those of this configuration.
        """
        model = cls(config, observation_spec, action_spec)
        rules = official_rules(downsamples=not has_plain_stem(model.representation))
        return load_mapped(model, section(weights, "weights", optional=True), rules)


class _Parts(NamedTuple):
    representation: MLPRepresentation | ConvRepresentation
    transition: MLPTransition | ConvTransition
    reward_head: RewardHead
    prediction: PredictionHead


def _perceptrons(
    config: MuZeroNetworkConfig,
    frames: Frames,
    history: History,
    action: ActionVector,
    params: int,
    supports: tuple[Support, Support],
) -> _Parts:
    """The networks of vectors, muzero-general's "fullyconnected"."""
    c, (rewards, values) = config, supports
    scale = _scale(c, event_dims=1)
    representation = MLPRepresentation((history.channels, *frames.space), c.representation, c.units, scale, c.norm)
    transition = MLPTransition(c.units, action.size, c.dynamics, c.skip, scale, c.norm)
    reward, policy, value = (Perceptron(c.units, c.heads, size, c.norm) for size in (rewards.size, params, values.size))
    prediction = PredictionHead(nn.Identity(), policy, value, values, event_dims=1)
    return _Parts(representation, transition, RewardHead(reward, rewards, event_dims=1), prediction)


def _convolutions(
    config: MuZeroNetworkConfig,
    frames: Frames,
    history: History,
    action: ActionVector,
    params: int,
    supports: tuple[Support, Support],
) -> _Parts:
    """The networks of images and boards, muzero-general's "resnet"."""
    c, (rewards, values) = config, supports
    scale = _scale(c, event_dims=3)
    representation = ConvRepresentation(_stem(c, frames, history.channels), frames.space, c.channels, c.blocks, scale)
    if c.scale == "muzero_general" and math.prod(representation.latent_shape[1:]) == 1:
        raise ValueError(
            f"planes of one cell each, such as images of {frames.space} give, have no range to be scaled by: "
            f"use scale='whole' or 'none', or larger images."
        )
    transition = ConvTransition(c.channels, make_action_planes(action, c.action_planes), c.blocks, c.skip, scale)
    trunk = residual_blocks(c.channels, c.blocks)
    reward, policy, value = (
        ReducedHead(representation.latent_shape, c.reduced, c.reduced_heads, size)
        for size in (rewards.size, params, values.size)
    )
    prediction = PredictionHead(trunk, policy, value, values, event_dims=3)
    return _Parts(representation, transition, RewardHead(reward, rewards, event_dims=3), prediction)


def _history(config: MuZeroNetworkConfig, frames: Frames, action: ActionVector) -> History:
    if not config.past:
        return NoHistory(frames.shape)
    return FrameActionHistory(
        frames.shape, config.past, make_action_planes(action, config.action_planes), action.size, frames.dtype
    )


def _scale(config: MuZeroNetworkConfig, event_dims: int) -> nn.Module | None:
    """The part that brings latents to [0, 1]."""
    if config.scale == "none":
        return None
    if config.scale == "whole":
        return MinMaxScale(event_dims, guard="floor", eps=1e-8)
    return MinMaxScale(1 if event_dims == 1 else 2)


def _stem(config: MuZeroNetworkConfig, frames: Frames, channels: int) -> Stem:
    if not frames.is_image or config.downsample == "none":
        return PlainStem(channels, config.channels)
    if config.downsample == "cnn":
        return PooledStem(channels, config.channels, frames.space)
    return ResidualStem(channels, config.channels)
