"""Sizes of a JEPA-WM, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.joint_embedding.frozen_encoder import FrozenEncoderConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class JEPAWMNetworkConfig:
    """Sizes of JEPA-WM's predictor; the defaults are the paper's for simulated environments.

    Attributes:
        frames: most frames that it reads.
        embedded: size of the embedded proprioception, where there is any.
        width: of the predictor, without it.
        depth: number of blocks.
        heads: number of attention heads.
        mlp_ratio: the feed-forward's width over the token's.
    """

    frames: int = 3
    embedded: int = 16
    width: int = 384
    depth: int = 6
    heads: int = 16
    mlp_ratio: float = 4.0


@dataclass(frozen=True)
class JEPAWMLossConfig:
    """Numbers of JEPA-WM's objective; the defaults are the paper's.

    Attributes:
        rollout: further frames that are predicted in a row, behind a prediction from real frames; 0 for none.
    """

    rollout: int = 1


@dataclass(frozen=True)
class JEPAWMOptimizerConfig:
    """Numbers of JEPA-WM's optimiser, AdamW; the defaults are the paper's.

    Attributes:
        lr: learning rate.
        weight_decay: at the beginning.
        last_weight_decay: at the end, half a cosine later.
        max_norm: largest norm of the gradient.
        steps: of the whole run, over which the decay changes.
    """

    lr: float = 5e-4
    weight_decay: float = 1e-7
    last_weight_decay: float = 1e-6
    max_norm: float = 1.0
    steps: int = 100_000


@dataclass(frozen=True)
class JEPAWMConfig(ModelConfig):
    """A JEPA-WM: predictor, frozen encoder, loss and optimiser; the defaults are the paper's for simulations.

    Attributes:
        network: sizes of the predictor.
        encoder: which encoder is frozen.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    network: JEPAWMNetworkConfig = field(default_factory=JEPAWMNetworkConfig)
    encoder: FrozenEncoderConfig = field(
        default_factory=lambda: FrozenEncoderConfig(
            size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
    )
    loss: JEPAWMLossConfig = field(default_factory=JEPAWMLossConfig)
    optimizer: JEPAWMOptimizerConfig = field(default_factory=JEPAWMOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "JEPAWMConfig":
        """For small images on a CPU: minutes, not hours.

        The encoder is a small vision transformer of patches of 8, which knows nothing before it is trained: hand one
        over that is, ``JEPAWM("tiny", env, encoder=...)``.
        """
        sizes = {
            "network": JEPAWMNetworkConfig(embedded=16, width=64, depth=2, heads=4, mlp_ratio=2.0),
            "encoder": FrozenEncoderConfig("mae", 64, 3, 4, 128, (8, 8), positions=(64, 64), size=()),
        }
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def simulation(cls, **changes: Any) -> "JEPAWMConfig":
        """The paper's on Meta-World, mazes, PushT and Wall: DINOv2 of the small size, 16 x 16 patches.

        Hand its weights over, ``JEPAWM("simulation", env, encoder=load_official_vit("dinov2", FILE))``: the encoder is
        a fresh one without them.
        """
        return cls().vary(**changes)

    @classmethod
    def robot(cls, **changes: Any) -> "JEPAWMConfig":
        """The paper's predictor on DROID and RoboCasa, of 12 blocks of 1024.

        Its encoder there is DINOv3 of the large size, which is of none of the layouts known here: hand yours over as a
        ``FrozenEncoder``.
        """
        return cls().vary(**{"network": JEPAWMNetworkConfig(width=1024, depth=12), **changes})
