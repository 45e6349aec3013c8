"""Sizes of a JEPA, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class JEPANetworkConfig:
    """Sizes of a JEPA's networks; the defaults are eb_jepa's two-rooms example.

    Attributes:
        latent: size of the embedding; with ``predictor="conv"`` the channels of the map that it is.
        channels: of the stacks of the image encoder.
        blocks: residual blocks of a stack.
        units: width of the layers over numbers and boards, of the predictor that is a perceptron, and of the inverse
            dynamics.
        predictor: ``"gru"``, whose state is the embedding; ``"mlp"``, which adds a change to it; or ``"conv"``, which
            adds one that convolutions tell: the embedding is a map then, of images alone.
        map_units: channels between the convolutions of the predictor of maps.
        map_layers: its convolutions before the last.
        vectors: how numbers enter: ``"raw"``, or ``"standardize"`` (zero mean and unit variance, fitted to data before
            training).
        pixel_mean: of each channel of images, for pixels from 0 to 1, that is subtracted; empty where pixels enter as
            they are.
        pixel_std: deviation of each channel that it is divided by; as many as ``pixel_mean``.
    """

    latent: int = 512
    channels: tuple[int, ...] = (16, 32, 32)
    blocks: int = 2
    units: int = 256
    predictor: Literal["gru", "mlp", "conv"] = "gru"
    map_units: int = 32
    map_layers: int = 3
    vectors: Literal["raw", "standardize"] = "raw"
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()


@dataclass(frozen=True)
class JEPALossConfig:
    """Numbers of a JEPA's objective; the defaults are eb_jepa's two-rooms example.

    Attributes:
        horizon: H, transitions that the predictor is rolled out for, from an encoded observation.
        target: what predictions are held to: the ``"online"`` embeddings, with their gradient, the same ``"stopped"``,
            or those of an ``"average"`` of the encoder.
        tau: share by which that average moves at each update.
        against_collapse: ``"variance_covariance"`` (a hinge on deviations, and covariances), ``"distribution"``
            (SIGReg), ``"pldm"`` (PLDM's four terms), or ``"none"``.
        variance: weight of the deviations' hinge.
        covariance: weight of the covariances.
        similarity: weight of the squared change from step to step; 0 leaves it out.
        inverse_dynamics: weight of the error of actions told from the embeddings beside them; 0 leaves it out.
        distribution: weight of SIGReg's term.
    """

    horizon: int = 8
    target: Literal["online", "stopped", "average"] = "online"
    tau: float = 0.01
    against_collapse: Literal["variance_covariance", "distribution", "pldm", "none"] = "variance_covariance"
    variance: float = 16.0
    covariance: float = 8.0
    similarity: float = 12.0
    inverse_dynamics: float = 1.0
    distribution: float = 0.09


@dataclass(frozen=True)
class JEPAOptimizerConfig:
    """Numbers of a JEPA's optimiser, AdamW.

    Attributes:
        lr: learning rate.
        weight_decay: of all weights.
        max_norm: largest norm of the gradient.
        warmup: updates over which the learning rate rises from 0.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-5
    max_norm: float = 2.0
    warmup: int = 0


@dataclass(frozen=True)
class JEPAConfig(ModelConfig):
    """A JEPA: its networks, its loss and its optimiser; the defaults are eb_jepa's two-rooms example.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    network: JEPANetworkConfig = field(default_factory=JEPANetworkConfig)
    loss: JEPALossConfig = field(default_factory=JEPALossConfig)
    optimizer: JEPAOptimizerConfig = field(default_factory=JEPAOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "JEPAConfig":
        """For small environments on a CPU: minutes, not hours. Vectors are standardised."""
        sizes = {"latent": 64, "channels": (8, 16, 16), "blocks": 1, "units": 64, "vectors": "standardize"}
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def two_rooms(cls, **changes: Any) -> "JEPAConfig":
        """eb_jepa's example of two rooms with random walls."""
        return cls().vary(**changes)
