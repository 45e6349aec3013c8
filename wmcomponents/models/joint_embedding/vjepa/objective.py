"""What V-JEPA and V-JEPA 2 minimise: the L1 distance of predicted features to those of the encoder's average."""

from torch import Tensor

from wmcomponents.functional.patch_masks import Masks
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPALoss
from wmcomponents.models.joint_embedding.masked_optimizer import MaskedJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.vjepa.config import VJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.vjepa.model import VJEPA


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

    def images(self, pixels: Tensor) -> Tensor:
        """Clips ``[B, T, H, W, C]`` as the encoder reads them, ``[B, C, T, H, W]``.

        Raises:
            ValueError: if they are of another size, number of frames or of channels.
        """
        return self.checked(self.world_model.pixels(pixels).transpose(1, 2))

    def _inputs(self, pixels: Tensor, masks: list[Masks]) -> tuple[Tensor, list[Masks]]:
        return self.images(pixels), [Masks(*(index[:, 0] for index in mask)) for mask in masks]
