"""Sizes of a MuZero, its loss and its optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wmcomponents.models.value_equivalent.config import ValueEquivalentLossConfig, ValueEquivalentOptimizerConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class MuZeroNetworkConfig:
    """Sizes of a MuZero's networks; the defaults are muzero-general's.

    Vectors enter perceptrons ("fullyconnected"), images and boards enter residual convolutions ("resnet").

    Attributes:
        units: size of a vector latent.
        representation: hidden widths of h for vectors.
        dynamics: hidden widths of g for vectors.
        heads: hidden widths of reward, policy and value for vectors.
        norm: normalisation of the hidden layers for vectors; muzero-general has none.
        blocks: residual blocks of each convolutional network.
        channels: channels of a convolutional latent.
        reduced: channels to which a convolutional head reduces.
        reduced_heads: hidden widths of convolutional heads.
        downsample: how images are brought to a sixteenth: ``"resnet"``, ``"cnn"``, or not. Boards keep their size.
        action_planes: how a choice enters convolutions: one plane filled with ``a / |A|``, or one-hot planes.
        scale: how latents are brought to [0, 1]: as in muzero-general (vectors over features, planes channel by
            channel over space), over the whole latent (LightZero), or not.
        skip: whether g adds the latent to what it computes (LightZero); not in muzero-general.
        past: observations and actions stacked before the current one.
        support: outermost integer of the value's support, on the scale of MuZero's transform.
        reward_support: outermost integer of the reward's support; 0 takes the value's.
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: such as the supports cannot hold in units of a power of
            ten, found in data before training.
        players: 1, or 2 who move in turn.
        standardize: whether vector observations are standardised, fitted to data before training.
        by_bounds: whether numbers that the environment bounds on both sides are then scaled by these: data before
            training may lie closer together than all that follow.
        continue_head: whether P(not terminated) is predicted: not in the paper, whose episodes pass into absorbing
            states; an agent that is trained in dreams needs it.
        continue_units: width of the hidden layer of the termination's head.
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
    by_bounds: bool = False
    continue_head: bool = False
    continue_units: int = 64


@dataclass(frozen=True)
class MuZeroLossConfig(ValueEquivalentLossConfig):
    """Numbers of MuZero's loss: :class:`ValueEquivalentLossConfig` with muzero-general's defaults."""

    td_steps: int = 10


@dataclass(frozen=True)
class MuZeroOptimizerConfig(ValueEquivalentOptimizerConfig):
    """Numbers of MuZero's optimiser: :class:`ValueEquivalentOptimizerConfig` with muzero-general's defaults."""

    decay_rate: float = 0.1
    decay_steps: int = 350_000


@dataclass(frozen=True)
class MuZeroConfig(ModelConfig):
    """A MuZero: its networks, its loss and its optimiser; the defaults are muzero-general's.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the loss.
        optimizer: numbers of the optimiser.
    """

    network: MuZeroNetworkConfig = field(default_factory=MuZeroNetworkConfig)
    loss: MuZeroLossConfig = field(default_factory=MuZeroLossConfig)
    optimizer: MuZeroOptimizerConfig = field(default_factory=MuZeroOptimizerConfig)

    moved: ClassVar[Mapping[str, str]] = {"optimizer": "optimizer.algorithm"}

    @classmethod
    def tiny(cls, **changes: Any) -> "MuZeroConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        It is unrolled far, and its dreams end: a head predicts termination, which is what forces the physics of a
        falling pole into a latent that nothing else would ask about it. Hence the weight of that loss, the gradient
        that is not shortened, and a transition that need only learn what changes.
        """
        vectors = {"units": 64, "representation": (128,), "dynamics": (128,), "heads": (64,), "norm": "layer"}
        planes = {"blocks": 1, "channels": 16, "reduced": 4, "reduced_heads": (32,), "action_planes": "one_hot"}
        scalars = {"support": 60, "reward_support": 10, "rewards": "scaled"}
        latents = {"skip": True, "scale": "none", "standardize": True, "continue_head": True}
        loss = {"unroll": 16, "starts": 8, "continue_scale": 5.0, "state_gradient": 1.0}
        rate = {"algorithm": "adam", "lr": 1e-3, "weight_decay": 0.0, "decay_steps": 0}
        return cls().vary(**{**vectors, **planes, **scalars, **latents, **loss, **rate, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "MuZeroConfig":
        """muzero-general's Atari: 32 past frames, 16 blocks of 256 channels."""
        return cls().vary(**{"past": 32, **changes})

    @classmethod
    def cartpole(cls, **changes: Any) -> "MuZeroConfig":
        """muzero-general's CartPole: a latent of 8 numbers, Adam at 0.02 that decays by 0.8 every 1,000 updates."""
        sizes = {"support": 10, "td_steps": 50, "unroll": 10, "value_scale": 1.0}
        rate = {"algorithm": "adam", "lr": 0.02, "decay_rate": 0.8, "decay_steps": 1000}
        return cls().vary(**{**sizes, **rate, **changes})

    @classmethod
    def board_game(cls, **changes: Any) -> "MuZeroConfig":
        """Two players in turn, full returns, a small support (muzero-general's games; paper: 16 blocks of 256)."""
        game = {"players": 2, "support": 10, "discount": 1.0, "downsample": "none", "td_steps": 1000}
        planes = {"blocks": 3, "channels": 64, "reduced": 16, "reduced_heads": (64,)}
        return cls().vary(**{**game, **planes, **changes})
