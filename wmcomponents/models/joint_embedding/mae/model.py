"""MAE: an encoder of the patches that are seen, and a decoder of the pixels of those that are not."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchrl.data import TensorSpec

from wmcomponents.functional.patch_masks import PatchMasks, RandomMasks
from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.joint_embedding.mae.config import MAEConfig, MAELossConfig
from wmcomponents.models.joint_embedding.masked import MaskedModel, shown_image
from wmcomponents.nn import (
    FixedGridPositions,
    VisionTransformer,
    ViTBlock,
    ViTSize,
    column_first_positions,
    mae_vit,
)
from wmcomponents.nn.vit.layouts import xavier_init_


class MAEDecoder(nn.Module):
    """Pixels of all patches out of the tokens of some: the others get a learned token, and all their positions.

    Args:
        dim: size of the tokens that come.
        size: of the decoder; its depth, heads and widths.
        grid: rows and columns of patches.
        out_features: numbers of a patch.

    Raises:
        ValueError: if the width is no multiple of 4.

    Reference: He et al., MAE (2022), section 3: 512 wide, 8 blocks, 16 heads.
    """

    def __init__(self, dim: int, size: ViTSize, grid: Sequence[int], out_features: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, size.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, size.dim))
        self.positions = FixedGridPositions(column_first_positions(grid, size.dim), grid, prefix=1)
        self.blocks = nn.ModuleList(ViTBlock(size.dim, size.heads, size.hidden) for _ in range(size.depth))
        self.norm, self.out = nn.LayerNorm(size.dim, 1e-6), nn.Linear(size.dim, out_features)
        self.apply(xavier_init_)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Float[Tensor, "b k1 d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b n p"]:
        """Numbers of every patch, in the order of the grid.

        Args:
            tokens: the class token, then those of the seen patches.
            index: places of the seen patches.
        """
        x = self.embed(tokens)
        before, at = self.positions(self.positions.grid)
        whole = self.mask_token.expand(len(x), len(at), -1)
        whole = whole.scatter(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]), x[:, 1:].to(whole.dtype))
        x = torch.cat([x[:, :1] + before, whole + at], 1)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x[:, 1:]))


class MAE(MaskedModel):
    """A masked autoencoder of images (He et al., 2022). :meth:`from_config` makes one for an environment or data.

    Args:
        encoder: of :func:`wmcomponents.nn.mae_vit`.
        decoder: gives the pixels of all patches.
        image_size: (height, width).
        **options: of :class:`MaskedModel`.

    Example:
        >>> model = MAE.of_size(ViTSize(16, 1, 2, 32), (16, 16), patch=8, decoder=ViTSize(8, 1, 2, 16))
        >>> model(torch.zeros(5, 3, 16, 16), torch.tensor([[2]]).expand(5, 1)).shape
        torch.Size([5, 4, 192])
    """

    config_class = MAEConfig
    config: MAEConfig | None

    def __init__(
        self, encoder: VisionTransformer, decoder: MAEDecoder, image_size: Sequence[int], **options: Any
    ) -> None:
        super().__init__(encoder, image_size, **options)
        self.decoder = decoder

    @classmethod
    def from_config(cls, config: MAEConfig | str, observation_spec: TensorSpec) -> "MAE":
        """A fresh one for what an environment or data show; it can be saved.

        Args:
            config: its sizes; or a preset's name.
            observation_spec: of one observation, in which there is one image.

        Raises:
            TypeError, ValueError: if there is no such preset, there is not one image, or patches do not fill it.
        """
        made = cls.config_from(config)
        n, shown = made.network, shown_image(cls.__name__, observation_spec, made.network.image_size)
        return cls.of_size(n.encoder.size, patch=n.patch, decoder=n.decoder.size, config=made, **shown)

    @classmethod
    def of_size(
        cls,
        size: ViTSize,
        image_size: Sequence[int] = (224, 224),
        *,
        patch: int = 16,
        channels: int = 3,
        decoder: ViTSize | None = None,
        **options: Any,
    ) -> "MAE":
        """A fresh one.

        Args:
            size: of the encoder.
            image_size: (height, width).
            patch: side of a patch.
            channels: of the images.
            decoder: its size; 8 blocks of 512 with 16 heads if not given.
            **options: of :class:`MaskedModel`.

        Raises:
            ValueError: if patches do not fill the image, or a width is no multiple of 4.
        """
        encoder = mae_vit(size, image_size, patch, channels)
        small = ViTSize(512, 8, 16, 2048) if decoder is None else decoder
        beside = MAEDecoder(size.dim, small, patch_grid(image_size, (patch, patch)), patch**2 * channels)
        if "pixels" not in options:  # which no config can tell
            options = {"config": MAEConfig.of_sizes(size, small, patch), **options}
        return cls(encoder, beside, image_size, channels=channels, **options)

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of patches."""
        return self.decoder.positions.grid

    def masks(self) -> list[PatchMasks]:
        """Random patches; three quarters are hidden if no config says otherwise."""
        loss = MAELossConfig() if self.config is None else self.config.loss
        return [RandomMasks(self.grid, loss.ratio)]

    def objective(self) -> nn.Module:
        """The paper's loss for this model, with the numbers of its config."""
        from wmcomponents.models.joint_embedding.mae.objective import MAELoss  # which imports this module

        c = MAEConfig() if self.config is None else self.config
        return MAELoss(self, optimizer=c.optimizer, normalize=c.loss.normalize)

    @property
    def patch(self) -> int:
        """Side of a patch."""
        return self.encoder.patches.patch[0]

    def forward(self, images: Float[Tensor, "b c h w"], context: Int[Tensor, "b k"]) -> Float[Tensor, "b n p"]:
        """Numbers of every patch, as :func:`wmcomponents.functional.patchify` orders them.

        Args:
            images: normalised.
            context: the patches that are seen.
        """
        return self.decoder(self.encoder(images, context), context)
