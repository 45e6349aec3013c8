"""Sizes of a MAE, its loss and its optimiser."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.joint_embedding.vit_config import TINY, TINY_BESIDE, MaskedConfig, ViTConfig
from wmcomponents.nn import ViTSize


@dataclass(frozen=True)
class MAENetworkConfig:
    """Sizes of a MAE's networks; the defaults are the paper's ViT-L/16.

    Attributes:
        encoder: of what is seen.
        decoder: of the pixels of all patches.
        patch: side of a patch.
        image_size: side of the square to which images are resized; 0 leaves them as they are.
    """

    encoder: ViTConfig = field(default_factory=lambda: ViTConfig.of("large"))
    decoder: ViTConfig = field(default_factory=lambda: ViTConfig(512, 8, 16, 2048))
    patch: int = 16
    image_size: int = 224


@dataclass(frozen=True)
class MAELossConfig:
    """Numbers of a MAE's objective.

    Attributes:
        ratio: share of the patches that is hidden.
        normalize: whether each patch's pixels are normalised by its own mean and deviation.
    """

    ratio: float = 0.75
    normalize: bool = True


@dataclass(frozen=True)
class MAEOptimizerConfig:
    """Numbers of the optimiser.

    Attributes:
        lr: peak of the learning rate; the paper's is 1.5e-4 for every 256 images of a batch.
        weight_decay: of weights, not of vectors.
        beta2: averaging rate of the second moment.
        warmup: steps of the rise.
        steps: of the whole run, after which the rate is 0.

    Reference: He et al., MAE (2022), Table 8: 40 of 800 epochs of warm-up.
    """

    lr: float = 1.5e-4
    weight_decay: float = 0.05
    beta2: float = 0.95
    warmup: int = 12_500
    steps: int = 250_000


@dataclass(frozen=True)
class MAEConfig(MaskedConfig):
    """A MAE: its networks, its loss and its optimiser.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    network: MAENetworkConfig = field(default_factory=MAENetworkConfig)
    loss: MAELossConfig = field(default_factory=MAELossConfig)
    optimizer: MAEOptimizerConfig = field(default_factory=MAEOptimizerConfig)

    @staticmethod
    def of_sizes(encoder: ViTSize, decoder: ViTSize, patch: int) -> "MAEConfig":
        """The paper's numbers with other networks, for images as they are.

        Args:
            encoder: its size.
            decoder: its size.
            patch: side of a patch.
        """
        return MAEConfig(MAENetworkConfig(ViTConfig.of(encoder), ViTConfig.of(decoder), patch, 0))

    @classmethod
    def tiny(cls, **changes: Any) -> "MAEConfig":
        """For images of 64 pixels a side on a CPU, as they are: minutes."""
        sizes = {"encoder": TINY, "decoder": TINY_BESIDE, "patch": 8, "image_size": 0}
        return cls().vary(**{**sizes, "lr": 1e-3, "warmup": 100, "steps": 2_000, **changes})

    @classmethod
    def base(cls, **changes: Any) -> "MAEConfig":
        """ViT-B/16 at 224 pixels."""
        return cls().vary(**{"encoder": ViTConfig.of("base"), **changes})

    @classmethod
    def large(cls, **changes: Any) -> "MAEConfig":
        """ViT-L/16 at 224 pixels."""
        return cls().vary(**changes)

    @classmethod
    def huge(cls, **changes: Any) -> "MAEConfig":
        """ViT-H/14 at 224 pixels."""
        return cls().vary(**{"encoder": ViTConfig.of("huge"), "patch": 14, **changes})
