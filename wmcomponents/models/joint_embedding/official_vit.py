"""Where the weights of published vision transformers go: timm, DINOv2, MAE, I-JEPA, V-JEPA, V-JEPA 2."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from wmcomponents.nn import (
    DINOV2_GIANT,
    VisionTransformer,
    ViTSize,
    dinov2_vit,
    ijepa_vit,
    mae_vit,
    timm_vit,
    vjepa2_vit,
    vjepa_vit,
)
from wmcomponents.nn.vit.layouts import SIZES
from wmcomponents.pretrained import BadModelError, Rule, count_of, load_mapped, section, shape_of

FAMILY = "vision transformer"
LAYOUTS = ("timm", "dinov2", "mae", "ijepa", "vjepa", "vjepa2")
"""Whose checkpoints are known."""


def block_rules(source: str = r"blocks\.", target: str = "blocks.") -> tuple[Rule, ...]:
    """Rules for blocks of timm's names, which DINOv2, MAE, I-JEPA, V-JEPA, V-JEPA 2 and jepa-wms share.

    Args:
        source: regular expression of what stands before a block's number.
        target: what stands there in our keys.
    """
    at, to = rf"{source}(\d+)\.", rf"{target}\1."
    return (
        Rule(rf"{at}norm(\d)\.(.+)", rf"{to}norm\2.\3"),
        Rule(rf"{at}attn\.(qkv|proj|q_norm|k_norm)\.(.+)", rf"{to}attention.\2.\3"),
        Rule(rf"{at}ls(\d)\.gamma", rf"{to}scale\2.gamma"),
        Rule(rf"{at}mlp\.fc1\.(.+)", rf"{to}mlp.0.\2"),
        Rule(rf"{at}mlp\.fc2\.(.+)", rf"{to}mlp.3.\2"),
        Rule(rf"{at}mlp\.(w12|w3)\.(.+)", rf"{to}mlp.\2.\3"),
    )


def squeezed(value: Tensor) -> Tensor:
    """``[1, N, D]``, as tables and tokens are kept there, as ``[N, D]``."""
    return value.squeeze(0)


VIT_RULES = (
    Rule(r"patch_embed\.proj\.(.+)", r"patches.proj.\1"),
    Rule(r"pos_embed", "positions.table", squeezed),
    Rule(r"cls_token", "class_token", squeezed),
    Rule(r"(?:register_tokens|reg_token)", "registers", squeezed),
    *block_rules(),
    Rule(r"norm\.(.+)", r"norm.\1"),
    # DINOv2's token for masked patches, MAE's decoder, timm's classifier.
    Rule(r"mask_token|decoder_.+|head\..+", None),
)
"""From official keys, without the prefixes of wrappers, to ours."""

ROTARY_RULES = (Rule(r"pos_embed", None), *VIT_RULES)
"""The same for V-JEPA 2, whose files still hold a table that nothing reads."""


def bare(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by their keys without ``module.`` and ``backbone.``, which wrappers of I-JEPA and V-JEPA add."""
    return {re.sub(r"^(module\.|backbone\.)+", "", str(key)): value for key, value in weights.items()}


def vit_from_official(
    layout: str,
    checkpoint: Mapping[str, Any],
    *,
    part: str = "target_encoder",
    heads: int | None = None,
    frames: int = 16,
) -> VisionTransformer:
    """A vision transformer with the weights of a published one.

    Args:
        layout: whose, one of :data:`LAYOUTS`.
        checkpoint: nested mappings of tensors, as :func:`wmcomponents.models.official.read_checkpoint` gives them.
        part: I-JEPA's and V-JEPA's files hold "encoder" and its average, "target_encoder", which gives the features.
        heads: number of attention heads; that of the published size of this width and depth if not given.
        frames: of the clips on which V-JEPA's positions were made.

    Raises:
        BadModelError: if the layout is unknown; if keys or shapes are not those of the layout; if the number of heads
            is not known and not given.
    """
    if layout not in LAYOUTS:
        raise BadModelError(f"the layouts known here are {', '.join(LAYOUTS)}; got {layout!r}.")
    outer = {"mae": ("model",), "dinov2": ("teacher",)}.get(layout, () if layout == "timm" else (part,))
    weights = bare(section(checkpoint, *outer, optional=True))
    size = _size(weights, layout, heads)
    _, channels, *patch = shape_of(weights, "patch_embed.proj.weight", 5 if layout.startswith("vjepa") else 4, FAMILY)
    builders: dict[str, Callable[[], VisionTransformer]] = {
        "timm": lambda: timm_vit(size, _square(weights, patch, 1), patch[0], channels),
        "dinov2": lambda: dinov2_vit(size, _square(weights, patch, 1), patch[0], channels, _registers(weights)),
        "mae": lambda: mae_vit(size, _square(weights, patch, 1), patch[0], channels),
        "ijepa": lambda: ijepa_vit(size, _square(weights, patch, 0), patch[0], channels),
        "vjepa": lambda: vjepa_vit(size, _clip(weights, patch, frames), patch, channels),
        "vjepa2": lambda: vjepa2_vit(size, patch, channels),
    }
    return load_mapped(builders[layout](), weights, ROTARY_RULES if layout == "vjepa2" else VIT_RULES)


def _size(weights: Mapping[str, Any], layout: str, heads: int | None) -> ViTSize:
    """Width, depth and feed-forward as the shapes tell, heads as the published model of that size has them."""
    depth = count_of(weights, r"blocks\.(\d+)\..+", FAMILY)
    dim = shape_of(weights, "norm.weight", 1, FAMILY)[0]
    is_gated = "blocks.0.mlp.w12.weight" in weights
    hidden = DINOV2_GIANT.hidden if is_gated else shape_of(weights, "blocks.0.mlp.fc1.weight", 2, FAMILY)[0]
    giant = SIZES["giant-22" if layout == "vjepa2" else "giant"]
    published = [giant, *(size for name, size in SIZES.items() if not name.startswith("giant")), DINOV2_GIANT]
    found = [size.heads for size in published if (size.dim, size.depth) == (dim, depth)]
    if heads is None and not found:
        raise BadModelError(
            f"no published size has a width of {dim} and {depth} blocks, and weights do not tell the number of heads: "
            f"give heads=."
        )
    return ViTSize(dim, depth, found[0] if heads is None else heads, hidden)


def _square(weights: Mapping[str, Any], patch: list[int], prefix: int) -> tuple[int, int]:
    """Height and width of the image whose positions a table has."""
    count = shape_of(weights, "pos_embed", 3, FAMILY)[1] - prefix
    side = math.isqrt(max(0, count))
    if side < 1 or side * side != count or patch[0] != patch[1]:
        raise BadModelError(f"a table of {count} positions of patches {patch} is of no square image.")
    return side * patch[0], side * patch[1]


def _clip(weights: Mapping[str, Any], patch: list[int], frames: int) -> tuple[int, int, int]:
    """Frames, height and width of the clip whose positions a table has."""
    count = shape_of(weights, "pos_embed", 3, FAMILY)[1]
    steps = frames // patch[0]
    side = math.isqrt(count // steps) if steps else 0
    if side < 1 or steps * side * side != count:
        raise BadModelError(
            f"a table of {count} positions of tubelets {patch} is of no square clip of {frames} frames: give frames=."
        )
    return frames, side * patch[1], side * patch[2]


def _registers(weights: Mapping[str, Any]) -> int:
    return shape_of(weights, "register_tokens", 3, FAMILY)[1] if "register_tokens" in weights else 0
