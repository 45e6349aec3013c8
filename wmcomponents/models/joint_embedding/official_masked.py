"""Published models of masked pretraining, encoder and predictor: MAE, I-JEPA, V-JEPA, V-JEPA 2."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.joint_embedding.ijepa.config import IJEPAConfig
from wmcomponents.models.joint_embedding.ijepa.model import IJEPA
from wmcomponents.models.joint_embedding.mae.config import MAEConfig
from wmcomponents.models.joint_embedding.mae.model import MAE, MAEDecoder
from wmcomponents.models.joint_embedding.official_vit import bare, block_rules, squeezed, vit_from_official
from wmcomponents.models.joint_embedding.vjepa.config import VJEPAConfig
from wmcomponents.models.joint_embedding.vjepa.model import VJEPA
from wmcomponents.nn import MaskedPredictor, TiledAxialRoPE, VisionTransformer, ViTBlock, ViTSize
from wmcomponents.pretrained import BadModelError, Rule, count_of, load_mapped, section, shape_of

PREDICTOR_RULES = (
    Rule(r"predictor_embed\.(.+)", r"embed.\1"),
    Rule(r"predictor_pos_embed", "table", squeezed),
    Rule(r"mask_tokens", "mask_tokens"),
    *block_rules(r"predictor_blocks\."),
    Rule(r"predictor_norm\.(.+)", r"norm.\1"),
    Rule(r"predictor_proj\.(.+)", r"out.\1"),
)
"""From official keys, as :func:`predictor_weights` gives them, to ours."""

ROTARY_PREDICTOR_RULES = (Rule(r"predictor_pos_embed", None), *PREDICTOR_RULES)
"""The same for V-JEPA 2, whose files still hold a table that nothing reads."""

DECODER_RULES = (
    Rule(r"decoder_embed\.(.+)", r"embed.\1"),
    Rule(r"mask_token", "mask_token", squeezed),
    Rule(r"decoder_pos_embed", "positions.table", squeezed),
    *block_rules(r"decoder_blocks\."),
    Rule(r"decoder_norm\.(.+)", r"norm.\1"),
    Rule(r"decoder_pred\.(.+)", r"out.\1"),
    # The encoder's.
    Rule(r"(cls_token|pos_embed|(patch_embed|blocks|norm)\..+)", None),
)
"""Of MAE's decoder, in a file that holds the encoder too."""


def predictor_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights without the prefixes of wrappers, their mask tokens ``[1, 1, D]`` as one ``[n, D]``.

    Args:
        weights: of I-JEPA, which has one ``mask_token``, or V-JEPA, which has ``mask_tokens.0`` and so on.

    Raises:
        BadModelError: if there is no mask token, or they have other shapes.
    """
    plain = bare(weights)
    found = {key: plain.pop(key) for key in list(plain) if re.fullmatch(r"mask_token(s\.\d+)?", key)}
    tokens = [found[key] for key in sorted(found, key=lambda key: (len(key), key))]  # token 10 behind token 9
    if not tokens or not all(isinstance(token, Tensor) and token.shape == tokens[0].shape for token in tokens):
        raise BadModelError("the checkpoint has no mask tokens of one shape: it is of no masked predictor.")
    return {**plain, "mask_tokens": torch.cat([token.reshape(1, -1) for token in tokens])}


def mae_from_official(checkpoint: Mapping[str, Any], *, heads: int | None = None, decoder_heads: int = 16) -> MAE:
    """A MAE with the weights of facebookresearch/mae, encoder and decoder.

    Args:
        checkpoint: nested mappings of tensors, as :func:`wmcomponents.models.official.read_checkpoint` gives them.
        heads: of the encoder; that of the published size if not given.
        decoder_heads: of the decoder.

    Raises:
        BadModelError: if keys or shapes are others.
    """
    weights = bare(section(checkpoint, "model", optional=True))
    encoder = vit_from_official("mae", checkpoint, heads=heads)
    assert encoder.positions is not None
    grid, patch = encoder.positions.grid, encoder.patches.patch[0]
    size = blocks_size(weights, "decoder_blocks", "decoder_norm", decoder_heads)
    out = shape_of(weights, "decoder_pred.weight", 2, "MAE")[0]
    decoder = load_mapped(MAEDecoder(encoder.dim, size, grid, out), weights, DECODER_RULES)
    image_size = [side * patch for side in grid]
    config = MAEConfig.of_sizes(_size_of(encoder), size, patch)
    return MAE(encoder, decoder, image_size, channels=encoder.patches.channels, config=config)


def ijepa_from_official(
    checkpoint: Mapping[str, Any],
    *,
    part: str = "encoder",
    heads: int | None = None,
    predictor_heads: int | None = None,
) -> IJEPA:
    """An I-JEPA with the weights of facebookresearch/ijepa, encoder and predictor.

    Args:
        checkpoint: nested mappings of tensors, as :func:`wmcomponents.models.official.read_checkpoint` gives them.
        part: "encoder", or its average, "target_encoder".
        heads: of the encoder; that of the published size if not given.
        predictor_heads: of the predictor; the encoder's if not given.

    Raises:
        BadModelError: if keys or shapes are others.
    """
    encoder = vit_from_official("ijepa", checkpoint, part=part, heads=heads)
    assert encoder.positions is not None
    grid = encoder.positions.grid
    predictor, small = _predictor(checkpoint, encoder.dim, grid, predictor_heads or _heads_of(encoder), rotates=False)
    sides = [places * patch for places, patch in zip(grid, encoder.patches.patch, strict=True)]
    config = IJEPAConfig.of_sizes(_size_of(encoder), small, encoder.patches.patch[0])
    return IJEPA(encoder, predictor, sides, channels=encoder.patches.channels, config=config)


def vjepa_from_official(
    checkpoint: Mapping[str, Any],
    *,
    part: str = "encoder",
    frames: int = 16,
    heads: int | None = None,
    predictor_heads: int | None = None,
) -> VJEPA:
    """A V-JEPA with the weights of facebookresearch/jepa, encoder and predictor.

    Args:
        checkpoint: nested mappings of tensors, as :func:`wmcomponents.models.official.read_checkpoint` gives them.
        part: "encoder", or its average, "target_encoder".
        frames: of the clips on which positions were made.
        heads: of the encoder; that of the published size if not given.
        predictor_heads: of the predictor; the encoder's if not given.

    Raises:
        BadModelError: if keys or shapes are others.
    """
    encoder = vit_from_official("vjepa", checkpoint, part=part, heads=heads, frames=frames)
    assert encoder.positions is not None
    grid = encoder.positions.grid
    predictor, small = _predictor(checkpoint, encoder.dim, grid, predictor_heads or _heads_of(encoder), rotates=False)
    sides = [places * patch for places, patch in zip(grid[1:], encoder.patches.patch[1:], strict=True)]
    tokens = len(predictor.mask_tokens)
    config = VJEPAConfig.of_sizes(_size_of(encoder), small, encoder.patches.patch, frames, "fixed", tokens)
    return VJEPA(encoder, predictor, sides, channels=encoder.patches.channels, config=config)


def vjepa2_from_official(
    checkpoint: Mapping[str, Any],
    *,
    part: str = "encoder",
    clip_size: Sequence[int] = (16, 256, 256),
    heads: int | None = None,
    predictor_heads: int = 12,
) -> VJEPA:
    """A V-JEPA 2 with the weights of facebookresearch/vjepa2, encoder and predictor.

    Args:
        checkpoint: nested mappings of tensors, as :func:`wmcomponents.models.official.read_checkpoint` gives them.
        part: "encoder", or its average, "target_encoder".
        clip_size: (frames, height, width) on which the predictor tells places.
        heads: of the encoder; that of the published size if not given.
        predictor_heads: of the predictor.

    Raises:
        BadModelError: if keys or shapes are others.
    """
    encoder = vit_from_official("vjepa2", checkpoint, part=part, heads=heads)
    grid = patch_grid(clip_size, encoder.patches.patch)
    predictor, small = _predictor(checkpoint, encoder.dim, grid, predictor_heads, rotates=True)
    tokens = len(predictor.mask_tokens)
    config = VJEPAConfig.of_sizes(_size_of(encoder), small, encoder.patches.patch, clip_size[0], "rotary", tokens)
    return VJEPA(encoder, predictor, clip_size[1:], channels=encoder.patches.channels, config=config)


def _predictor(
    checkpoint: Mapping[str, Any], dim: int, grid: Sequence[int], heads: int, *, rotates: bool
) -> tuple[MaskedPredictor, ViTSize]:
    weights = predictor_weights(section(checkpoint, "predictor"))
    size = blocks_size(weights, "predictor_blocks", "predictor_norm", heads)
    rope = TiledAxialRoPE(size.dim // heads) if rotates else None
    blocks = [ViTBlock(size.dim, heads, size.hidden, rope=rope) for _ in range(size.depth)]
    table = None if rotates else torch.zeros(math.prod(grid), size.dim)
    net = MaskedPredictor(dim, size.dim, blocks, grid, table, mask_tokens=len(weights["mask_tokens"]))
    return load_mapped(net, weights, ROTARY_PREDICTOR_RULES if rotates else PREDICTOR_RULES), size


def blocks_size(weights: Mapping[str, Any], blocks: str, norm: str, heads: int) -> ViTSize:
    """The size that the shapes of a predictor's weights tell.

    Args:
        weights: without the prefixes of wrappers.
        blocks: name of its blocks.
        norm: name of its last layer norm.
        heads: number of attention heads, which weights do not tell.

    Raises:
        BadModelError: if weights are missing, or the heads do not divide the width.
    """
    family = "predictor"
    width = shape_of(weights, f"{norm}.weight", 1, family)[0]
    hidden = shape_of(weights, f"{blocks}.0.mlp.fc1.weight", 2, family)[0]
    if width % heads:
        raise BadModelError(f"{heads} heads do not divide a width of {width}: give their number.")
    return ViTSize(width, count_of(weights, rf"{blocks}\.(\d+)\..+", family), heads, hidden)


def _heads_of(encoder: VisionTransformer) -> int:
    return cast(ViTBlock, encoder.blocks[0]).attention.heads


def _size_of(encoder: VisionTransformer) -> ViTSize:
    block = cast(ViTBlock, encoder.blocks[0])
    hidden = cast(nn.Linear, cast(nn.Sequential, block.mlp)[0]).out_features
    return ViTSize(encoder.dim, len(encoder.blocks), block.attention.heads, hidden)
