"""What a DreamerV3 is made and trained with (Hafner et al., Mastering Diverse Domains, 2023/2025)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained.model_config import ModelConfig


@dataclass(frozen=True)
class DreamerV3NetworkConfig:
    """Sizes and kinds of the parts of a DreamerV3 world model.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        groups: categorical variables of the stochastic state; dimensions of a Gaussian one.
        classes: classes of each categorical variable.
        depth: base channels of the image encoder and decoder.
        units: width of the vector encoder, the decoder and the heads.
        blocks: blocks of the recurrent cell.
        layers: layers of the vector encoder and decoder.
        mults: channel factors of the image stages.
        stages: halving and doubling of images: ``"pool"``, max-pooling and nearest upsampling, as in the official
            presets, or ``"strided"``, strided and transposed convolutions, as in the paper and the official option.
        bins: bins of the reward head.
        unimix: share of the uniform distribution in categorical latents.
        latent: kind of the stochastic state: ``"categorical"``, or ``"gaussian"`` as in PlaNet and Dreamer V1, which
            says a few numbers more exactly at small sizes.
        vectors: scaling of vector observations: ``"symlog"`` as in the paper, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training), which small models need where a few numbers of small range say
            everything, as in CartPole.
        decoder: whether the model reconstructs observations.
        horizon: H of the factor 1 - 1/H on the continue head's target (official: 333); the head's output divided by it
            is P(not terminated).
    """

    deter: int = 8192
    hidden: int = 1024
    groups: int = 32
    classes: int = 64
    depth: int = 64
    units: int = 1024
    blocks: int = 8
    layers: int = 3
    mults: tuple[int, ...] = (2, 3, 4, 4)
    stages: Literal["pool", "strided"] = "pool"
    bins: int = 255
    unimix: float = 0.01
    latent: Literal["categorical", "gaussian"] = "categorical"
    vectors: Literal["symlog", "standardize"] = "symlog"
    decoder: bool = True
    horizon: int = 333


@dataclass(frozen=True)
class DreamerV3LossConfig:
    """Weights of DreamerV3's world-model loss.

    Attributes:
        free_nats: nats below which the KL of an element, summed over the latent's groups, has no gradient.
        dyn_scale: weight of the dynamics loss, which trains the prior.
        rep_scale: weight of the representation loss, which trains the posterior.
    """

    free_nats: float = 1.0
    dyn_scale: float = 1.0
    rep_scale: float = 0.1


@dataclass(frozen=True)
class DreamerV3OptimizerConfig:
    """Numbers of LaProp and of the adaptive gradient clipping.

    Attributes:
        lr: learning rate.
        eps: number added to the root of the mean square.
        agc: largest ratio of the norms of a gradient and its weight.
        warmup: steps over which the learning rate grows from 0.
    """

    lr: float = 4e-5
    eps: float = 1e-20
    agc: float = 0.3
    warmup: int = 1000


@dataclass(frozen=True)
class DreamerV3Config(ModelConfig):
    """A DreamerV3 world model and its training; the defaults are the official ``size200m``.

    Attributes:
        network: sizes and kinds of the world model's parts.
        loss: weights of the world model's loss.
        optimizer: numbers of its optimiser.
    """

    network: DreamerV3NetworkConfig = field(default_factory=DreamerV3NetworkConfig)
    loss: DreamerV3LossConfig = field(default_factory=DreamerV3LossConfig)
    optimizer: DreamerV3OptimizerConfig = field(default_factory=DreamerV3OptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV3Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Vectors are standardised and only 0.1 nats are free: with 1 nat, a model this small spends its free nat on noise
        in the digits that decide whether CartPole's pole falls.
        """
        sizes = {"deter": 128, "hidden": 64, "groups": 8, "classes": 8, "depth": 8, "units": 64, "layers": 2}
        return cls().vary(**{**sizes, "vectors": "standardize", "free_nats": 0.1, **changes})

    @classmethod
    def size1m(cls, **changes: Any) -> "DreamerV3Config":
        """0.69M parameters as an agent on 64x64 images (official preset, like all below)."""
        return cls().vary(**{"deter": 512, "hidden": 64, "classes": 4, "depth": 4, "units": 64, **changes})

    @classmethod
    def size12m(cls, **changes: Any) -> "DreamerV3Config":
        """10.5M parameters."""
        return cls().vary(**{"deter": 2048, "hidden": 256, "classes": 16, "depth": 16, "units": 256, **changes})

    @classmethod
    def size25m(cls, **changes: Any) -> "DreamerV3Config":
        """23.5M parameters."""
        return cls().vary(**{"deter": 3072, "hidden": 384, "classes": 24, "depth": 24, "units": 384, **changes})

    @classmethod
    def size50m(cls, **changes: Any) -> "DreamerV3Config":
        """41.7M parameters."""
        return cls().vary(**{"deter": 4096, "hidden": 512, "classes": 32, "depth": 32, "units": 512, **changes})

    @classmethod
    def size100m(cls, **changes: Any) -> "DreamerV3Config":
        """93.5M parameters."""
        return cls().vary(**{"deter": 6144, "hidden": 768, "classes": 48, "depth": 48, "units": 768, **changes})

    @classmethod
    def size200m(cls, **changes: Any) -> "DreamerV3Config":
        """166M parameters, the official default."""
        return cls().vary(**changes)

    @classmethod
    def size400m(cls, **changes: Any) -> "DreamerV3Config":
        """373M parameters."""
        return cls().vary(**{"deter": 12288, "hidden": 1536, "classes": 96, "depth": 96, "units": 1536, **changes})
