"""I-JEPA: features of hidden blocks of an image."""

from collections.abc import Sequence
from typing import Any

from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPA
from wmcomponents.nn import MaskedPredictor, ViTBlock, ViTSize, column_first_positions, ijepa_vit, vit_init_
from wmcomponents.nn.vit.block import rescale_residuals_


class IJEPA(MaskedJEPA):
    """The image-based joint-embedding predictive architecture (Assran et al., 2023).

    Example:
        >>> import torch
        >>> from wmcomponents.functional import MultiBlockMasks
        >>> model = IJEPA.of_size(ViTSize(16, 1, 2, 32), (48, 48), patch=8, predictor=ViTSize(8, 1, 2, 16))
        >>> masks = MultiBlockMasks((6, 6), least=2).draw(3, torch.Generator(), torch.Generator())
        >>> model.predictions(torch.zeros(3, 3, 48, 48), masks).shape == (*masks.target.shape, 16)
        True
    """

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
        return cls(ijepa_vit(size, image_size, patch, channels), net, image_size, channels=channels, **options)
