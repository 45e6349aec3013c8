"""I-JEPA: features of hidden blocks of an image."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchrl.data import TensorSpec

from wmcomponents.functional.patch_masks import MultiBlockMasks, PatchMasks
from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.joint_embedding.ijepa.config import IJEPAConfig, IJEPALossConfig
from wmcomponents.models.joint_embedding.masked import shown_image
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPA
from wmcomponents.nn import MaskedPredictor, ViTBlock, ViTSize, column_first_positions, ijepa_vit, vit_init_
from wmcomponents.nn.vit.block import rescale_residuals_


class IJEPA(MaskedJEPA):
    """The image-based joint-embedding predictive architecture (Assran et al., 2023).

    :meth:`from_config` makes one for an environment or data.

    Example:
        >>> import torch
        >>> from wmcomponents.functional import MultiBlockMasks
        >>> model = IJEPA.of_size(ViTSize(16, 1, 2, 32), (48, 48), patch=8, predictor=ViTSize(8, 1, 2, 16))
        >>> masks = MultiBlockMasks((6, 6), least=2).draw(3, torch.Generator(), torch.Generator())
        >>> model.predictions(torch.zeros(3, 3, 48, 48), masks).shape == (*masks.target.shape, 16)
        True
    """

    config_class = IJEPAConfig
    config: IJEPAConfig | None

    @classmethod
    def from_config(cls, config: IJEPAConfig | str, observation_spec: TensorSpec) -> "IJEPA":
        """A fresh one for what an environment or data show; it can be saved.

        Args:
            config: its sizes; or a preset's name.
            observation_spec: of one observation, in which there is one image.

        Raises:
            TypeError, ValueError: if there is no such preset, there is not one image, or patches do not fill it.
        """
        made = cls.config_from(config)
        n, shown = made.network, shown_image(cls.__name__, observation_spec, made.network.image_size)
        return cls.of_size(n.encoder.size, patch=n.patch, predictor=n.predictor.size, config=made, **shown)

    @classmethod
    def of_size(
        cls,
        size: ViTSize,
        image_size: Sequence[int] = (224, 224),
        *,
        patch: int = 14,
        channels: int = 3,
        predictor: ViTSize | None = None,
        **options: Any,
    ) -> "IJEPA":
        """A fresh one.

        Args:
            size: of the encoder; huge in the paper.
            image_size: (height, width).
            patch: side of a patch.
            channels: of the images.
            predictor: its size; 12 blocks of 384 with the encoder's heads if not given.
            **options: of :class:`MaskedModel`.

        Raises:
            ValueError: if patches do not fill the image, or a width is no multiple of 4.
        """
        small = ViTSize(384, 12, size.heads, 1536) if predictor is None else predictor
        grid = patch_grid(image_size, (patch, patch))
        blocks = [ViTBlock(small.dim, small.heads, small.hidden) for _ in range(small.depth)]
        net = MaskedPredictor(size.dim, small.dim, blocks, grid, column_first_positions(grid, small.dim), std=0.02)
        net.apply(vit_init_)
        rescale_residuals_(net.blocks)
        if "pixels" not in options:  # which no config can tell
            options = {"config": IJEPAConfig.of_sizes(size, small, patch), **options}
        return cls(ijepa_vit(size, image_size, patch, channels), net, image_size, channels=channels, **options)

    def masks(self) -> list[PatchMasks]:
        """Blocks; the paper's if no config says otherwise."""
        c = IJEPALossConfig() if self.config is None else self.config.loss
        return [MultiBlockMasks(self.grid, c.targets, c.target_scale, c.context_scale, c.aspect, c.least)]

    def objective(self) -> nn.Module:
        """The paper's loss for this model, with the numbers of its config."""
        from wmcomponents.models.joint_embedding.ijepa.objective import IJEPALoss  # which imports this module

        return IJEPALoss(self, optimizer=None if self.config is None else self.config.optimizer)
