"""What I-JEPA minimises: the smooth L1 distance of predicted features to those of the encoder's average."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from wmcomponents.functional.patch_masks import Masks
from wmcomponents.models.joint_embedding.ijepa.model import IJEPA
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPALoss, MaskedJEPAOptimizerConfig


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


class IJEPALoss(MaskedJEPALoss[IJEPA]):
    """I-JEPA's loss: each set of hidden patches is predicted by itself; the mean of all their distances.

    The paper writes an L2 distance; its code has this one.

    Args:
        world_model: the model.
        optimizer: numbers of :meth:`make_optimizer` and of the average; the paper's if not given.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is of another kind.

    Reference: Assran et al., I-JEPA (2023), section 3, and its code.
    """

    def __init__(
        self,
        world_model: IJEPA,
        *,
        optimizer: MaskedJEPAOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        optimizer = IJEPAOptimizerConfig() if optimizer is None else optimizer
        super().__init__(world_model, optimizer=optimizer, seed=seed, reduction=reduction)

    def errors(self, predicted: Tensor, target: Tensor) -> Tensor:
        """See :meth:`MaskedJEPALoss.errors`."""
        return smooth_l1_loss(predicted, target, reduction="none").mean(-1)

    def _inputs(self, pixels: Tensor, masks: list[Masks]) -> tuple[Tensor, list[Masks]]:
        images = self.world_model.pixels(pixels.flatten(0, 1))
        return images, [Masks(*(index.flatten(0, 1) for index in mask)) for mask in masks]
