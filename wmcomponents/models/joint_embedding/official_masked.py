"""Where the weights of I-JEPA's and V-JEPA's predictors and of MAE's decoder go."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wmcomponents.models.joint_embedding.official_vit import bare, block_rules, squeezed
from wmcomponents.pretrained import BadModelError, Rule

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
