"""The frozen encoder of a world of features: one of ours by its sizes, or somebody else's that no folder holds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from wmcomponents.component import Component
from wmcomponents.encoders import FrozenEncoder, ViTEncoder, patch_tokens, still_clip, vit_patches
from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.joint_embedding.brought import Brought, signature
from wmcomponents.models.joint_embedding.masked import MaskedModel
from wmcomponents.nn import (
    DINOV2_GIANT,
    FixedGridPositions,
    NormalizePixels,
    VisionTransformer,
    ViTSize,
    dinov2_vit,
    ijepa_vit,
    mae_vit,
    timm_vit,
    vjepa2_vit,
    vjepa_vit,
)
from wmcomponents.pretrained import unlike_weights

Layout = Literal["timm", "dinov2", "mae", "ijepa", "vjepa", "vjepa2", "given"]


@dataclass(frozen=True)
class FrozenEncoderConfig:
    """Which encoder is frozen in a world of features; the defaults are DINO-WM's, DINOv2 of the small size.

    Attributes:
        layout: whose vision transformer it is, as :func:`wmcomponents.models.official.load_official_vit` names them; or
            ``"given"``, one that is handed to the model, and again when it is loaded: its folder does not hold it.
        dim: size of a patch's features.
        depth: number of blocks.
        heads: number of attention heads.
        hidden: width of the feed-forward.
        patch: (height, width), or (time, height, width) of a tubelet: each image is then a clip of itself.
        registers: further tokens of DINOv2.
        positions: (height, width) of the images, or (time, height, width) of the clips, whose positions it has.
        size: (height, width) to which images are resized; empty where they keep theirs.
        mean: of each channel, for pixels from 0 to 1; a single one is that of all.
        std: of each channel; likewise.
        layer_norm: whether features pass a layer norm without weights.
        patches: how many patches of an image one that is given makes; not used for the others.
    """

    layout: Layout = "dinov2"
    dim: int = 384
    depth: int = 12
    heads: int = 6
    hidden: int = 1536
    patch: tuple[int, ...] = (14, 14)
    registers: int = 0
    positions: tuple[int, ...] = (518, 518)
    size: tuple[int, ...] = (196, 196)
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    layer_norm: bool = False
    patches: int = 0

    @property
    def is_given(self) -> bool:
        """Whether it is handed to the model."""
        return self.layout == "given"

    def grid(self, image_size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of patches.

        Args:
            image_size: (height, width) of the environment's images.

        Raises:
            ValueError: if patches do not fill the image, or those of one that is given are in no known rows.
        """
        if not self.is_given:
            rows, columns = patch_grid(self.size or image_size, self.patch[-2:])
            return rows, columns
        height, width = image_size
        rows = math.isqrt(self.patches * height // width)
        if rows < 1 or rows * (self.patches // rows) != self.patches:
            raise ValueError(
                f"{self.patches} patches are in no known rows and columns of an image {height} x {width}: leave the "
                f"decoder out (decoder.channels=0)."
            )
        return rows, self.patches // rows

    def count(self, image_size: Sequence[int]) -> int:
        """How many patches an image ``(height, width)`` has.

        Raises:
            ValueError: if patches do not fill it.
        """
        return self.patches if self.is_given else math.prod(self.grid(image_size))


def settled_encoder(
    config: FrozenEncoderConfig, given: Component | MaskedModel | VisionTransformer | None, image_shape: Sequence[int]
) -> tuple[FrozenEncoderConfig, FrozenEncoder | Brought]:
    """The encoder of a world of features, and the config from which it is built again.

    Args:
        config: of the encoder.
        given: what is handed to the model: a vision transformer of ours, alone (it reads pixels as the config says) or
            in a :class:`wmcomponents.encoders.ViTEncoder` or :class:`wmcomponents.encoders.FrozenEncoder`, or a masked
            model, whose weights are copied and saved with the model; or any other in a ``FrozenEncoder``, which is
            taken as it is, and is to be handed over again when the model is loaded.
        image_shape: (H, W, C) of the environment's images.

    Raises:
        ValueError: if none is given where the config says so, it gives no patches, or sizes do not fit each other.
        TypeError: if it is no encoder.
    """
    if isinstance(given, MaskedModel):
        given = given.as_frozen_encoder()
    elif isinstance(given, VisionTransformer):
        given = ViTEncoder(given, pixels=_pixels(config, image_shape[-1]))
    if isinstance(given, ViTEncoder):
        config = described(given)
        built = _taken_over(config, given.network, image_shape)
    elif (ours := _ours(given, image_shape)) is not None:
        config, built = ours
    elif given is None and config.is_given:
        raise ValueError(
            f"the encoder of this model was handed to it, and is not in its folder: give it again, as encoder=, one "
            f"that makes {config.patches} patches of {config.dim} numbers."
        )
    elif given is None:
        built = built_encoder(config, image_shape[-1])
    elif not isinstance(given, Component):
        raise TypeError(
            f"encoder is a FrozenEncoder, a ViTEncoder or a masked model; got a {type(given).__name__}: wrap it, "
            f"FrozenEncoder(backbone, patches=...)."
        )
    elif config.is_given:  # known from before: it need not be asked
        built = Brought(given)
    else:
        patches, dim = signature(given, image_shape).shape
        config, built = FrozenEncoderConfig(layout="given", dim=dim, patches=patches, size=()), Brought(given)
    config.count(image_shape[:2])
    return config, built


def _taken_over(config: FrozenEncoderConfig, network: VisionTransformer, image_shape: Sequence[int]) -> FrozenEncoder:
    """The encoder of a config with a copy of a network's weights."""
    built = built_encoder(config, image_shape[-1])
    built.backbone.load_state_dict(network.state_dict())
    return built


def _ours(given: Any, image_shape: Sequence[int]) -> tuple[FrozenEncoderConfig, FrozenEncoder] | None:
    """A frozen encoder around a vision transformer of ours as one that can be built again; nothing if it is none."""
    if not isinstance(given, FrozenEncoder) or not isinstance(given.backbone, VisionTransformer):
        return None
    try:
        config = replace(described(ViTEncoder(given.backbone, pixels=given.pixels)), layer_norm=given.layer_norm)
    except ValueError:  # of no known layout
        return None
    built = _taken_over(config, given.backbone, image_shape)
    theirs, now = signature(given, image_shape), signature(built, image_shape)
    # It may be asked for its patches in a way of the user's.
    return (config, built) if theirs.shape == now.shape and torch.allclose(theirs, now, rtol=1e-3, atol=1e-4) else None


def built_encoder(config: FrozenEncoderConfig, channels: int) -> FrozenEncoder:
    """The encoder of a config with fresh weights, which stay as they are.

    Args:
        config: of a layout.
        channels: of the images.

    Raises:
        ValueError: if its sizes do not fit each other.
    """
    c, size = config, ViTSize(config.dim, config.depth, config.heads, config.hidden)
    axes = 3 if c.layout.startswith("vjepa") else 2
    if len(c.patch) != axes or (axes == 2 and c.patch[0] != c.patch[-1]):
        what = "(time, height, width)" if axes == 3 else "(height, width), a square"
        raise ValueError(f"a patch of the layout {c.layout!r} is {what}; got {c.patch}.")
    side, at = c.patch[-1], c.positions
    builders: dict[str, Callable[[], VisionTransformer]] = {
        "timm": lambda: timm_vit(size, at, side, channels),
        "dinov2": lambda: dinov2_vit(size, at, side, channels, c.registers),
        "mae": lambda: mae_vit(size, at, side, channels),
        "ijepa": lambda: ijepa_vit(size, at, side, channels),
        "vjepa": lambda: vjepa_vit(size, at, c.patch, channels),
        "vjepa2": lambda: vjepa2_vit(size, c.patch, channels),
    }
    network = builders[c.layout]().requires_grad_(False)
    patches = vit_patches if axes == 2 else still_clip(c.patch[0])
    return FrozenEncoder(network, patches=patches, pixels=_pixels(c, channels), layer_norm=c.layer_norm)


def described(encoder: ViTEncoder) -> FrozenEncoderConfig:
    """The config of an encoder that is a vision transformer of ours, such as one of a masked model (``as_encoder()``).

    Args:
        encoder: writes all patches.

    Raises:
        ValueError: if it writes no patches, or is none that :func:`built_encoder` builds.
    """
    net, pixels = encoder.network, encoder.pixels
    if encoder.read is not patch_tokens:
        raise ValueError("a world of features reads patches: build the ViTEncoder with read=patch_tokens.")
    block: Any = net.blocks[0]
    heads, patch, positions = block.attention.heads, net.patches.patch, net.positions
    is_gated = not isinstance(block.mlp, nn.Sequential)
    hidden = DINOV2_GIANT.hidden if is_gated else block.mlp[0].out_features
    if positions is None:
        layout: Layout = "vjepa2"
    elif len(patch) == 3:
        layout = "vjepa"
    elif isinstance(positions, FixedGridPositions):
        layout = "ijepa" if net.class_token is None else "mae"
    else:
        layout = "timm" if isinstance(block.scale1, nn.Identity) else "dinov2"
    config = FrozenEncoderConfig(
        layout=layout,
        dim=net.dim,
        depth=len(net.blocks),
        heads=heads,
        hidden=hidden,
        patch=tuple(patch),
        registers=0 if net.registers is None else len(net.registers),
        positions=() if positions is None else tuple(n * p for n, p in zip(positions.grid, patch, strict=True)),
        size=() if pixels.size is None else tuple(pixels.size),
        mean=tuple(round(float(value) / 255.0, 6) for value in pixels.mean.flatten()),
        std=tuple(round(float(value) / 255.0, 6) for value in pixels.std.flatten()),
    )
    with torch.device("meta"):
        like = built_encoder(config, net.patches.channels).backbone.state_dict()
    fault = unlike_weights(net.state_dict(), like)
    if fault:
        raise ValueError(
            f"this vision transformer is of none of the known layouts ({fault}): hand it over as a FrozenEncoder, and "
            f"again when the model is loaded."
        )
    return config


def _pixels(config: FrozenEncoderConfig, channels: int) -> NormalizePixels:
    mean, std = (values * channels if len(values) == 1 else values for values in (config.mean, config.std))
    return NormalizePixels(mean, std, config.size or None)
