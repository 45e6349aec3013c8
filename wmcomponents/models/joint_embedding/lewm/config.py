"""Sizes of a LeWorldModel, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.joint_embedding.embedding_encoder import EmbeddingEncoderConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class LeWMNetworkConfig:
    """Sizes of LeWorldModel's embedding and predictor; the defaults are stable-worldmodel's.

    Attributes:
        latent: size of an embedding.
        projection: hidden width of the batch-normed maps behind encoder and predictor.
        frames: most frames that the predictor reads.
        mixed: numbers of an action behind its first map.
        depth: number of the predictor's blocks.
        heads: number of its attention heads.
        head_dim: size of a head.
        hidden: width of its feed-forward.
        dropout: in it, and on its input.
    """

    latent: int = 192
    projection: int = 2048
    frames: int = 3
    mixed: int = 10
    depth: int = 6
    heads: int = 16
    head_dim: int = 64
    hidden: int = 2048
    dropout: float = 0.1


@dataclass(frozen=True)
class LeWMLossConfig:
    """Numbers of LeWorldModel's objective; the defaults are stable-worldmodel's.

    Attributes:
        distribution: weight of SIGReg's term, which grows with the batch.
        directions: of its projections, drawn anew at each update.
    """

    distribution: float = 0.09
    directions: int = 1024


@dataclass(frozen=True)
class LeWMOptimizerConfig:
    """Numbers of LeWorldModel's optimiser, AdamW; the defaults are stable-worldmodel's.

    Attributes:
        lr: learning rate.
        weight_decay: of all weights.
        max_norm: largest norm of the gradient.
        warmup: updates over which the learning rate rises from 0: a hundredth of the run there.
    """

    lr: float = 5e-5
    weight_decay: float = 1e-3
    max_norm: float = 1.0
    warmup: int = 0


@dataclass(frozen=True)
class LeWMConfig(ModelConfig):
    """A LeWorldModel: its encoder, its predictor, its loss and its optimiser; the defaults are stable-worldmodel's.

    Attributes:
        encoder: sizes of the encoder.
        network: sizes of embedding and predictor.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    encoder: EmbeddingEncoderConfig = field(default_factory=EmbeddingEncoderConfig)
    network: LeWMNetworkConfig = field(default_factory=LeWMNetworkConfig)
    loss: LeWMLossConfig = field(default_factory=LeWMLossConfig)
    optimizer: LeWMOptimizerConfig = field(default_factory=LeWMOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "LeWMConfig":
        """For small environments on a CPU: minutes, not hours."""
        parts = {
            "encoder": EmbeddingEncoderConfig("impala", 64, 2, 4, 128, 8, (), (8, 16, 16), 1, 64),
            "network": LeWMNetworkConfig(48, 128, depth=2, heads=4, head_dim=16, hidden=128, dropout=0.0),
            "directions": 256,
        }
        return cls().vary(**{**parts, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "LeWMConfig":
        """stable-worldmodel's: a vision transformer of 224 pixels, 18 million parameters."""
        return cls().vary(**changes)
