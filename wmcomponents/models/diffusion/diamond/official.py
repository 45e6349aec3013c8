"""Where the weights of github.com/eloialonso/diamond go in a :class:`~wmcomponents.models.Diamond`."""

import re

from wmcomponents.pretrained import Rule

NAMES = (
    # in a residual block
    (r"\bresblocks\.", ""),
    (r"\bproj\.", "project."),
    (r"\battn\.norm\.norm\.", "attention.norm."),
    (r"\battn\.(qkv|out)_proj\.", r"attention.\1."),
    # in a U-Net
    (r"\bd_blocks\.", "down_blocks."),
    (r"\bu_blocks\.", "up_blocks."),
    (r"\bdownsamples\.(\d+)\.conv\.", r"downsamples.\1."),
    # in the network
    (r"^noise_emb\.", "noise_features."),
    (r"^noise_cond_emb\.", "context_noise_features."),
    (r"^act_emb(\.0)?\.weight$", "action_table"),
    (r"^cond_proj\.", "cond_mlp."),
    (r"^norm_out\.norm\.", "norm_out."),
    # in the model of reward and end
    (r"^encoder\.", ""),
    (r"^lstm\.weight_(ih|hh)_l0$", r"lstm.weight_\1"),
    (r"^lstm\.bias_ih_l0$", "lstm.bias"),
    (r"^lstm\.bias_hh_l0$", "lstm.bias_hh"),
    (r"^head\.", "out."),
)


def our_name(official: str) -> str:
    """The key of a weight here, from its key inside an official module."""
    for pattern, name in NAMES:
        official = re.sub(pattern, name, official)
    return official


RULES = (
    Rule(r"(denoiser|upsampler)\.inner_model\.(.+)", lambda match: f"{match[1]}.network.{our_name(match[2])}"),
    Rule(r"rew_end_model\.(.+)", lambda match: f"reward_end.{our_name(match[1])}"),
    Rule(r"actor_critic\..+", None),  # the agent's
)
