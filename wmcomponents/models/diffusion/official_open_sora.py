"""Where the weights of Open-Sora 1.2 and 2.0 go: STDiT3 and the two-stream transformer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wmcomponents.denoisers import DiTSize, MMDiT, MMDiTSize, STDiT3
from wmcomponents.pretrained import BadModelError, Rule, count_of, load_mapped, shape_of

FAMILY = "network of Open-Sora"


def _table_block_rules(source: str, target: str) -> tuple[Rule, ...]:
    at, to = rf"{source}\.(\d+)\.", rf"{target}.\1."
    return (
        Rule(rf"{at}scale_shift_table", rf"{to}table"),
        Rule(rf"{at}attn\.(qkv|proj|q_norm|k_norm)\.(.+)", rf"{to}attention.\2.\3"),
        Rule(rf"{at}attn\.rotary_emb\..+", None),
        Rule(rf"{at}cross_attn\.(q|kv)_linear\.(.+)", rf"{to}text.\2.\3"),
        Rule(rf"{at}cross_attn\.proj\.(.+)", rf"{to}text.proj.\2"),
        Rule(rf"{at}mlp\.fc1\.(.+)", rf"{to}mlp.0.\2"),
        Rule(rf"{at}mlp\.fc2\.(.+)", rf"{to}mlp.2.\2"),
    )


STDIT3_RULES = (
    Rule(r"rope\.freqs|pos_embed\.inv_freq", None),  # they follow from the sizes
    Rule(r"x_embedder\.proj\.(.+)", r"patches.\1"),
    Rule(r"t_embedder\.(.+)", r"level.\1"),
    Rule(r"fps_embedder\.(.+)", r"fps.\1"),
    Rule(r"t_block\.(.+)", r"shared.\1"),
    Rule(r"y_embedder\.y_embedding", "no_text"),
    Rule(r"y_embedder\.y_proj\.fc1\.(.+)", r"text.0.\1"),
    Rule(r"y_embedder\.y_proj\.fc2\.(.+)", r"text.2.\1"),
    *_table_block_rules("spatial_blocks", "space"),
    *_table_block_rules("temporal_blocks", "time"),
    Rule(r"final_layer\.scale_shift_table", "table"),
    Rule(r"final_layer\.linear\.(.+)", r"out.\1"),
)
"""To :class:`wmcomponents.denoisers.STDiT3`."""

_STREAM = {"img": "film", "txt": "text"}
_LAYER = {"in_layer": "0", "out_layer": "2"}
_NORM = {"query_norm": "q_norm", "key_norm": "k_norm"}
MMDIT_RULES = (
    Rule(r"(img|txt)_in\.(.+)", lambda m: f"{_STREAM[m[1]]}_in.{m[2]}"),
    Rule(r"cond_in\.(.+)", r"given_in.\1"),
    Rule(r"time_in\.(in_layer|out_layer)\.(.+)", lambda m: f"level.mlp.{_LAYER[m[1]]}.{m[2]}"),
    Rule(r"vector_in\.(in_layer|out_layer)\.(.+)", lambda m: f"summary.{_LAYER[m[1]]}.{m[2]}"),
    Rule(
        r"double_blocks\.(\d+)\.(img|txt)_mod\.lin\.(.+)",
        lambda m: f"two_streams.{m[1]}.{_STREAM[m[2]]}.modulation.1.{m[3]}",
    ),
    Rule(
        r"double_blocks\.(\d+)\.(img|txt)_attn\.(qkv|proj)\.(.+)",
        lambda m: f"two_streams.{m[1]}.{_STREAM[m[2]]}.attention.{m[3]}.{m[4]}",
    ),
    Rule(
        r"double_blocks\.(\d+)\.(img|txt)_attn\.norm\.(query_norm|key_norm)\.scale",
        lambda m: f"two_streams.{m[1]}.{_STREAM[m[2]]}.attention.{_NORM[m[3]]}.weight",
    ),
    Rule(
        r"double_blocks\.(\d+)\.(img|txt)_mlp\.(0|2)\.(.+)",
        lambda m: f"two_streams.{m[1]}.{_STREAM[m[2]]}.mlp.{m[3]}.{m[4]}",
    ),
    Rule(r"single_blocks\.(\d+)\.linear1\.(.+)", r"one_stream.\1.map_in.\2"),
    Rule(r"single_blocks\.(\d+)\.linear2\.(.+)", r"one_stream.\1.map_out.\2"),
    Rule(r"single_blocks\.(\d+)\.norm\.query_norm\.scale", r"one_stream.\1.q_norm.weight"),
    Rule(r"single_blocks\.(\d+)\.norm\.key_norm\.scale", r"one_stream.\1.k_norm.weight"),
    Rule(r"single_blocks\.(\d+)\.modulation\.lin\.(.+)", r"one_stream.\1.modulation.1.\2"),
    Rule(r"final_layer\.linear\.(.+)", r"out.linear.\1"),
    Rule(r"final_layer\.adaLN_modulation\.(.+)", r"out.modulation.\1"),
)
"""To :class:`wmcomponents.denoisers.MMDiT`."""


def stdit3_from_official(checkpoint: Mapping[str, Any], *, heads: int | None = None, square: float = 512.0) -> STDiT3:
    """Open-Sora 1.2's network with published weights; its size follows from them.

    Args:
        checkpoint: tensors by their official names.
        heads: number of attention heads; from the size of the norm of a head's queries if not given.
        square: see :class:`wmcomponents.denoisers.STDiT3`.

    Raises:
        BadModelError: if keys or shapes are not those of STDiT3.
    """
    weights = dict(checkpoint)
    dim, channels, *patch = shape_of(weights, "x_embedder.proj.weight", 5, FAMILY)
    length, text = shape_of(weights, "y_embedder.y_embedding", 2, FAMILY)
    head = shape_of(weights, "spatial_blocks.0.attn.q_norm.weight", 1, FAMILY)[0]
    net = STDiT3(
        channels,
        text,
        DiTSize(dim, count_of(weights, r"spatial_blocks\.(\d+)\..+", FAMILY), dim // head if heads is None else heads),
        patch=patch,
        out_channels=shape_of(weights, "final_layer.linear.weight", 2, FAMILY)[0] // (patch[0] * patch[1] * patch[2]),
        mlp_ratio=shape_of(weights, "spatial_blocks.0.mlp.fc1.weight", 2, FAMILY)[0] / dim,
        text_length=length,
        square=square,
    )
    return load_mapped(net, weights, STDIT3_RULES)


def mmdit_from_official(
    checkpoint: Mapping[str, Any], *, shares: Sequence[int] | None = None, base: float = 10_000.0
) -> MMDiT:
    """Open-Sora 2.0's network with published weights; its size follows from them.

    The published file keeps queries, keys and values apart, and the two channels of a turned pair half a head apart;
    here they are one map, and neighbours.

    Args:
        checkpoint: tensors by their official names, with queries, keys and values in one map or apart.
        shares: channels of a head that are turned by time, row and column; in the proportion 1 to 3.5 to 3.5, as
            published, if not given.
        base: of the rotary positions' wavelengths.

    Raises:
        BadModelError: if keys or shapes are not those of the network, or the shares are not those of a head.
    """
    head = shape_of(checkpoint, "single_blocks.0.norm.query_norm.scale", 1, FAMILY)[0]
    weights = in_one_map(checkpoint, head)
    dim, inner = shape_of(weights, "img_in.weight", 2, FAMILY)
    given = shape_of(weights, "cond_in.weight", 2, FAMILY)[1] - inner
    patch = round(given**0.5)
    shares = (head // 8, head // 16 * 7, head // 16 * 7) if shares is None else tuple(shares)
    if len(shares) != 3 or sum(shares) != head or patch**2 != given:
        raise BadModelError(
            f"time, row and column share the {head} channels of a head; got {tuple(shares)}: give shares=."
        )
    net = MMDiT(
        inner // given,
        shape_of(weights, "txt_in.weight", 2, FAMILY)[1],
        shape_of(weights, "vector_in.in_layer.weight", 2, FAMILY)[1],
        MMDiTSize(
            dim,
            count_of(weights, r"double_blocks\.(\d+)\..+", FAMILY),
            count_of(weights, r"single_blocks\.(\d+)\..+", FAMILY),
            dim // head,
            shares,
        ),
        patch=patch,
        mlp_ratio=shape_of(weights, "double_blocks.0.img_mlp.0.weight", 2, FAMILY)[0] / dim,
        bias="double_blocks.0.img_attn.qkv.bias" in weights,
        base=base,
    )
    return load_mapped(net, weights, MMDIT_RULES)


def in_one_map(checkpoint: Mapping[str, Any], head: int) -> dict[str, Any]:
    """Weights with queries, keys and values in one map, and pairs that are turned as neighbours.

    Args:
        checkpoint: with them apart, which is how files with pairs half a head apart are; others are given back.
        head: channels of a head.

    Raises:
        BadModelError: if one of three is missing, or no plain tensor.
    """
    weights = dict(checkpoint)
    apart = [key for key in weights if re.search(r"\.q_proj\.(weight|bias)$", str(key))]
    order = torch.arange(head).view(2, -1).T.reshape(-1)  # the i-th neighbour lies at order[i]

    def neighbours(value: Tensor) -> Tensor:
        return value.unflatten(0, (-1, head))[:, order.to(value.device)].flatten(0, 1)

    for key in apart:
        stem, kind = key.rsplit(".q_proj.", 1)
        single = stem.startswith("single_blocks")
        names = [f"{stem}.{name}.{kind}" for name in ("q_proj", "k_proj", "v_mlp" if single else "v_proj")]
        parts = [weights.pop(name, None) for name in names]
        if not all(isinstance(part, Tensor) and len(part) % head == 0 for part in parts[:2]) or parts[2] is None:
            raise BadModelError(
                f"{', '.join(names)} of the checkpoint belong together; one is missing, or of no heads."
            )
        q, k, v = parts
        weights[f"{stem}.{'linear1' if single else 'qkv'}.{kind}"] = torch.cat([neighbours(q), neighbours(k), v])
    if apart:
        for key in [key for key in weights if re.search(r"\.norm\.(query|key)_norm\.scale$", str(key))]:
            weights[key] = neighbours(weights[key])
    return weights
