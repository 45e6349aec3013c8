"""Sizes of an I-JEPA, its masks and its optimiser."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.joint_embedding.masked_optimizer import MaskedJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.vit_config import TINY, TINY_BESIDE, MaskedConfig, ViTConfig
from wmcomponents.nn import ViTSize


@dataclass(frozen=True)
class IJEPANetworkConfig:
    """Sizes of an I-JEPA's networks; the defaults are the paper's ViT-H/14.

    Attributes:
        encoder: of what is seen.
        predictor: of the features of what is not.
        patch: side of a patch.
        image_size: side of the square to which images are resized; 0 leaves them as they are.
    """

    encoder: ViTConfig = field(default_factory=lambda: ViTConfig.of("huge"))
    predictor: ViTConfig = field(default_factory=lambda: ViTConfig(384, 12, 16, 1536))
    patch: int = 14
    image_size: int = 224


@dataclass(frozen=True)
class IJEPALossConfig:
    """Numbers of an I-JEPA's masks, see :class:`wmcomponents.functional.MultiBlockMasks`.

    Attributes:
        targets: number of blocks that are predicted.
        target_scale: least and largest share of the image of such a block.
        context_scale: of the block that is seen.
        aspect: least and largest ratio of height to width of a predicted block.
        least: patches that a context must have more of.
    """

    targets: int = 4
    target_scale: tuple[float, float] = (0.15, 0.2)
    context_scale: tuple[float, float] = (0.85, 1.0)
    aspect: tuple[float, float] = (0.75, 1.5)
    least: int = 10


@dataclass(frozen=True)
class IJEPAOptimizerConfig(MaskedJEPAOptimizerConfig):
    """The paper's numbers, for batches of 2,048 images: 300 epochs of ImageNet, 40 of them of warm-up.

    Reference: Assran et al., I-JEPA (2023), appendix A, and the configuration of ViT-H/14.
    """

    lr: float = 1e-3
    first_lr: float = 2e-4
    last_lr: float = 1e-6
    weight_decay: float = 0.04
    last_weight_decay: float = 0.4
    momentum: float = 0.996
    last_momentum: float = 1.0
    warmup: int = 25_000
    steps: int = 187_500


@dataclass(frozen=True)
class IJEPAConfig(MaskedConfig):
    """An I-JEPA: its networks, its masks and its optimiser.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the masks.
        optimizer: numbers of the optimiser and of the average.
    """

    network: IJEPANetworkConfig = field(default_factory=IJEPANetworkConfig)
    loss: IJEPALossConfig = field(default_factory=IJEPALossConfig)
    optimizer: IJEPAOptimizerConfig = field(default_factory=IJEPAOptimizerConfig)

    @staticmethod
    def of_sizes(encoder: ViTSize, predictor: ViTSize, patch: int) -> "IJEPAConfig":
        """The paper's numbers with other networks, for images as they are.

        Args:
            encoder: its size.
            predictor: its size.
            patch: side of a patch.
        """
        return IJEPAConfig(IJEPANetworkConfig(ViTConfig.of(encoder), ViTConfig.of(predictor), patch, 0))

    @classmethod
    def tiny(cls, **changes: Any) -> "IJEPAConfig":
        """For images of 64 pixels a side on a CPU, as they are: minutes."""
        sizes = {"encoder": TINY, "predictor": TINY_BESIDE, "patch": 8, "image_size": 0}
        return cls().vary(**{**sizes, "warmup": 100, "steps": 2_000, **changes})

    @classmethod
    def huge(cls, **changes: Any) -> "IJEPAConfig":
        """ViT-H/14 at 224 pixels."""
        return cls().vary(**changes)

    @classmethod
    def huge448(cls, **changes: Any) -> "IJEPAConfig":
        """ViT-H/16 at 448 pixels."""
        return cls().vary(**{"patch": 16, "image_size": 448, **changes})

    @classmethod
    def giant(cls, **changes: Any) -> "IJEPAConfig":
        """ViT-g/16 at 224 pixels."""
        return cls().vary(**{"encoder": ViTConfig.of("giant"), "patch": 16, **changes})
