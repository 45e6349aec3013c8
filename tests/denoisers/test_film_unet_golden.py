"""The U-Net over films against the numbers of AVID's own code."""

import re

import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.denoisers import FilmUNet
from wmcomponents.functional import alphas_cumprod, sigmoid_betas
from wmcomponents.nn import DiffusionProcess

NAMES = (
    (r"^null_action_emb$", "action.none"),
    (r"^action_emb\.weight$", "action.table"),
    (r"^action_mlp\.", "action.mlp."),
    (r"^time_rel_pos_bias\.relative_attention_bias\.", "bias.table."),
    (r"^time_mlp\.1\.", "level.mlp.0."),
    (r"^time_mlp\.3\.", "level.mlp.2."),
    (r"^init_conv\.", "conv_in."),
    (r"^init_temporal_attn\.", "time_in."),
    (r"^(downs|ups)\.(\d)\.0\.", r"\1.\2.block1."),
    (r"^(downs|ups)\.(\d)\.1\.", r"\1.\2.block2."),
    (r"^(downs|ups)\.(\d)\.2\.", r"\1.\2.space."),
    (r"^(downs|ups)\.(\d)\.3\.", r"\1.\2.time."),
    (r"^downs\.(\d)\.4\.", r"halvings.\1."),
    (r"^ups\.(\d)\.4\.", r"doublings.\1."),
    (r"^mid_block(\d)\.", r"mid\1."),
    (r"^mid_spatial_attn\.", "mid_space."),
    (r"^mid_temporal_attn\.", "mid_time."),
    (r"^final_conv\.0\.", "block_out."),
    (r"^final_conv\.1\.", "conv_out."),
    (r"\bblock(\d)\.proj\.", r"conv\1."),
    (r"\bblock(\d)\.norm\.gamma$", r"norm\1.weight"),
    (r"\bmlp\.1\.(?=weight|bias)", "modulation."),
    (r"\bres_conv\.", "project."),
    (r"\bfn\.norm\.gamma$", "norm.weight"),
    (r"\b(fn\.)+to_(qkv|out)\.", r"\2."),
)


def weights(vectors, prefix):
    """Weights under our names, without the frames' axis of their kernels."""
    found = {}
    for key, value in vectors.items():
        if key.startswith(f"w/{prefix}.") and "rotary_emb" not in key:
            name = key.removeprefix(f"w/{prefix}.")
            for pattern, ours in NAMES:
                name = re.sub(pattern, ours, name)
            if name.endswith("norm.weight") or re.search(r"norm\d\.weight", name):
                value = value.flatten()
            found[name] = value.squeeze(2) if value.ndim == 5 else value
    return found


@torch.no_grad()
def test_avids_networks_are_its_own():
    info, tensors = load("avid_pixel")
    base, adapter = (
        FilmUNet(
            (3 + 3 * c["condition_frames"], 8, 8),
            c["num_actions"],
            dim=8,
            multiples=(1, 2),
            heads=2,
            head_dim=8,
            is_causal=False,
            relative=True,
            out_channels=3 + ("output_mask" in c),
        )
        for c in (info["config"]["base"], info["config"]["adapter"])
    )
    base.load_state_dict(weights(tensors, "model"))
    adapter.load_state_dict(weights(tensors, "adapter"))
    x = DiffusionProcess(sigmoid_betas(200)).diffuse(tensors["in/x_start"], tensors["rec/noise"], tensors["in/t"])
    close(info, x, tensors["out/x_t"])
    film, past = x.transpose(1, 2), tensors["in/cond_frames"].flatten(1, 2)
    level = tensors["in/t"][:, None].expand(2, 3)

    def beside(*parts):
        """All frames of the past along the channels of each frame, colour by colour."""
        return torch.cat([past[:, None].expand(-1, 3, -1, -1, -1), *parts], 2)

    first = base(beside(film), level)
    close(info, first.transpose(1, 2), tensors["out/base_output"])
    action = torch.nn.functional.one_hot(tensors["in/act"], 5).float()
    raw = adapter(beside(film, first), level, action)
    close(info, raw.transpose(1, 2), tensors["out/adapter_output_raw"])
    mask = (tensors["w/mixture_conv.weight"].squeeze() * raw[:, :, 3:] + tensors["w/mixture_conv.bias"]).sigmoid()
    output = (mask * first + (1 - mask) * raw[:, :, :3]).transpose(1, 2)
    close(info, output, tensors["out/model_output"])
    share = alphas_cumprod(sigmoid_betas(200))[tensors["in/t"]]
    error = (output - tensors["in/x_start"]).square().flatten(1).mean(1)
    close(info, (share / (1 - share) * error).mean().float(), tensors["out/loss"])
