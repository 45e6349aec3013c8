"""Where the weights of published diffusion transformers go: DiT, NWM's CDiT, Oasis."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wmcomponents.denoisers import CDiT, DiT, DiTSize, SpaceTimeDiT
from wmcomponents.denoisers.dit import SIZES
from wmcomponents.models.joint_embedding.official_vit import block_rules
from wmcomponents.nn import ViTAutoencoder
from wmcomponents.pretrained import BadModelError, Rule, count_of, load_mapped, section, shape_of
from wmcomponents.tokenizers import LatentTokenizer

FAMILY = "diffusion transformer"


def squeezed(value: Tensor) -> Tensor:
    """``[1, N, D]``, or ``[1, 1, D]``, without the dimensions of size 1 in front."""
    while value.ndim > 1 and value.shape[0] == 1:
        value = value[0]
    return value


def _block_rules(source: str, target: str, prefix: str = "") -> tuple[Rule, ...]:
    """Rules for one of DiT's blocks.

    Args:
        source: regular expression of what stands before the names of its layers, with one group.
        target: what stands there in our keys.
        prefix: before each layer's name.
    """
    return (
        Rule(rf"{source}{prefix}attn\.(?:to_)?(qkv|proj)\.(.+)", rf"{target}attention.\2.\3"),
        Rule(rf"{source}{prefix}attn\.to_out\.(.+)", rf"{target}attention.proj.\2"),
        Rule(rf"{source}{prefix}attn\.rotary_emb\.freqs", None),
        Rule(rf"{source}{prefix}mlp\.fc1\.(.+)", rf"{target}mlp.0.\2"),
        Rule(rf"{source}{prefix}mlp\.fc2\.(.+)", rf"{target}mlp.2.\2"),
        Rule(rf"{source}{prefix}adaLN_modulation\.(.+)", rf"{target}modulation.\2"),
    )


_AROUND = (
    Rule(r"x_embedder\.proj\.(.+)", r"patches.proj.\1"),
    Rule(r"t_embedder\.(.+)", r"level.\1"),
    Rule(r"final_layer\.linear\.(.+)", r"out.linear.\1"),
    Rule(r"final_layer\.adaLN_modulation\.(.+)", r"out.modulation.\1"),
)
DIT_RULES = (
    *_AROUND,
    Rule(r"pos_embed", "positions.table", squeezed),
    Rule(r"y_embedder\.embedding_table\.weight", "label.table.weight"),
    *_block_rules(r"blocks\.(\d+)\.", r"blocks.\1."),
)
"""To :class:`wmcomponents.denoisers.DiT`."""

DISPLACEMENT_RULES = (
    Rule(r"x_emb\.(.+)", r"parts.0.\1"),
    Rule(r"y_emb\.(.+)", r"parts.1.\1"),
    Rule(r"angle_emb\.(.+)", r"parts.2.\1"),
)
"""To :class:`wmcomponents.nn.DisplacementEmbedding`."""

CROSS_RULES = (
    Rule(r"(.*)cttn\.in_proj_(weight|bias)", r"\1cross.qkv.\2"),
    Rule(r"(.*)cttn\.out_proj\.(.+)", r"\1cross.proj.\2"),
    Rule(r"(.*)cttn\.bias_k", r"\1cross.key", squeezed),
    Rule(r"(.*)cttn\.bias_v", r"\1cross.value", squeezed),
)
CDIT_RULES = (
    *_AROUND,
    Rule(r"pos_embed", "positions"),
    Rule(r"time_embedder\.(.+)", r"time.\1"),
    *(Rule(rf"y_embedder\.{rule.source}", f"action.{rule.target}") for rule in DISPLACEMENT_RULES),
    *CROSS_RULES,
    *_block_rules(r"blocks\.(\d+)\.", r"blocks.\1."),
)
"""To :class:`wmcomponents.denoisers.CDiT`."""

OASIS_RULES = (
    *_AROUND,
    Rule(r"external_cond\.(.+)", r"action.\1"),
    Rule(r"(spatial|temporal)_rotary_emb\.freqs", None),  # they follow from the sizes
    *_block_rules(r"blocks\.(\d+)\.", r"blocks.\1.space.", "s_"),
    *_block_rules(r"blocks\.(\d+)\.", r"blocks.\1.time.", "t_"),
)
"""To :class:`wmcomponents.denoisers.SpaceTimeDiT`."""


OASIS_LATENT_SCALE = 20.0 / 255.0
"""What Oasis' latents are taken times before its network reads them."""

VIT_AUTOENCODER_RULES = (
    Rule(r"patch_embed\.proj\.(.+)", r"patches.proj.\1"),
    *(rule for half in ("encoder", "decoder") for rule in block_rules(rf"{half}\.", f"{half}.")),
    Rule(r"(enc|dec)_norm\.(.+)", r"\1oder_norm.\2"),
    Rule(r"quant_conv\.(.+)", r"moments.\1"),
    Rule(r"post_quant_conv\.(.+)", r"from_latent.\1"),
    Rule(r"predictor\.(.+)", r"pixels.\1"),
)
"""Of Oasis' ViT-VAE, to :class:`wmcomponents.nn.ViTAutoencoder`."""


def averaged(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The averaged weights of a training's checkpoint, or the weights as they are where it holds nothing else.

    Args:
        checkpoint: as DiT's and NWM's training scripts write it, or bare.
    """
    weights = section(checkpoint, "ema", optional=True)
    return {re.sub(r"^(_orig_mod\.|module\.)+", "", str(key)): value for key, value in weights.items()}


def dit_from_official(checkpoint: Mapping[str, Any], *, heads: int | None = None) -> DiT:
    """DiT with published weights; its size follows from them.

    Args:
        checkpoint: tensors by their official names, in a section "ema" or bare.
        heads: number of attention heads, which weights do not tell; that of the published size if not given.

    Raises:
        BadModelError: if keys or shapes are not DiT's, or the number of heads is not known and not given.
    """
    weights = averaged(checkpoint)
    dim, channels, patch, _ = shape_of(weights, "x_embedder.proj.weight", 4, FAMILY)
    side = patch * _root(shape_of(weights, "pos_embed", 3, FAMILY)[1])
    labels, _ = shape_of(weights, "y_embedder.embedding_table.weight", 2, FAMILY)
    net = DiT(
        (channels, side, side),
        _size(weights, dim, heads),
        labels=labels - 1,
        patch=patch,
        out_channels=shape_of(weights, "final_layer.linear.weight", 2, FAMILY)[0] // patch**2,
        mlp_ratio=shape_of(weights, "blocks.0.mlp.fc1.weight", 2, FAMILY)[0] / dim,
    )
    return load_mapped(net, weights, DIT_RULES)


def cdit_from_official(checkpoint: Mapping[str, Any], *, heads: int | None = None) -> CDiT:
    """NWM's CDiT with published weights; its size follows from them.

    Args:
        checkpoint: tensors by their official names, in a section "ema" or bare.
        heads: number of attention heads, which weights do not tell; that of the published size if not given.

    Raises:
        BadModelError: if keys or shapes are not CDiT's, or the number of heads is not known and not given.
    """
    weights = averaged(checkpoint)
    dim, channels, patch, _ = shape_of(weights, "x_embedder.proj.weight", 4, FAMILY)
    frames, places, _ = shape_of(weights, "pos_embed", 3, FAMILY)
    side = patch * _root(places)
    net = CDiT(
        (channels, side, side),
        _size(weights, dim, heads),
        context=frames - 1,
        patch=patch,
        out_channels=shape_of(weights, "final_layer.linear.weight", 2, FAMILY)[0] // patch**2,
        mlp_ratio=shape_of(weights, "blocks.0.mlp.fc1.weight", 2, FAMILY)[0] / dim,
    )
    return load_mapped(net, weights, CDIT_RULES)


def oasis_dit_from_official(
    checkpoint: Mapping[str, Any], *, latent: tuple[int, int] = (18, 32), frames: int = 32
) -> SpaceTimeDiT:
    """Oasis' network with published weights; its size follows from them.

    Args:
        checkpoint: tensors by their official names.
        latent: height and width of the latent, which weights do not tell.
        frames: most frames.

    Raises:
        BadModelError: if keys or shapes are not those of Oasis.
    """
    weights = dict(checkpoint)
    dim, channels, patch, _ = shape_of(weights, "x_embedder.proj.weight", 4, FAMILY)
    pairs = shape_of(weights, "temporal_rotary_emb.freqs", 1, FAMILY)[0]
    net = SpaceTimeDiT(
        (channels, *latent),
        shape_of(weights, "external_cond.weight", 2, FAMILY)[1] if "external_cond.weight" in weights else 0,
        DiTSize(dim, count_of(weights, r"blocks\.(\d+)\..+", FAMILY), dim // (2 * pairs)),
        frames=frames,
        patch=patch,
        mlp_ratio=shape_of(weights, "blocks.0.s_mlp.fc1.weight", 2, FAMILY)[0] / dim,
    )
    return load_mapped(net, weights, OASIS_RULES)


def oasis_autoencoder_from_official(
    checkpoint: Mapping[str, Any], *, image_size: tuple[int, int] = (360, 640), heads: tuple[int, int] | None = None
) -> LatentTokenizer:
    """Oasis' ViT-VAE with published weights, and the scale of its latents.

    Args:
        checkpoint: tensors by their official names.
        image_size: height and width of images, which weights do not tell.
        heads: attention heads of encoder and decoder; one for 64 numbers if not given, as in the published one.

    Raises:
        BadModelError: if keys or shapes are not those of Oasis' autoencoder.
    """
    weights = dict(checkpoint)
    wide, channels, patch, _ = shape_of(weights, "patch_embed.proj.weight", 4, FAMILY)
    back, latent = shape_of(weights, "post_quant_conv.weight", 2, FAMILY)
    halves = [
        (dim, count_of(weights, rf"{half}\.(\d+)\..+", FAMILY), max(1, dim // 64) if heads is None else heads[number])
        for number, (half, dim) in enumerate((("encoder", wide), ("decoder", back)))
    ]
    net = ViTAutoencoder(
        image_size,
        patch,
        channels=channels,
        latent=latent,
        encoder=halves[0],
        decoder=halves[1],
        mlp_ratio=shape_of(weights, "encoder.0.mlp.fc1.weight", 2, FAMILY)[0] / wide,
    )
    return LatentTokenizer(load_mapped(net, weights, VIT_AUTOENCODER_RULES), scale=OASIS_LATENT_SCALE)


def _root(places: int) -> int:
    side = math.isqrt(places)
    if side * side != places:
        raise BadModelError(f"a table of {places} positions is of no square latent.")
    return side


def _size(weights: Mapping[str, Any], dim: int, heads: int | None) -> DiTSize:
    depth = count_of(weights, r"blocks\.(\d+)\..+", FAMILY)
    found = [size.heads for size in SIZES.values() if (size.dim, size.depth) == (dim, depth)]
    if heads is None and not found:
        raise BadModelError(
            f"no published size has a width of {dim} and {depth} blocks, and weights do not tell the number of heads: "
            f"give heads=."
        )
    return DiTSize(dim, depth, found[0] if heads is None else heads)
