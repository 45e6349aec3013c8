"""What V-JEPA and V-JEPA 2 minimise: the L1 distance of predicted features to those of the encoder's average."""

from dataclasses import dataclass

from torch import Tensor

from wmcomponents.functional.patch_masks import Masks
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPALoss, MaskedJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.vjepa.model import VJEPA


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


class VJEPALoss(MaskedJEPALoss[VJEPA]):
    """V-JEPA's loss: the mean over the kinds of masks of the mean distance. Each sequence ``[T]`` is one clip.

    Args:
        world_model: the model.
        optimizer: numbers of :meth:`make_optimizer` and of the average; V-JEPA's if not given.
        kinds: how many kinds of masks there are: two, of short and of long range.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is of another kind.

    Reference: Bardes et al., V-JEPA (2024), eq. 1.
    """

    def __init__(
        self,
        world_model: VJEPA,
        *,
        optimizer: MaskedJEPAOptimizerConfig | None = None,
        kinds: int = 2,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        optimizer = VJEPAOptimizerConfig() if optimizer is None else optimizer
        super().__init__(world_model, optimizer=optimizer, kinds=kinds, seed=seed, reduction=reduction)

    def errors(self, predicted: Tensor, target: Tensor) -> Tensor:
        """See :meth:`MaskedJEPALoss.errors`."""
        return (predicted - target).abs().mean(-1)

    def _inputs(self, pixels: Tensor, masks: list[Masks]) -> tuple[Tensor, list[Masks]]:
        clips = self.world_model.pixels(pixels).transpose(1, 2)  # (B, C, T, H, W)
        return clips, [Masks(*(index[:, 0] for index in mask)) for mask in masks]
