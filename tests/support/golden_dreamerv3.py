"""Names and layouts: from DreamerV3's JAX parameters to the state dicts of these parts."""

import re
from collections.abc import Mapping

from torch import Tensor

# Official name (without the module's prefix) -> ours. The order matters: the first pattern that fits wins.
_ENCODER = [
    (r"mlp(\d+)/(kernel|bias)", r"mlp.mlp.layers.\1.linear.\2"),
    (r"mlp(\d+)norm/(scale|shift)", r"mlp.mlp.layers.\1.norm.\2"),
    (r"cnn(\d+)/(kernel|bias)", r"conv.stages.\1.conv.\2"),
    (r"cnn(\d+)norm/(scale|shift)", r"conv.stages.\1.post.norm.\2"),
]
_DECODER = [
    (r"mlp/linear(\d+)/(kernel|bias)", r"mlp.mlp.layers.\1.linear.\2"),
    (r"mlp/norm(\d+)/(scale|shift)", r"mlp.mlp.layers.\1.norm.\2"),
    (r"vec/(.+)/(?:pred|logits?)/(kernel|bias)", r"mlp.outs.\1.\2"),
    (r"sp0/(kernel|bias)", r"conv.deter_in.\1"),
    (r"sp1/(kernel|bias)", r"conv.stoch_hidden.linear.\1"),
    (r"sp1norm/(scale|shift)", r"conv.stoch_hidden.norm.\1"),
    (r"sp2/(kernel|bias)", r"conv.stoch_in.\1"),
    (r"spnorm/(scale|shift)", r"conv.map_norm.\1"),
    (r"conv(\d+)/(kernel|bias)", r"conv.stages.\1.conv.\2"),
    (r"conv(\d+)norm/(scale|shift)", r"conv.posts.\1.norm.\2"),
    (r"imgout/(kernel|bias)", r"conv.out.conv.\1"),
]
_DYNAMICS = [
    (r"dynin0/(kernel|bias)", r"cell.deter_in.linear.\1"),
    (r"dynin0norm/(scale|shift)", r"cell.deter_in.norm.\1"),
    (r"dynin1/(kernel|bias)", r"cell.stoch_in.linear.\1"),
    (r"dynin1norm/(scale|shift)", r"cell.stoch_in.norm.\1"),
    (r"dynin2/(kernel|bias)", r"cell.action_in.linear.\1"),
    (r"dynin2norm/(scale|shift)", r"cell.action_in.norm.\1"),
    (r"dynhid(\d+)/(kernel|bias)", r"cell.hidden.\1.\2"),
    (r"dynhid(\d+)norm/(scale|shift)", r"cell.norms.\1.\2"),
    (r"dyngru/(kernel|bias)", r"cell.gates.\1"),
    (r"prior(\d+)/(kernel|bias)", r"prior.mlp.layers.\1.linear.\2"),
    (r"prior(\d+)norm/(scale|shift)", r"prior.mlp.layers.\1.norm.\2"),
    (r"priorlogit/(kernel|bias)", r"prior.out.\1"),
    (r"obs(\d+)/(kernel|bias)", r"posterior.mlp.layers.\1.linear.\2"),
    (r"obs(\d+)norm/(scale|shift)", r"posterior.mlp.layers.\1.norm.\2"),
    (r"obslogit/(kernel|bias)", r"posterior.out.\1"),
]
_HEAD = [
    (r"mlp/linear(\d+)/(kernel|bias)", r"mlp.layers.\1.linear.\2"),
    (r"mlp/norm(\d+)/(scale|shift)", r"mlp.layers.\1.norm.\2"),
    (r"head/(?:action/)?(?:pred|logits?)/(kernel|bias)", r"out.\1"),
]
_MODULES = {
    "enc": _ENCODER,
    "dec": _DECODER,
    "dyn": _DYNAMICS,
    **dict.fromkeys(["rew", "con", "pol", "val", "slowval"], _HEAD),
}
_LEAVES = {"kernel": "weight", "scale": "weight", "shift": "bias", "bias": "bias"}


def torch_name(official: str) -> str:
    """The state-dict key of an official parameter: ``"dyn/dyngru/kernel"`` -> ``"cell.gates.weight"``.

    The first part of the official name says which module's state dict the key belongs to.

    Raises:
        KeyError: if no rule fits.
    """
    module, _, rest = official.partition("/")
    for pattern, ours in _MODULES[module]:
        match = re.fullmatch(pattern, rest)
        if match:
            stem, _, leaf = match.expand(ours).rpartition(".")
            return f"{stem}.{_LEAVES[leaf]}"
    raise KeyError(f"no rule for the official parameter {official!r}")


def torch_layout(official: str, value: Tensor) -> Tensor:
    """An official array in torch's layout: Linear (in, out) -> (out, in), conv HWIO -> OIHW, blocks as they are."""
    if official.endswith("/kernel"):
        if value.ndim == 2:
            return value.T.contiguous()
        if value.ndim == 4:
            return value.permute(3, 2, 0, 1).contiguous()
    return value


def torch_state(tensors: Mapping[str, Tensor], module: str, prefix: str = "w/") -> dict[str, Tensor]:
    """The state dict of one part, from all tensors of a golden vector.

    Args:
        tensors: official names with ``prefix``.
        module: "enc", "dyn", "dec", "rew", "con", "pol", "val" or "slowval".
        prefix: ``"w/"`` for weights, ``"grad/"`` for gradients.
    """
    start = f"{prefix}{module}/"
    names = [key.removeprefix(prefix) for key in tensors if key.startswith(start)]
    # The official decoder numbers its stages from the image inwards; ours run from the latent map outwards.
    last = max((int(match[1]) for name in names if (match := re.match(r"dec/conv(\d+)/", name))), default=0)
    outwards = {
        name: re.sub(r"^dec/conv(\d+)", lambda match: f"dec/conv{last - int(match[1])}", name) for name in names
    }
    return {torch_name(outwards[name]): torch_layout(name, tensors[prefix + name]) for name in names}


def r2dreamer_rssm_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The RSSM's state dict from r2dreamer's names; its block weights come as (out/G, in/G, G)."""
    rules = [
        (r"_deter_net\._dyn_in0\.0\.(\w+)", r"cell.deter_in.linear.\1"),
        (r"_deter_net\._dyn_in0\.1\.(\w+)", r"cell.deter_in.norm.\1"),
        (r"_deter_net\._dyn_in1\.0\.(\w+)", r"cell.stoch_in.linear.\1"),
        (r"_deter_net\._dyn_in1\.1\.(\w+)", r"cell.stoch_in.norm.\1"),
        (r"_deter_net\._dyn_in2\.0\.(\w+)", r"cell.action_in.linear.\1"),
        (r"_deter_net\._dyn_in2\.1\.(\w+)", r"cell.action_in.norm.\1"),
        (r"_deter_net\._dyn_hid\.dyn_hid_(\d+)\.(\w+)", r"cell.hidden.\1.\2"),
        (r"_deter_net\._dyn_hid\.norm_(\d+)\.(\w+)", r"cell.norms.\1.\2"),
        (r"_deter_net\._dyn_gru\.(\w+)", r"cell.gates.\1"),
        (r"_img_net\.img_net_n_(\d+)\.(\w+)", r"prior.mlp.layers.\1.norm.\2"),
        (r"_img_net\.img_net_logit\.(\w+)", r"prior.out.\1"),
        (r"_img_net\.img_net_(\d+)\.(\w+)", r"prior.mlp.layers.\1.linear.\2"),
        (r"_obs_net\.obs_net_n_(\d+)\.(\w+)", r"posterior.mlp.layers.\1.norm.\2"),
        (r"_obs_net\.obs_net_logit\.(\w+)", r"posterior.out.\1"),
        (r"_obs_net\.obs_net_(\d+)\.(\w+)", r"posterior.mlp.layers.\1.linear.\2"),
    ]
    state = {}
    for key, value in tensors.items():
        if not key.startswith("w/"):
            continue
        name = key.removeprefix("w/")
        ours = next(match.expand(new) for old, new in rules if (match := re.fullmatch(old, name)))
        state[ours] = value.permute(2, 1, 0).contiguous() if value.ndim == 3 else value
    return state
