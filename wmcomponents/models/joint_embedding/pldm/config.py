"""Sizes of a PLDM, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.joint_embedding.embedding_encoder import EmbeddingEncoderConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class PLDMNetworkConfig:
    """Sizes of PLDM's embedding and predictor; the defaults are stable-worldmodel's.

    Attributes:
        latent: size of an embedding.
        projection: hidden width of the batch-normed maps behind the encoder and the transformer.
        predictor: ``"transformer"``, LeWorldModel's, which reads several frames; or one that reads the newest alone,
            ``"mlp"``, which adds a change to it, or ``"gru"``, whose state it is.
        frames: most frames that the transformer reads.
        mixed: numbers of an action behind the transformer's first map.
        depth: number of the transformer's blocks.
        heads: number of its attention heads.
        head_dim: size of a head.
        hidden: width of its feed-forward.
        dropout: in it, and on its input.
        units: width of the perceptron that predicts, and of the inverse dynamics.
    """

    latent: int = 192
    projection: int = 2048
    predictor: Literal["transformer", "mlp", "gru"] = "transformer"
    frames: int = 3
    mixed: int = 10
    depth: int = 6
    heads: int = 16
    head_dim: int = 64
    hidden: int = 2048
    dropout: float = 0.1
    units: int = 512


@dataclass(frozen=True)
class PLDMLossConfig:
    """Numbers of PLDM's objective; the defaults are stable-worldmodel's.

    Attributes:
        horizon: transitions of a window, along which a predictor that reads the newest frame alone goes on from its own
            predictions; not used for the transformer, which predicts each frame of its window out of the real ones.
        std: weight of the deviations over the batch.
        std_t: weight of the deviations over time.
        cov: weight of the covariances over the batch.
        cov_t: weight of the covariances over time.
        temp_align: weight of the similarity of embeddings that follow on each other.
        inverse_dynamics: weight of the error of actions told from the embeddings beside them; 0 leaves it out.
        straightening: weight of the cosine of successive changes; 0 leaves it out.
    """

    horizon: int = 8
    std: float = 18.0
    std_t: float = 0.7
    cov: float = 12.0
    cov_t: float = 0.0
    temp_align: float = 0.2
    inverse_dynamics: float = 0.0
    straightening: float = 0.0


@dataclass(frozen=True)
class PLDMOptimizerConfig:
    """Numbers of PLDM's optimiser, AdamW; the defaults are stable-worldmodel's.

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
class PLDMConfig(ModelConfig):
    """A PLDM: its encoder, its predictor, its loss and its optimiser; the defaults are stable-worldmodel's.

    Attributes:
        encoder: sizes of the encoder.
        network: sizes of embedding and predictor.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    encoder: EmbeddingEncoderConfig = field(default_factory=EmbeddingEncoderConfig)
    network: PLDMNetworkConfig = field(default_factory=PLDMNetworkConfig)
    loss: PLDMLossConfig = field(default_factory=PLDMLossConfig)
    optimizer: PLDMOptimizerConfig = field(default_factory=PLDMOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "PLDMConfig":
        """For small environments on a CPU: convolutions, a perceptron that predicts, inverse dynamics."""
        parts = {
            "encoder": EmbeddingEncoderConfig("impala", 64, 2, 4, 128, 8, (), (8, 16, 16), 1, 64),
            "network": PLDMNetworkConfig(48, 128, "mlp", 3, 10, 2, 4, 16, 128, 0.0, 128),
            "inverse_dynamics": 1.0,
        }
        return cls().vary(**{**parts, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "PLDMConfig":
        """stable-worldmodel's: LeWorldModel's networks, with PLDM's terms in place of its own."""
        return cls().vary(**changes)
