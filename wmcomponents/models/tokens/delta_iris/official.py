"""Where the weights of vmicheli/delta-iris go."""

import math
import re
from collections.abc import Mapping
from typing import Any

from wmcomponents.pretrained import BadModelError, Rule, count_of, shape_of

FAMILY = "Delta-IRIS"
KINDS: dict[int, Any] = {3: "sign", 255: "two_hot"}
"""Kinds of reward by the number of their logits."""

_RESIDUAL = {"f.0": "norm1", "f.2": "conv1", "f.3": "norm2", "f.5": "conv2", "skip_projection": "shortcut"}
_HEADS = {"latents": "token_head", "rewards": "reward_head", "ends": "terminated_head"}
_NETWORKS = {
    "tokenizer.encoder.encoder": "tokenizer.encoder",
    "tokenizer.decoder.decoder": "tokenizer.decoder",
    "tokenizer.frame_cnn.encoder": "tokenizer.context_encoder",
    "world_model.frame_cnn.0.encoder": "dynamics.frame_encoder",
}
_PARTS = {
    "encoder_act_emb": "encoder_action",
    "decoder_act_emb": "decoder_action",
    "quantizer.pre_quant_proj": "to_code",
    "quantizer.post_quant_proj": "from_code",
}
_CNN = "(" + "|".join(re.escape(name) for name in _NETWORKS) + r")\.(\d+)\."


RULES = (
    # Masks and slots that follow from the sizes, and the agent's policy.
    Rule(r"actor_critic\..+", None),
    Rule(r"world_model\.(transformer\.blocks\.\d+\.sa\.mask|head_\w+\.indices)", None),
    Rule(
        _CNN + r"(f\.[0235]|skip_projection)\.(weight|bias)",
        lambda m: f"{_NETWORKS[m[1]]}.{m[2]}.{_RESIDUAL[m[3]]}.{m[4]}",
    ),
    Rule(r"tokenizer\.decoder\.decoder\.(\d+)\.conv\.(.+)", r"tokenizer.decoder.\1.conv.\2"),
    Rule(_CNN + r"(?:conv\.)?(weight|bias)", lambda m: f"{_NETWORKS[m[1]]}.{m[2]}.{m[3]}"),
    Rule(r"tokenizer\.quantizer\.codebook", "tokenizer.quantizer.codebook"),
    Rule(r"tokenizer\.quantizer\.codewords_freqs", "tokenizer.quantizer.usage.frequency"),
    Rule(r"tokenizer\.quantizer\.num_codebook_updates", "tokenizer.quantizer.updates"),
    Rule(
        r"tokenizer\.(encoder_act_emb|decoder_act_emb|quantizer\.(?:pre|post)_quant_proj)\.(.+)",
        lambda m: f"tokenizer.{_PARTS[m[1]]}.{m[2]}",
    ),
    Rule(r"world_model\.transformer\.pos_emb\.weight", "dynamics.positions.weight"),
    Rule(r"world_model\.act_emb\.weight", "dynamics.action_embedding.weight"),
    Rule(r"world_model\.latents_emb\.weight", "dynamics.token_embedding.weight"),
    Rule(r"world_model\.frame_cnn\.2\.(.+)", r"dynamics.frame_norm.\1"),
    Rule(r"world_model\.transformer\.ln\.(.+)", r"dynamics.transformer.norm.\1"),
    Rule(r"world_model\.transformer\.blocks\.(\d+)\.sa\.ln\.(.+)", r"dynamics.transformer.blocks.\1.norm1.\2"),
    Rule(
        r"world_model\.transformer\.blocks\.(\d+)\.sa\.qkv\.(.+)",
        r"dynamics.transformer.blocks.\1.attention.qkv.\2",
    ),
    Rule(
        r"world_model\.transformer\.blocks\.(\d+)\.sa\.attention\.proj\.(.+)",
        r"dynamics.transformer.blocks.\1.attention.proj.\2",
    ),
    Rule(r"world_model\.transformer\.blocks\.(\d+)\.mlp\.ln\.(.+)", r"dynamics.transformer.blocks.\1.norm2.\2"),
    Rule(r"world_model\.transformer\.blocks\.(\d+)\.mlp\.mlp\.(.+)", r"dynamics.transformer.blocks.\1.mlp.\2"),
    Rule(
        r"world_model\.head_(latents|rewards|ends)\.head_module\.(.+)",
        lambda m: f"dynamics.{_HEADS[m[1]]}.{m[2]}",
    ),
)
"""From official keys, with the three maps of attention merged, to ours."""


def sizes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a config that the shapes of weights tell; and the ``shape`` of a frame and the number of ``actions``.

    Raises:
        BadModelError: if a weight is missing, or the sizes do not fit together.
    """
    vocabulary, code = shape_of(weights, "tokenizer.quantizer.codebook", 2, FAMILY)
    actions, pixels = shape_of(weights, "tokenizer.encoder_act_emb.weight", 2, FAMILY)
    dim = shape_of(weights, "world_model.act_emb.weight", 2, FAMILY)[1]
    blocks = shape_of(weights, "world_model.head_rewards.indices", 1, FAMILY)[0]
    words = shape_of(weights, "world_model.head_latents.indices", 1, FAMILY)[0]
    rewards = shape_of(weights, "world_model.head_rewards.head_module.2.bias", 1, FAMILY)[0]
    encoder, image_channels, features = _network(weights, "tokenizer.encoder.encoder")
    context_encoder, _, context = _network(weights, "tokenizer.frame_cnn.encoder")
    frame_encoder, _, frame_features = _network(weights, "world_model.frame_cnn.0.encoder")
    side = math.isqrt(pixels)
    latent_side = side // 2 ** sum(encoder["halves"])
    acted = shape_of(weights, "tokenizer.decoder_act_emb.weight", 2, FAMILY)[1]
    if (
        side * side != pixels
        or latent_side < 1
        or rewards not in KINDS
        or words % max(1, blocks)
        or image_channels % 2 == 0
    ):
        raise BadModelError(
            f"the sizes of this checkpoint are not a Delta-IRIS's: {pixels} pixels of an action's plane, {rewards} "
            f"logits of the reward, {words} of tokens in {blocks} blocks."
        )
    return {
        **{"shape": (side, side, (image_channels - 1) // 2), "actions": actions, "tokens": words // blocks},
        **{**encoder, "features": features, "context": context, "action_channels": acted // latent_side**2},
        **{"context_channels": context_encoder["channels"], "vocabulary": vocabulary, "code": code},
        **{
            "dim": dim,
            "max_blocks": blocks,
            "frame_channels": frame_encoder["channels"],
            "frame_features": frame_features,
        },
        "layers": count_of(weights, r"world_model\.transformer\.blocks\.(\d+)\..+", FAMILY),
        "rewards": KINDS[rewards],
    }


def _network(weights: Mapping[str, Any], name: str) -> tuple[dict[str, Any], int, int]:
    """Channels, multiples and halvings of an encoder; the channels that it reads; the features that it writes."""
    channels, image_channels = shape_of(weights, f"{name}.0.weight", 4, FAMILY)[:2]
    mults, halves, number = [], [], 1
    while f"{name}.{number}.f.5.weight" in weights:
        mults.append(shape_of(weights, f"{name}.{number}.f.5.weight", 4, FAMILY)[0] // max(1, channels))
        halves.append(f"{name}.{number + 1}.conv.weight" in weights)
        number += 1 + halves[-1]
    features = shape_of(weights, f"{name}.{number + 2}.weight", 4, FAMILY)[0]
    return {"channels": channels, "mults": tuple(mults), "halves": tuple(halves)}, image_channels, features
