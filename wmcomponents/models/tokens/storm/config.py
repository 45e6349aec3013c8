"""What a STORM is made and trained with (Zhang et al., STORM, NeurIPS 2023)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class STORMNetworkConfig:
    """Sizes of the parts of a STORM world model.

    Attributes:
        groups: categorical variables of the stochastic state.
        classes: classes of each.
        unimix: share of the uniform distribution in each.
        depth: base channels of the image encoder and decoder.
        mults: channel factors of the stages that halve an image.
        units: width of the encoder and decoder of vectors.
        encoder_layers: layers of the encoder and decoder of vectors.
        layers: transformer blocks.
        heads: attention heads.
        dim: size of the transformer's tokens, and width of the heads of reward and end.
        dropout: share of attention weights and outputs that is dropped in training.
        positions: steps in the transformer's context.
        kept: steps that it reads again where its context is full.
        bins: bins of the reward head.
        vectors: scaling of vector observations: ``"symlog"``, or ``"standardize"`` (zero mean and unit variance, fitted
            to data before training).
    """

    groups: int = 32
    classes: int = 32
    unimix: float = 0.01
    depth: int = 32
    mults: tuple[int, ...] = (1, 2, 4, 8)
    units: int = 512
    encoder_layers: int = 2
    layers: int = 2
    heads: int = 8
    dim: int = 512
    dropout: float = 0.1
    positions: int = 64
    kept: int = 16
    bins: int = 255
    vectors: Literal["symlog", "standardize"] = "symlog"


@dataclass(frozen=True)
class STORMLossConfig:
    """Weights of STORM's world-model loss.

    Attributes:
        free_nats: nats below which the mean KL of the batch, summed over the latent's groups, has no gradient.
        dyn_scale: weight of the dynamics loss, which trains the prior.
        rep_scale: weight of the representation loss, which trains the posterior.
    """

    free_nats: float = 1.0
    dyn_scale: float = 0.5
    rep_scale: float = 0.1


@dataclass(frozen=True)
class STORMOptimizerConfig:
    """Numbers of Adam and of the gradient clipping.

    Attributes:
        lr: learning rate.
        max_norm: largest norm of the whole gradient.
        warmup: steps over which the learning rate grows from 0.
    """

    lr: float = 1e-4
    max_norm: float = 1000.0
    warmup: int = 0


@dataclass(frozen=True)
class STORMConfig(ModelConfig):
    """A STORM world model and its training; the defaults are the official ones for Atari 100k.

    Attributes:
        network: sizes of the parts.
        loss: weights of the loss.
        optimizer: numbers of the optimiser.
    """

    network: STORMNetworkConfig = field(default_factory=STORMNetworkConfig)
    loss: STORMLossConfig = field(default_factory=STORMLossConfig)
    optimizer: STORMOptimizerConfig = field(default_factory=STORMOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "STORMConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Vectors are standardised and only 0.1 nats are free, as in :meth:`DreamerV3Config.tiny` and for its reasons.
        """
        sizes = {"groups": 16, "classes": 8, "depth": 8, "units": 64, "heads": 4, "dim": 64, "dropout": 0.0}
        context = {"positions": 16, "kept": 8, "bins": 127}
        return cls().vary(
            **{**sizes, **context, "vectors": "standardize", "free_nats": 0.1, "lr": 1e-3, "warmup": 100, **changes}
        )

    @classmethod
    def atari(cls, **changes: Any) -> "STORMConfig":
        """Atari 100k at 64x64: 16,505,987 parameters with 4 actions."""
        return cls().vary(**changes)
