"""Sizes of a V-JEPA or a V-JEPA 2, its masks and its optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.joint_embedding.masked_optimizer import MaskedJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.vit_config import TINY, TINY_BESIDE, MaskedConfig, ViTConfig
from wmcomponents.nn import ViTSize


@dataclass(frozen=True)
class VJEPANetworkConfig:
    """Sizes of a V-JEPA's networks; the defaults are the paper's ViT-L/16.

    Attributes:
        encoder: of what is seen.
        predictor: of the features of what is not.
        patch: (frames, height, width) of a tubelet.
        frames: of a clip.
        image_size: side of the square to which frames are resized; 0 leaves them as they are.
        positions: ``"fixed"`` sines and cosines (V-JEPA), or ``"rotary"`` (V-JEPA 2).
        mask_tokens: how many; kinds of masks take them round and round.
    """

    encoder: ViTConfig = field(default_factory=lambda: ViTConfig.of("large"))
    predictor: ViTConfig = field(default_factory=lambda: ViTConfig(384, 12, 16, 1536))
    patch: tuple[int, int, int] = (2, 16, 16)
    frames: int = 16
    image_size: int = 224
    positions: Literal["fixed", "rotary"] = "fixed"
    mask_tokens: int = 2


@dataclass(frozen=True)
class VJEPALossConfig:
    """Numbers of a V-JEPA's masks, one entry for each kind, see :class:`wmcomponents.functional.BlockTubeMasks`.

    Attributes:
        blocks: number of blocks that are predicted together.
        scales: share of the image of such a block.
        aspect: least and largest ratio of its height to its width.
    """

    blocks: tuple[int, ...] = (8, 2)
    scales: tuple[float, ...] = (0.15, 0.7)
    aspect: tuple[float, float] = (0.75, 1.5)


@dataclass(frozen=True)
class VJEPAOptimizerConfig(MaskedJEPAOptimizerConfig):
    """V-JEPA's numbers, for batches of 3,072 clips; :meth:`second` has V-JEPA 2's.

    Reference: Bardes et al., V-JEPA (2024), appendix, and the configuration of ViT-L/16.
    """

    lr: float = 6.25e-4
    first_lr: float = 2e-4
    last_lr: float = 1e-6
    weight_decay: float = 0.04
    last_weight_decay: float = 0.4
    momentum: float = 0.998
    last_momentum: float = 1.0
    warmup: int = 12_000
    steps: int = 90_000
    stretch: float = 1.25
    max_norm: float = 10.0

    @classmethod
    def second(cls) -> "VJEPAOptimizerConfig":
        """V-JEPA 2's: after the rise, rate, decay and average stay; gradients are not clipped.

        Reference: Assran et al., V-JEPA 2 (2025), and the configuration of ViT-g/16.
        """
        return cls(
            lr=5.25e-4,
            first_lr=1e-4,
            last_lr=5.25e-4,
            last_weight_decay=0.04,
            momentum=0.99925,
            last_momentum=0.99925,
            steps=240_000,
            stretch=1.0,
            max_norm=0.0,
        )


@dataclass(frozen=True)
class VJEPAConfig(MaskedConfig):
    """A V-JEPA or a V-JEPA 2: its networks, its masks and its optimiser.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the masks.
        optimizer: numbers of the optimiser and of the average.
    """

    network: VJEPANetworkConfig = field(default_factory=VJEPANetworkConfig)
    loss: VJEPALossConfig = field(default_factory=VJEPALossConfig)
    optimizer: VJEPAOptimizerConfig = field(default_factory=VJEPAOptimizerConfig)

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return self.network.frames

    @staticmethod
    def of_sizes(
        encoder: ViTSize,
        predictor: ViTSize,
        patch: Sequence[int],
        frames: int,
        positions: Literal["fixed", "rotary"],
        mask_tokens: int,
    ) -> "VJEPAConfig":
        """The papers' numbers with other networks, for frames as they are.

        Args:
            encoder: its size.
            predictor: its size.
            patch: (frames, height, width) of a tubelet.
            frames: of a clip.
            positions: V-JEPA's, or V-JEPA 2's, whose optimiser comes with them.
            mask_tokens: how many.
        """
        sizes = (ViTConfig.of(encoder), ViTConfig.of(predictor))
        time, height, width = patch
        network = VJEPANetworkConfig(*sizes, (time, height, width), frames, 0, positions, mask_tokens)
        optimizer = VJEPAOptimizerConfig.second() if positions == "rotary" else VJEPAOptimizerConfig()
        return VJEPAConfig(network, optimizer=optimizer)

    @classmethod
    def tiny(cls, **changes: Any) -> "VJEPAConfig":
        """For clips of 8 frames of 64 pixels a side on a CPU, as they are: minutes."""
        sizes = {"encoder": TINY, "predictor": TINY_BESIDE, "patch": (2, 8, 8), "frames": 8, "image_size": 0}
        return cls().vary(**{**sizes, "warmup": 100, "steps": 2_000, **changes})

    @classmethod
    def large(cls, **changes: Any) -> "VJEPAConfig":
        """V-JEPA's ViT-L/16 on clips of 16 frames."""
        return cls().vary(**changes)

    @classmethod
    def huge(cls, **changes: Any) -> "VJEPAConfig":
        """V-JEPA's ViT-H/16 on clips of 16 frames."""
        return cls().vary(**{"encoder": ViTConfig.of("huge"), **changes})

    @classmethod
    def second_large(cls, **changes: Any) -> "VJEPAConfig":
        """V-JEPA 2's ViT-L/16 on clips of 16 frames of 256 pixels a side."""
        return cls._second("large", **changes)

    @classmethod
    def second_huge(cls, **changes: Any) -> "VJEPAConfig":
        """V-JEPA 2's ViT-H/16."""
        return cls._second("huge", **changes)

    @classmethod
    def second_giant(cls, **changes: Any) -> "VJEPAConfig":
        """V-JEPA 2's ViT-g/16."""
        return cls._second("giant-22", **changes)

    @classmethod
    def _second(cls, size: str, **changes: Any) -> "VJEPAConfig":
        sizes = {
            "encoder": ViTConfig.of(size),
            "predictor": ViTConfig(384, 12, 12, 1536),
            "image_size": 256,
            "positions": "rotary",
            "mask_tokens": 10,
            "optimizer": VJEPAOptimizerConfig.second(),
        }
        return cls().vary(**{**sizes, **changes})
