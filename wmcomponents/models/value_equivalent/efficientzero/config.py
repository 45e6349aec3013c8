"""Sizes of an EfficientZero, its loss and its optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wmcomponents.models.value_equivalent.config import ValueEquivalentLossConfig, ValueEquivalentOptimizerConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class EfficientZeroNetworkConfig:
    """Sizes of an EfficientZero's networks; the defaults are the official ones for Atari.

    Images and boards enter residual convolutions as in the paper; vectors enter the residual perceptrons of
    EfficientZero-V2.

    Attributes:
        units: size of a vector latent (V2).
        hidden: width inside the residual blocks for vectors (V2).
        action_units: size of an embedded action for vectors (V2).
        state_blocks: residual blocks of representation and of dynamics for vectors (V2).
        state_heads: hidden widths of policy and value for vectors (V2: 256, 256).
        blocks: residual blocks of each convolutional network.
        channels: channels of a convolutional latent.
        reduced: channels to which a convolutional head reduces.
        reduced_heads: hidden widths behind the reduction, and behind the LSTM.
        downsample: whether images are brought to a sixteenth. Boards keep their size.
        action_planes: how a choice enters convolutions: one plane filled with ``a / |A|``, or one-hot planes.
        scale: whether convolutional latents are brought to [0, 1] over the whole latent; the official code's
            ``state_norm``, off for Atari.
        frames: observations stacked, the current one among them.
        support: outermost integer of the value's support, on the scale of MuZero's transform.
        reward_support: outermost integer of the value prefix's support; 0 takes the value's.
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: such as the supports cannot hold in units of a power of
            ten, found in data before training.
        norm: normalisation in the heads: by batches as in the paper, or by layers, which knows no running statistics.
        lstm: size of the value prefix's LSTM.
        lstm_horizon: steps after which the value prefix and its LSTM begin anew.
        projection: width of SimSiam's projector and size of a projection.
        bottleneck: width of SimSiam's predictor.
        standardize: whether vector observations are standardised, fitted to data before training.
        by_bounds: whether numbers that the environment bounds on both sides are then scaled by these: data before
            training may lie closer together than all that follow.
        continue_head: whether P(not terminated) is predicted: not in the paper; an agent that is trained in dreams
            needs it.
        continue_units: width of the hidden layer of the termination's head.
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
    by_bounds: bool = False
    continue_head: bool = False
    continue_units: int = 64


@dataclass(frozen=True)
class EfficientZeroLossConfig(ValueEquivalentLossConfig):
    """Numbers of EfficientZero's loss: :class:`ValueEquivalentLossConfig` with the official defaults, and its own.

    The discount is 0.997 to the 4th: a step of the agent is four frames.

    Attributes:
        consistency_scale: c_s, weight of the consistency loss.
        shift: pixels by which a stack of images is moved at most in training; 0 moves none.
        intensity: spread of the random factor on the brightness of a stack of images in training.
    """

    discount: float = 0.997**4
    target_interval: int = 200
    consistency_scale: float = 2.0
    shift: int = 4
    intensity: float = 0.05


@dataclass(frozen=True)
class EfficientZeroOptimizerConfig(ValueEquivalentOptimizerConfig):
    """Numbers of EfficientZero's optimiser: :class:`ValueEquivalentOptimizerConfig` with the official defaults."""

    lr: float = 0.2
    warmup: int = 1000
    max_norm: float | None = 5.0
    decay_rate: float = 0.1
    decay_steps: int = 100_000
    staircase: bool = True


@dataclass(frozen=True)
class EfficientZeroConfig(ModelConfig):
    """An EfficientZero: its networks, its loss and its optimiser; the defaults are the official ones for Atari.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the loss.
        optimizer: numbers of the optimiser.
    """

    network: EfficientZeroNetworkConfig = field(default_factory=EfficientZeroNetworkConfig)
    loss: EfficientZeroLossConfig = field(default_factory=EfficientZeroLossConfig)
    optimizer: EfficientZeroOptimizerConfig = field(default_factory=EfficientZeroOptimizerConfig)

    moved: ClassVar[Mapping[str, str]] = {"optimizer": "optimizer.algorithm"}

    @classmethod
    def tiny(cls, **changes: Any) -> "EfficientZeroConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Of EfficientZero-V2 for vectors it takes the networks and Adam; its dreams end, by a head of ours.
        """
        vectors = {"units": 64, "hidden": 128, "action_units": 32, "state_blocks": 1, "state_heads": (64,)}
        planes = {"channels": 16, "reduced": 4, "frames": 1, "action_planes": "one_hot"}
        heads = {"norm": "layer", "lstm": 64, "projection": 128, "bottleneck": 64, "continue_head": True}
        scalars = {"support": 60, "reward_support": 10, "rewards": "scaled", "standardize": True}
        loss = {"unroll": 10, "starts": 4, "discount": 0.997, "target_interval": 100, "shift": 0, "intensity": 0.0}
        rate = {"algorithm": "adam", "lr": 1e-3, "warmup": 0, "weight_decay": 0.0, "decay_steps": 0}
        return cls().vary(**{**vectors, **planes, **heads, **scalars, **loss, **rate, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "EfficientZeroConfig":
        """The official Atari-100k network and training, the default."""
        return cls().vary(**changes)

    @classmethod
    def state(cls, **changes: Any) -> "EfficientZeroConfig":
        """Vectors as in EfficientZero-V2: its networks, discount and optimiser, with EfficientZero's value prefix."""
        sizes = {"frames": 1, "discount": 0.997, "value_scale": 0.5, "standardize": True}
        rate = {"algorithm": "adam", "lr": 3e-4, "weight_decay": 2e-5}
        return cls().vary(**{**sizes, **rate, **changes})
