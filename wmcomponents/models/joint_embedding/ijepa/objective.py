"""What I-JEPA minimises: the smooth L1 distance of predicted features to those of the encoder's average."""

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from wmcomponents.functional.patch_masks import Masks
from wmcomponents.models.joint_embedding.ijepa.config import IJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.ijepa.model import IJEPA
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPALoss
from wmcomponents.models.joint_embedding.masked_optimizer import MaskedJEPAOptimizerConfig


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
        return self.images(pixels), [Masks(*(index.flatten(0, 1) for index in mask)) for mask in masks]
