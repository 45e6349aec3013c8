"""What the DreamerV3 of the preprint is made and trained with (Hafner et al., arXiv 2301.04104v1, 2023)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3LossConfig
from wmcomponents.pretrained.model_config import ModelConfig


@dataclass(frozen=True)
class DreamerV3PreprintNetworkConfig:
    """Sizes and kinds of the parts of the world model of DreamerV3's preprint.

    Attributes:
        deter: size of the recurrent state.
        units: width of all dense layers.
        depth: base channels of the image encoder and decoder.
        layers: layers of the vector encoder, the vector decoder and the heads.
        groups: categorical variables of the stochastic state; dimensions of a Gaussian one.
        classes: classes of each categorical variable.
        latent: kind of the stochastic state: ``"categorical"``, or ``"gaussian"``.
        mults: channel factors of the image stages.
        bins: bins of the reward head.
        unimix: share of the uniform distribution in categorical latents.
        vectors: scaling of vector observations: ``"symlog"`` as in the paper, ``"identity"``, or ``"standardize"``
            (zero mean and unit variance, fitted to data before training).
        decoder: whether the model reconstructs observations.
    """

    deter: int = 4096
    units: int = 1024
    depth: int = 96
    layers: int = 5
    groups: int = 32
    classes: int = 32
    latent: Literal["categorical", "gaussian"] = "categorical"
    mults: tuple[int, ...] = (1, 2, 4, 8)
    bins: int = 255
    unimix: float = 0.01
    vectors: Literal["symlog", "identity", "standardize"] = "symlog"
    decoder: bool = True


@dataclass(frozen=True)
class DreamerV3PreprintLossConfig(DreamerV3LossConfig):
    """Weights of the world-model loss of DreamerV3's preprint.

    Attributes:
        dyn_scale: weight of the dynamics loss, which trains the prior.
    """

    dyn_scale: float = 0.5


@dataclass(frozen=True)
class DreamerV3PreprintOptimizerConfig:
    """Numbers of Adam and of the gradient clipping.

    Attributes:
        lr: learning rate.
        eps: number added to the root of the second moment.
        max_norm: largest norm of the whole gradient.
        warmup: steps over which the learning rate grows from 0.
    """

    lr: float = 1e-4
    eps: float = 1e-8
    max_norm: float = 1000.0
    warmup: int = 0


@dataclass(frozen=True)
class DreamerV3PreprintConfig(ModelConfig):
    """The world model of DreamerV3's preprint and its training; the defaults are the preprint's size XL.

    Attributes:
        network: sizes and kinds of the world model's parts.
        loss: weights of the world model's loss.
        optimizer: numbers of its optimiser.
    """

    network: DreamerV3PreprintNetworkConfig = field(default_factory=DreamerV3PreprintNetworkConfig)
    loss: DreamerV3PreprintLossConfig = field(default_factory=DreamerV3PreprintLossConfig)
    optimizer: DreamerV3PreprintOptimizerConfig = field(default_factory=DreamerV3PreprintOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        As in ``DreamerV3Config.tiny``, vectors are standardised and only 0.1 nats are free.
        """
        sizes = {"deter": 128, "units": 64, "depth": 8, "layers": 2, "groups": 8, "classes": 8}
        return cls().vary(**{**sizes, "vectors": "standardize", "free_nats": 0.1, **changes})

    @classmethod
    def xs(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 8M parameters with its agent (official size, like all below)."""
        return cls().vary(**{"deter": 256, "units": 256, "depth": 24, "layers": 1, **changes})

    @classmethod
    def s(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 18M parameters."""
        return cls().vary(**{"deter": 512, "units": 512, "depth": 32, "layers": 2, **changes})

    @classmethod
    def m(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 37M parameters."""
        return cls().vary(**{"deter": 1024, "units": 640, "depth": 48, "layers": 3, **changes})

    @classmethod
    def l(cls, **changes: Any) -> "DreamerV3PreprintConfig":  # noqa: E743  the size's own name
        """About 77M parameters."""
        return cls().vary(**{"deter": 2048, "units": 768, "depth": 64, "layers": 4, **changes})

    @classmethod
    def xl(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 200M parameters."""
        return cls().vary(**changes)
