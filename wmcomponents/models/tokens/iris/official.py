"""Where the weights of eloialonso/iris go."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wmcomponents.pretrained import BadModelError, Rule, count_of, shape_of

FAMILY = "IRIS"
_MIDDLE = {"block_1": 0, "attn_1": 1, "block_2": 2}
_HEADS = {"observations": "token_head", "rewards": "reward_head", "ends": "terminated_head"}


def _block(name: str) -> str:
    """A residual block's or an attention block's part by our name."""
    return name.replace("nin_shortcut", "shortcut").replace("proj_out", "proj")


RULES = (
    # The perceptual network, masks and slots that follow from the sizes, and the agent's policy.
    Rule(r"tokenizer\.lpips\..+|actor_critic\..+", None),
    Rule(r"world_model\.(transformer\.blocks\.\d+\.attn\.mask|head_\w+\.indices)", None),
    Rule(r"tokenizer\.(pre|post)_quant_conv\.(.+)", lambda m: f"tokenizer.{_QUANT[m[1]]}.{m[2]}"),
    Rule(r"tokenizer\.embedding\.weight", "tokenizer.quantizer.embedding.weight"),
    Rule(
        r"tokenizer\.(encoder|decoder)\.mid\.(block_1|attn_1|block_2)\.(.+)",
        lambda m: f"tokenizer.{m[1]}.middle.{_MIDDLE[m[2]]}.{_block(m[3])}",
    ),
    Rule(
        r"tokenizer\.(encoder|decoder)\.(?:down|up)\.(\d+)\.(block|attn)\.(\d+)\.(.+)",
        lambda m: f"tokenizer.{m[1]}.levels.{m[2]}.{_LISTS[m[3]]}.{m[4]}.{_block(m[5])}",
    ),
    Rule(r"tokenizer\.encoder\.down\.(\d+)\.downsample\.(.+)", r"tokenizer.encoder.halvings.\1.\2"),
    # The decoder's upsampling belongs to the level that it leads out of; ours are numbered from the largest.
    Rule(
        r"tokenizer\.decoder\.up\.(\d+)\.upsample\.(.+)",
        lambda m: f"tokenizer.decoder.doublings.{int(m[1]) - 1}.{m[2]}",
    ),
    Rule(r"tokenizer\.(encoder|decoder)\.norm_out\.(.+)", r"tokenizer.\1.norm.\2"),
    Rule(r"tokenizer\.(encoder|decoder)\.(conv_in|conv_out)\.(.+)", r"tokenizer.\1.\2.\3"),
    Rule(r"world_model\.pos_emb\.weight", "dynamics.positions.weight"),
    Rule(r"world_model\.embedder\.embedding_tables\.0\.weight", "dynamics.action_embedding.weight"),
    Rule(r"world_model\.embedder\.embedding_tables\.1\.weight", "dynamics.token_embedding.weight"),
    Rule(r"world_model\.transformer\.ln_f\.(.+)", r"dynamics.transformer.norm.\1"),
    Rule(r"world_model\.transformer\.blocks\.(\d+)\.ln(\d)\.(.+)", r"dynamics.transformer.blocks.\1.norm\2.\3"),
    Rule(
        r"world_model\.transformer\.blocks\.(\d+)\.attn\.(qkv|proj)\.(.+)",
        r"dynamics.transformer.blocks.\1.attention.\2.\3",
    ),
    Rule(r"world_model\.transformer\.blocks\.(\d+)\.mlp\.(.+)", r"dynamics.transformer.blocks.\1.mlp.\2"),
    Rule(
        r"world_model\.head_(observations|rewards|ends)\.head_module\.(.+)",
        lambda m: f"dynamics.{_HEADS[m[1]]}.{m[2]}",
    ),
)
"""From official keys, with the three maps of attention merged, to ours."""

_QUANT = {"pre": "to_code", "post": "from_code"}
_LISTS = {"block": "block", "attn": "attention"}


def merged(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights with query, key and value of each layer as one matrix, as ours are.

    Raises:
        BadModelError: if one of the three is missing or of another shape.
    """
    merged: dict[str, Any] = {}
    for source, value in weights.items():
        found = re.fullmatch(r"(world_model\.transformer\.blocks\.\d+\.\w+\.)(query|key|value)\.(weight|bias)", source)
        if found is None:
            merged[source] = value
        elif found[2] == "query":
            three = [weights.get(f"{found[1]}{name}.{found[3]}") for name in ("query", "key", "value")]
            if not all(isinstance(one, Tensor) and one.shape == value.shape for one in three):
                raise BadModelError(f"{source} of the checkpoint has no key or value beside it of the same shape.")
            merged[f"{found[1]}qkv.{found[3]}"] = torch.cat([one for one in three if one is not None])
        elif f"{found[1]}query.{found[3]}" not in weights:
            raise BadModelError(f"{source} of the checkpoint has no query beside it.")
    return merged


def sizes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a config that the shapes of weights tell; and the image's ``side`` and the number of ``actions``.

    Raises:
        BadModelError: if a weight is missing.
    """
    channels = shape_of(weights, "tokenizer.encoder.conv_in.weight", 4, FAMILY)[0]
    latent = shape_of(weights, "tokenizer.encoder.conv_out.weight", 4, FAMILY)[0]
    vocabulary, code = shape_of(weights, "tokenizer.embedding.weight", 2, FAMILY)
    actions, dim = shape_of(weights, "world_model.embedder.embedding_tables.0.weight", 2, FAMILY)
    positions = shape_of(weights, "world_model.pos_emb.weight", 2, FAMILY)[0]
    frames = shape_of(weights, "world_model.head_rewards.indices", 1, FAMILY)[0]
    words = positions // max(1, frames) - 1
    grid = math.isqrt(max(0, words))
    if grid < 1 or grid * grid != words or frames * (words + 1) != positions:
        raise BadModelError(f"{positions} positions of {frames} frames do not hold squares of tokens and an action.")
    levels = count_of(weights, r"tokenizer\.encoder\.down\.(\d+)\..+", FAMILY)
    side = grid * 2 ** (levels - 1)
    attends = {
        side >> int(found[1]) for key in weights if (found := re.match(r"tokenizer\.encoder\.down\.(\d+)\.attn", key))
    }
    return {
        **{"side": side, "actions": actions, "grid": grid, "channels": channels, "latent_channels": latent},
        "blocks": count_of(weights, r"tokenizer\.encoder\.down\.0\.block\.(\d+)\..+", FAMILY),
        "attention": tuple(sorted(attends)),
        **{"vocabulary": vocabulary, "code": code, "dim": dim, "max_frames": frames},
        "layers": count_of(weights, r"world_model\.transformer\.blocks\.(\d+)\..+", FAMILY),
    }
