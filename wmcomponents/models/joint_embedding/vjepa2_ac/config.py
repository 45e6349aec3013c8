"""Sizes of a V-JEPA 2-AC, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.joint_embedding.frozen_encoder import FrozenEncoderConfig
from wmcomponents.pretrained import ModelConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VJEPA2ACNetworkConfig:
    """Sizes of V-JEPA 2-AC's predictor; the defaults are the paper's.

    Attributes:
        frames: most frames that it reads: as many as in its training.
        width: of the predictor.
        depth: number of blocks.
        heads: number of attention heads.
        mlp_ratio: the feed-forward's width over the token's.
    """

    frames: int = 8
    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0


@dataclass(frozen=True)
class VJEPA2ACLossConfig:
    """Numbers of V-JEPA 2-AC's objective; the defaults are the paper's.

    Attributes:
        horizon: transitions of a window, one less than its frames.
        rollout: how many frames are predicted in a row, from the first one.
    """

    horizon: int = 7
    rollout: int = 2


@dataclass(frozen=True)
class VJEPA2ACOptimizerConfig:
    """Numbers of V-JEPA 2-AC's optimiser, AdamW; the defaults are the paper's, for batches of 256 clips.

    Attributes:
        lr: learning rate between rise and fall.
        first_lr: at the beginning of the rise.
        weight_decay: of weights, not of vectors.
        warmup: steps of the rise.
        decay: steps of the fall to 0.
        steps: of the whole run.
    """

    lr: float = 4.25e-4
    first_lr: float = 7.5e-5
    weight_decay: float = 0.04
    warmup: int = 4_500
    decay: int = 4_500
    steps: int = 94_500


@dataclass(frozen=True)
class VJEPA2ACConfig(ModelConfig):
    """A V-JEPA 2-AC: predictor, frozen encoder, loss and optimiser; the defaults are the paper's.

    Attributes:
        network: sizes of the predictor.
        encoder: which encoder is frozen.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    network: VJEPA2ACNetworkConfig = field(default_factory=VJEPA2ACNetworkConfig)
    encoder: FrozenEncoderConfig = field(
        default_factory=lambda: FrozenEncoderConfig(
            "vjepa2",
            1408,
            40,
            22,
            6144,
            (2, 16, 16),
            positions=(),
            size=(256, 256),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
    )
    loss: VJEPA2ACLossConfig = field(default_factory=VJEPA2ACLossConfig)
    optimizer: VJEPA2ACOptimizerConfig = field(default_factory=VJEPA2ACOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "VJEPA2ACConfig":
        """For small images on a CPU: minutes, not hours.

        The encoder is a small one of tubelets of 8, which knows nothing before it is trained: hand one over that is,
        ``VJEPA2AC("tiny", env, encoder=...)``.
        """
        encoder = FrozenEncoderConfig(
            "vjepa2", 48, 2, 4, 96, (2, 8, 8), positions=(), size=(), mean=(0.5,), std=(0.25,)
        )
        sizes = {
            "network": VJEPA2ACNetworkConfig(frames=4, width=48, depth=2, heads=4, mlp_ratio=2.0),
            "encoder": encoder,
            "horizon": 3,
            "optimizer": VJEPA2ACOptimizerConfig(lr=1e-3, first_lr=1e-4, warmup=100, decay=0, steps=100_000),
        }
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "VJEPA2ACConfig":
        """The paper's, on V-JEPA 2's giant; ``load_official("vjepa2-ac", FILE)`` reads its published weights."""
        return cls().vary(**changes)
