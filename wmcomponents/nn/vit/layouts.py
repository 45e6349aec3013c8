"""The vision transformers of the papers: their sizes, and how each puts the parts together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from wmcomponents.functional.patches import patch_grid, sincos_grid
from wmcomponents.nn.attention.axial_rope import TiledAxialRoPE
from wmcomponents.nn.attention.feed_forward import SwiGLU
from wmcomponents.nn.vit.block import ViTBlock, rescale_residuals_, vit_init_
from wmcomponents.nn.vit.grid_positions import FixedGridPositions, LearnedGridPositions
from wmcomponents.nn.vit.patch_embedding import PatchEmbedding
from wmcomponents.nn.vit.transformer import VisionTransformer


class ViTSize(NamedTuple):
    """How large a vision transformer is.

    Attributes:
        dim: size of a token.
        depth: number of blocks.
        heads: number of attention heads.
        hidden: width of the feed-forward.
    """

    dim: int
    depth: int
    heads: int
    hidden: int

    @classmethod
    def named(cls, name: str) -> "ViTSize":
        """A size of the papers: tiny, small, base, large, huge, giant, giant-22 or gigantic.

        "giant-22" is the giant of V-JEPA 2, with 22 heads; DINOv2's giant is :data:`DINOV2_GIANT`.

        Raises:
            ValueError: for another name.

        Reference: Dosovitskiy et al., ViT (2021), Table 1; Touvron et al., DeiT (2021); Zhai et al., Scaling Vision
        Transformers (2022), Table 2.
        """
        if name not in SIZES:
            raise ValueError(f"the sizes known here are {', '.join(SIZES)}; got {name!r}.")
        return SIZES[name]


SIZES = {
    "tiny": ViTSize(192, 12, 3, 768),
    "small": ViTSize(384, 12, 6, 1536),
    "base": ViTSize(768, 12, 12, 3072),
    "large": ViTSize(1024, 24, 16, 4096),
    "huge": ViTSize(1280, 32, 16, 5120),
    "giant": ViTSize(1408, 40, 16, 6144),
    "giant-22": ViTSize(1408, 40, 22, 6144),
    "gigantic": ViTSize(1664, 48, 16, 8192),
}
"""By name."""

DINOV2_GIANT = ViTSize(1536, 40, 24, 6144)
"""DINOv2's giant, whose feed-forward is a SwiGLU."""


def timm_vit(size: ViTSize, image_size: Sequence[int], patch: int = 16, channels: int = 3) -> VisionTransformer:
    """The ViT of timm and of its paper: class token, learned positions.

    Args:
        size: how large; ``ViTSize.named("base")``.
        image_size: (height, width) of its positions; others are interpolated.
        patch: side of a patch.
        channels: of the image.

    Raises:
        ValueError: if patches do not fill the image.

    Reference: Dosovitskiy et al., ViT (2021).
    """
    grid = patch_grid(image_size, (patch, patch))
    positions = LearnedGridPositions(grid, size.dim, prefix=1, antialias=True)
    return _put_together(size, (patch, patch), channels, positions, class_token=True)


def dinov2_vit(
    size: ViTSize, image_size: Sequence[int] = (518, 518), patch: int = 14, channels: int = 3, registers: int = 0
) -> VisionTransformer:
    """DINOv2: class token, learned positions, LayerScale; SwiGLU if it is :data:`DINOV2_GIANT`.

    Args:
        size: how large.
        image_size: (height, width) of its positions; others are interpolated.
        patch: side of a patch.
        channels: of the image.
        registers: further tokens; 4 in the models that have them, which interpolate positions otherwise.

    Raises:
        ValueError: if patches do not fill the image.

    Reference: Oquab et al., DINOv2 (2023); Darcet et al., Vision Transformers Need Registers (2024).
    """
    grid = patch_grid(image_size, (patch, patch))
    positions = LearnedGridPositions(
        grid, size.dim, prefix=1, antialias=registers > 0, offset=0.0 if registers else 0.1
    )
    block: dict[str, Any] = {"layer_scale": 1.0, "feed_forward": SwiGLU if size == DINOV2_GIANT else None}
    return _put_together(size, (patch, patch), channels, positions, block, class_token=True, registers=registers)


def mae_vit(
    size: ViTSize, image_size: Sequence[int] = (224, 224), patch: int = 16, channels: int = 3
) -> VisionTransformer:
    """MAE's encoder: class token, fixed sines and cosines with the column first, none for the class token.

    Args:
        size: how large.
        image_size: (height, width) of its positions.
        patch: side of a patch.
        channels: of the image.

    Raises:
        ValueError: if patches do not fill the image, or the size is no multiple of 4.

    Reference: He et al., Masked Autoencoders Are Scalable Vision Learners (2022).
    """
    grid = patch_grid(image_size, (patch, patch))
    positions = FixedGridPositions(column_first_positions(grid, size.dim), grid, prefix=1)
    net = _put_together(size, (patch, patch), channels, positions, class_token=True)
    net.apply(xavier_init_)
    return net


def ijepa_vit(
    size: ViTSize, image_size: Sequence[int] = (224, 224), patch: int = 14, channels: int = 3
) -> VisionTransformer:
    """I-JEPA's encoder: no class token, fixed sines and cosines with the column first.

    Args:
        size: how large; huge in the paper.
        image_size: (height, width) of its positions.
        patch: side of a patch.
        channels: of the image.

    Raises:
        ValueError: if patches do not fill the image, or the size is no multiple of 4.

    Reference: Assran et al., I-JEPA (2023).
    """
    grid = patch_grid(image_size, (patch, patch))
    positions = FixedGridPositions(column_first_positions(grid, size.dim), grid)
    return _rescaled(_put_together(size, (patch, patch), channels, positions))


def vjepa_vit(
    size: ViTSize,
    clip_size: Sequence[int] = (16, 224, 224),
    patch: Sequence[int] = (2, 16, 16),
    channels: int = 3,
) -> VisionTransformer:
    """V-JEPA's encoder: tubelets, fixed sines and cosines of time, row and column.

    Args:
        size: how large; large or huge in the paper.
        clip_size: (frames, height, width) of its positions.
        patch: (frames, height, width) of a tubelet.
        channels: of the clip.

    Raises:
        ValueError: if tubelets do not fill the clip.

    Reference: Bardes et al., V-JEPA (2024).
    """
    grid = patch_grid(clip_size, patch)
    positions = FixedGridPositions(clip_positions(grid, size.dim), grid)
    return _rescaled(_put_together(size, patch, channels, positions))


def vjepa2_vit(size: ViTSize, patch: Sequence[int] = (2, 16, 16), channels: int = 3) -> VisionTransformer:
    """V-JEPA 2's encoder: tubelets, rotary positions in every block; clips of any size.

    Args:
        size: how large; large, huge or giant-22 in the paper.
        patch: (frames, height, width) of a tubelet.
        channels: of the clip.

    Raises:
        ValueError: if a head has too few channels for three axes.

    Reference: Assran et al., V-JEPA 2 (2025).
    """
    rope = TiledAxialRoPE(size.dim // size.heads)
    return _rescaled(_put_together(size, patch, channels, None, {"rope": rope}))


@torch.no_grad()
def xavier_init_(module: nn.Module) -> None:
    """Uniform weights of linear and patch maps by their fans, biases 0; for ``Module.apply``. MAE begins so."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def column_first_positions(grid: Sequence[int], dim: int) -> torch.Tensor:
    """Fixed positions of MAE and I-JEPA, ``[N, dim]``: half of the channels the column's, then half the row's.

    Raises:
        ValueError: if ``dim`` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"sines and cosines of two axes take a multiple of 4 channels; got {dim}.")
    return sincos_grid(grid, (dim // 2, dim // 2), order=(1, 0))


def clip_positions(grid: Sequence[int], dim: int) -> torch.Tensor:
    """Fixed positions of V-JEPA, ``[N, dim]``: as many channels for time, row and column, cut off at ``dim``."""
    share = 2 * -(-dim // 6)
    return sincos_grid(grid, (share, share, share))[:, :dim]


def _put_together(
    size: ViTSize,
    patch: Sequence[int],
    channels: int,
    positions: LearnedGridPositions | FixedGridPositions | None,
    block: dict[str, Any] | None = None,
    **tokens: Any,
) -> VisionTransformer:
    blocks = [ViTBlock(size.dim, size.heads, size.hidden, **(block or {})) for _ in range(size.depth)]
    net = VisionTransformer(PatchEmbedding(channels, size.dim, patch), blocks, positions, **tokens)
    net.apply(vit_init_)
    return net


def _rescaled(net: VisionTransformer) -> VisionTransformer:
    rescale_residuals_(net.blocks)
    return net
