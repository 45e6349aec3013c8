"""MuZero (Schrittwieser et al., Mastering Atari, Go, Chess and Shogi by Planning with a Learned Model, 2020)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import (
    ActionVector,
    FrameActionHistory,
    Frames,
    History,
    NoHistory,
    make_action_planes,
    policy_distribution,
)
from wmcomponents.dynamics import ConvTransition, MLPTransition
from wmcomponents.encoders import ConvRepresentation, MLPRepresentation
from wmcomponents.heads import BernoulliHead, PredictionHead, RewardHead
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel, reward_and_value
from wmcomponents.models.value_equivalent.muzero.objective import MuZeroLoss
from wmcomponents.models.value_equivalent.muzero.official import official_rules
from wmcomponents.nn import MinMaxScale, Perceptron, PlainStem, PooledStem, ReducedHead, ResidualStem, residual_blocks
from wmcomponents.nn.conv.residual import Stem
from wmcomponents.pretrained import load_mapped, section


@dataclass(frozen=True)
class MuZeroConfig:
    """Sizes of a MuZero and of its training; the defaults are muzero-general's.

    Vectors enter perceptrons ("fullyconnected"), images and boards enter residual convolutions ("resnet").

    Attributes:
        units: size of a vector latent.
        representation: hidden widths of h for vectors.
        dynamics: hidden widths of g for vectors.
        heads: hidden widths of reward, policy and value for vectors.
        norm: of the hidden layers for vectors: none in muzero-general.
        blocks: residual blocks of each convolutional network.
        channels: of a convolutional latent.
        reduced: channels to which a convolutional head reduces.
        reduced_heads: hidden widths of convolutional heads.
        downsample: how images are brought to a sixteenth: ``"resnet"``, ``"cnn"``, or not. Boards keep their size.
        action_planes: how a choice enters convolutions: one plane filled with ``a / |A|``, or one-hot planes.
        scale: how latents are brought to [0, 1]: as in muzero-general (vectors over features, planes channel by
            channel over space), over the whole latent (LightZero), or not.
        skip: whether g adds the latent to what it computes (LightZero); not in muzero-general.
        past: observations and actions stacked before the current one.
        support: of the value: integers -support..support on the scale of h.
        reward_support: of the reward, likewise; as the value's if 0.
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: such as the supports cannot hold in units of a power of
            ten, found in data before training.
        players: 1, or 2 who move in turn.
        standardize: whether vector observations are standardised, fitted to data before training.
        continue_head: whether P(not terminated) is predicted: not in the paper, whose episodes pass into absorbing
            states; an agent that is trained in dreams needs it.
        continue_units: width of that head's hidden layer.
        unroll: K, steps of the model that are trained.
        td_steps: n of the value target.
        discount: gamma.
        state_gradient: factor on the latent's gradient at every step of the unroll.
        value_scale: weight of the value loss.
        continue_scale: weight of the termination loss.
        starts: positions of each training sequence from which it is unrolled, drawn anew; 0 takes them all.
        target_interval: updates between refreshments of the target network.
        optimizer: ``"sgd"`` with momentum 0.9, or ``"adam"``.
        lr: learning rate.
        weight_decay: L2 on every weight.
        decay_rate: factor on the learning rate every ``decay_steps`` updates, reached smoothly.
        decay_steps: see above; 0 does not decay.
    """

    units: int = 8
    representation: tuple[int, ...] = ()
    dynamics: tuple[int, ...] = (16,)
    heads: tuple[int, ...] = (16,)
    norm: Literal["none", "layer"] = "none"
    blocks: int = 16
    channels: int = 256
    reduced: int = 256
    reduced_heads: tuple[int, ...] = (256, 256)
    downsample: Literal["none", "resnet", "cnn"] = "resnet"
    action_planes: Literal["fraction", "one_hot"] = "fraction"
    scale: Literal["muzero_general", "whole", "none"] = "muzero_general"
    skip: bool = False
    past: int = 0
    support: int = 300
    reward_support: int = 0
    rewards: Literal["plain", "scaled"] = "plain"
    players: int = 1
    standardize: bool = False
    continue_head: bool = False
    continue_units: int = 64
    unroll: int = 5
    td_steps: int = 10
    discount: float = 0.997
    state_gradient: float = 0.5
    value_scale: float = 0.25
    continue_scale: float = 1.0
    starts: int = 1
    target_interval: int = 100
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    weight_decay: float = 1e-4
    decay_rate: float = 0.1
    decay_steps: int = 350_000

    @classmethod
    def tiny(cls, **changes: Any) -> "MuZeroConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        It is unrolled far, and its dreams end: a head predicts termination, which is what forces the physics of a
        falling pole into a latent that nothing else would ask about it. Hence the weight of that loss, the gradient
        that is not shortened, and a transition that need only learn what changes.
        """
        sizes = {"units": 64, "representation": (128,), "dynamics": (128,), "heads": (64,), "norm": "layer"}
        planes = {"blocks": 1, "channels": 16, "reduced": 4, "reduced_heads": (32,)}
        training = {"unroll": 16, "starts": 8, "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "decay_steps": 0}
        parts = {
            "skip": True,
            "scale": "none",
            "support": 60,
            "reward_support": 10,
            "rewards": "scaled",
            "action_planes": "one_hot",
            "standardize": True,
        }
        ours = {"continue_head": True, "continue_scale": 5.0, "state_gradient": 1.0, **parts}
        return cls(**{**sizes, **planes, **training, **ours, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "MuZeroConfig":
        """muzero-general's Atari: 32 past frames, 16 blocks of 256 channels."""
        return cls(**{"past": 32, **changes})

    @classmethod
    def cartpole(cls, **changes: Any) -> "MuZeroConfig":
        """muzero-general's CartPole: a latent of 8 numbers, Adam at 0.02 that decays by 0.8 every 1,000 updates."""
        sizes = {"support": 10, "td_steps": 50, "unroll": 10, "value_scale": 1.0}
        return cls(**{**sizes, "optimizer": "adam", "lr": 0.02, "decay_rate": 0.8, "decay_steps": 1000, **changes})

    @classmethod
    def board_game(cls, **changes: Any) -> "MuZeroConfig":
        """Two players in turn, full returns, a small support (muzero-general's games; paper: 16 blocks of 256)."""
        sizes = {"players": 2, "support": 10, "discount": 1.0, "downsample": "none", "td_steps": 1000}
        return cls(**{**sizes, "blocks": 3, "channels": 64, "reduced": 16, "reduced_heads": (64,), **changes})


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
        c = config
        frames = Frames(observation_spec, c.standardize)
        action = ActionVector(action_spec)
        history = _history(c, frames, action)
        stack = (history.channels, *frames.space)
        params = policy_distribution(action).params
        event = 1 if len(frames.space) == 1 else 3
        limits = (c.reward_support or c.support, c.support)
        rewards, support = reward_and_value(*limits, c.rewards, c.discount)
        scale = _scale(c, event)
        if event == 1:
            representation = MLPRepresentation(stack, c.representation, c.units, scale, c.norm)
            transition = MLPTransition(c.units, action.size, c.dynamics, c.skip, scale, c.norm)
            trunk: nn.Module = nn.Identity()
            reward, policy, value = (
                Perceptron(c.units, c.heads, size, c.norm) for size in (rewards.size, params, support.size)
            )
        else:
            stem = _stem(c, frames, history.channels)
            representation = ConvRepresentation(stem, frames.space, c.channels, c.blocks, scale)
            if c.scale == "muzero_general" and math.prod(representation.latent_shape[1:]) == 1:
                raise ValueError(
                    f"planes of one cell each, such as images of {frames.space} give, have no range to be scaled by: "
                    f"use scale='whole' or 'none', or larger images."
                )
            transition = ConvTransition(
                c.channels, make_action_planes(action, c.action_planes), c.blocks, c.skip, scale
            )
            trunk = residual_blocks(c.channels, c.blocks)
            reward, policy, value = (
                ReducedHead(representation.latent_shape, c.reduced, c.reduced_heads, size)
                for size in (rewards.size, params, support.size)
            )
        size = math.prod(representation.latent_shape)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            frames=frames,
            history=history,
            representation=representation,
            transition=transition,
            reward_head=RewardHead(reward, rewards, event),
            prediction=PredictionHead(trunk, policy, value, support, event),
            continue_head=BernoulliHead(size, c.continue_units) if c.continue_head else None,
            players=c.players,
        )
        self.config = config

    def objective(self) -> MuZeroLoss:
        """The paper's loss for this model."""
        c = self.config
        return MuZeroLoss(
            self,
            unroll=c.unroll,
            td_steps=c.td_steps,
            discount=c.discount,
            state_gradient=c.state_gradient,
            value_scale=c.value_scale,
            continue_scale=c.continue_scale,
            starts=c.starts,
            target_interval=c.target_interval,
            optimizer=c.optimizer,
            lr=c.lr,
            weight_decay=c.weight_decay,
            decay_rate=c.decay_rate,
            decay_steps=c.decay_steps,
        )

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
        downsamples = not isinstance(getattr(model.representation, "stem", None), PlainStem)
        return load_mapped(model, section(weights, "weights", optional=True), official_rules(downsamples))


def _history(config: MuZeroConfig, frames: Frames, action: ActionVector) -> History:
    if not config.past:
        return NoHistory(frames.shape)
    return FrameActionHistory(
        frames.shape, config.past, make_action_planes(action, config.action_planes), action.size, frames.dtype
    )


def _scale(config: MuZeroConfig, event_dims: int) -> nn.Module | None:
    """The part that brings latents to [0, 1]."""
    if config.scale == "none":
        return None
    if config.scale == "whole":
        return MinMaxScale(event_dims, guard="floor", eps=1e-8)
    return MinMaxScale(1 if event_dims == 1 else 2)


def _stem(config: MuZeroConfig, frames: Frames, channels: int) -> Stem:
    if not frames.is_image or config.downsample == "none":
        return PlainStem(channels, config.channels)
    if config.downsample == "cnn":
        return PooledStem(channels, config.channels, frames.space)
    return ResidualStem(channels, config.channels)
