"""Where the weights of LargeWorldModel/LWM go, by the names that flax gives the modules of its code."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wmcomponents.pretrained import BadModelError, Rule

_CONVS = {"GroupNorm_0": "norm1", "Conv_0": "conv1", "GroupNorm_1": "norm2", "Conv_1": "conv2", "Conv_2": "shortcut"}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def flat(weights: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings, or names with slashes, as names with dots; the outermost ``params`` is left out.

    Args:
        weights: by name, perhaps nested.
        prefix: of the names.
    """
    found: dict[str, Any] = {}
    for name, value in weights.items():
        name = f"{prefix}{name}".replace("/", ".")
        if isinstance(value, Mapping):
            found.update(flat(value, f"{name}."))
        else:
            found[re.sub(r"^(params\.)+", "", name)] = value
    return found


def merged(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights with query, key and value, and the feed-forward's two entrances, as one matrix each, as ours are.

    Args:
        weights: of the transformer, by names with dots.

    Raises:
        BadModelError: if one of those that belong together is missing or does not fit.
    """
    found: dict[str, Any] = {}
    groups = {"wq": ("wq", "wk", "wv"), "w1": ("w1", "w3")}
    followers = {"wk": "wq", "wv": "wq", "w3": "w1"}
    for source, value in weights.items():
        part = re.fullmatch(r"(.+\.)(wq|wk|wv|w1|w3)\.kernel", source)
        if part is None:
            found[source] = value
        elif part[2] in groups:
            together = [weights.get(f"{part[1]}{name}.kernel") for name in groups[part[2]]]
            if not all(isinstance(one, Tensor) and one.shape == value.shape and one.ndim == 2 for one in together):
                raise BadModelError(f"{source} has not all of {groups[part[2]]} beside it, matrices of one shape.")
            joined = torch.cat([one for one in together if one is not None], 1)
            found[f"{part[1]}{'qkv' if part[2] == 'wq' else 'w12'}.kernel"] = joined
        elif f"{part[1]}{followers[part[2]]}.kernel" not in weights:
            raise BadModelError(f"{source} of the checkpoint has no {followers[part[2]]} beside it.")
    return found


def _matrix(weight: Tensor) -> Tensor:
    if weight.ndim != 2:
        raise ValueError(f"a matrix is expected; got {weight.ndim} dimensions")
    return weight.T


def _conv(weight: Tensor) -> Tensor:
    """Height, width, in, out as torch has it; vectors as they are."""
    return weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight


_BLOCK = r"transformer\.h\.(\d+)\."
RULES = (
    Rule(r"transformer\.wte\.embedding", "text_embedding.weight"),
    Rule(r"transformer\.vte\.embedding", "vision_embedding.weight"),
    Rule(r"transformer\.ln_f\.kernel", "transformer.norm.weight"),
    Rule(_BLOCK + r"attention_norm\.kernel", r"transformer.blocks.\1.norm1.weight"),
    Rule(_BLOCK + r"ffn_norm\.kernel", r"transformer.blocks.\1.norm2.weight"),
    Rule(_BLOCK + r"attention\.qkv\.kernel", r"transformer.blocks.\1.attention.qkv.weight", _matrix),
    Rule(_BLOCK + r"attention\.wo\.kernel", r"transformer.blocks.\1.attention.proj.weight", _matrix),
    Rule(_BLOCK + r"feed_forward\.w12\.kernel", r"transformer.blocks.\1.mlp.0.w12.weight", _matrix),
    Rule(_BLOCK + r"feed_forward\.w2\.kernel", r"transformer.blocks.\1.mlp.0.w3.weight", _matrix),
    Rule(r"lm_head\.kernel", "text_head.weight", _matrix),
    Rule(r"vision_head\.kernel", "vision_head.weight", _matrix),
)
"""From the transformer's names, with what belongs together merged, to ours."""


def vqgan_rules(levels: int) -> tuple[Rule, ...]:
    """From the VQGAN's names to ours.

    Args:
        levels: of encoder and decoder; flax numbers the decoder's from the smallest, ours from the largest.
    """

    def level(part: str, number: str) -> int:
        return int(number) if part == "encoder" else levels - 1 - int(number)

    def residual(match: re.Match[str], where: str, rest: int) -> str:
        return f"{match[1]}.{where}.{match[rest]}.{_CONVS[match[rest + 1]]}.{_LEAVES[match[rest + 2]]}"

    inner = r"ResnetBlock_(\d+)\.(GroupNorm_\d|Conv_\d)\.(kernel|scale|bias)"
    side = r"(encoder|decoder)\."
    return (
        Rule(r"quantize\.embeddings", "quantizer.embedding.weight"),
        Rule(r"quant_conv\.(kernel|bias)", lambda m: f"to_code.{_LEAVES[m[1]]}", _conv),
        Rule(r"post_quant_conv\.(kernel|bias)", lambda m: f"from_code.{_LEAVES[m[1]]}", _conv),
        Rule(
            side + r"Conv_(0|1)\.(kernel|bias)",
            lambda m: f"{m[1]}.{('conv_in', 'conv_out')[int(m[2])]}.{_LEAVES[m[3]]}",
            _conv,
        ),
        Rule(side + r"GroupNorm_0\.(scale|bias)", lambda m: f"{m[1]}.norm.{_LEAVES[m[2]]}"),
        Rule(side + r"MidBlock_0\." + inner, lambda m: residual(m, "middle", 2), _conv),
        Rule(
            side + r"(?:Down|Up)samplingBlock_(\d+)\." + inner,
            lambda m: residual(m, f"levels.{level(m[1], m[2])}.block", 3),
            _conv,
        ),
        Rule(
            r"encoder\.DownsamplingBlock_(\d+)\.Downsample_0\.Conv_0\.(kernel|bias)",
            lambda m: f"encoder.halvings.{m[1]}.conv.{_LEAVES[m[2]]}",
            _conv,
        ),
        Rule(
            r"decoder\.UpsamplingBlock_(\d+)\.Upsample_0\.Conv_0\.(kernel|bias)",
            lambda m: f"decoder.doublings.{levels - 2 - int(m[1])}.conv.{_LEAVES[m[2]]}",
            _conv,
        ),
    )
