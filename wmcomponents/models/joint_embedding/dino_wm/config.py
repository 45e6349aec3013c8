"""Sizes of a DINO-WM, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.joint_embedding.frozen_encoder import FrozenEncoderConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class DINOWMNetworkConfig:
    """Sizes of DINO-WM's predictor; the defaults are the paper's.

    Attributes:
        frames: most frames that it reads.
        embedded: size of the embedded action, and of the embedded proprioception.
        joining: how these stand beside the patches: behind the ``"channels"`` of each, or as ``"tokens"`` of their own,
            whose size is then that of the features.
        proprio_repeats: how many times over the proprioception stands in the channels.
        action_repeats: how many times over the action does.
        depth: number of blocks.
        heads: number of attention heads.
        head_dim: size of a head.
        hidden: width of the feed-forward.
        dropout: in every block.
    """

    frames: int = 3
    embedded: int = 10
    joining: Literal["channels", "tokens"] = "channels"
    proprio_repeats: int = 1
    action_repeats: int = 1
    depth: int = 6
    heads: int = 16
    head_dim: int = 64
    hidden: int = 2048
    dropout: float = 0.1


@dataclass(frozen=True)
class DINOWMDecoderConfig:
    """Sizes of the decoder, a probe that changes nothing in the rest; the defaults are the paper's.

    Attributes:
        channels: inside; 0 leaves the decoder out.
        blocks: residual blocks of each half.
        block_channels: inside of these.
    """

    channels: int = 384
    blocks: int = 4
    block_channels: int = 128


@dataclass(frozen=True)
class DINOWMLossConfig:
    """Numbers of DINO-WM's objective.

    Attributes:
        reconstruction: weight of the decoder's error, of which nothing but the decoder gets a gradient.
    """

    reconstruction: float = 1.0


@dataclass(frozen=True)
class DINOWMOptimizerConfig:
    """Numbers of DINO-WM's optimiser, AdamW; the defaults are the paper's.

    Attributes:
        lr: learning rate of the predictor, and of the maps that embed actions and proprioception.
        weight_decay: of the same.
        decoder_lr: learning rate of the decoder, which has no decay.
        warmup: updates over which the learning rates rise from 0.
    """

    lr: float = 5e-4
    weight_decay: float = 0.01
    decoder_lr: float = 3e-4
    warmup: int = 0


@dataclass(frozen=True)
class DINOWMConfig(ModelConfig):
    """A DINO-WM: predictor, frozen encoder, decoder, loss and optimiser; the defaults are the paper's.

    Attributes:
        network: sizes of the predictor.
        encoder: which encoder is frozen.
        decoder: sizes of the probe that shows images.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    network: DINOWMNetworkConfig = field(default_factory=DINOWMNetworkConfig)
    encoder: FrozenEncoderConfig = field(default_factory=FrozenEncoderConfig)
    decoder: DINOWMDecoderConfig = field(default_factory=DINOWMDecoderConfig)
    loss: DINOWMLossConfig = field(default_factory=DINOWMLossConfig)
    optimizer: DINOWMOptimizerConfig = field(default_factory=DINOWMOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DINOWMConfig":
        """For small images on a CPU: minutes, not hours; no decoder.

        The encoder is a small vision transformer of patches of 8, which knows nothing before it is trained: hand one
        over that is, ``DINOWM("tiny", env, encoder=...)``.
        """
        sizes = {
            "network": DINOWMNetworkConfig(embedded=8, depth=2, heads=4, head_dim=16, hidden=128, dropout=0.0),
            "encoder": FrozenEncoderConfig("mae", 64, 3, 4, 128, (8, 8), positions=(64, 64), size=()),
            "decoder": DINOWMDecoderConfig(channels=0, blocks=1, block_channels=8),
        }
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "DINOWMConfig":
        """The paper's, on DINOv2 of the small size.

        Hand its weights over, ``DINOWM("official", env, encoder=load_official_vit("dinov2", FILE))``: the encoder is a
        fresh one without them.
        """
        return cls().vary(**changes)
