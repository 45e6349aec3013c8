"""Where the weights of AVID's pixel models go: its U-Net over films, and the adapter beside it."""

from torch import Tensor

from wmcomponents.pretrained import Rule


def of_frames(value: Tensor) -> Tensor:
    """A convolution over single frames of a film, ``[out, in, 1, h, w]``, as one of images."""
    return value.squeeze(2)


def of_channels(value: Tensor) -> Tensor:
    """One number a channel."""
    return value.reshape(-1)


def _residual(source: str, target: str) -> tuple[Rule, ...]:
    """Rules for a residual block.

    Args:
        source: regular expression of its name, with the named group ``at`` at most.
        target: ours.
    """
    return (
        Rule(rf"{source}\.mlp\.1\.(?P<rest>.+)", rf"{target}.modulation.\g<rest>"),
        Rule(rf"{source}\.block(?P<n>\d)\.proj\.weight", rf"{target}.conv\g<n>.weight", of_frames),
        Rule(rf"{source}\.block(?P<n>\d)\.proj\.bias", rf"{target}.conv\g<n>.bias"),
        Rule(rf"{source}\.block(?P<n>\d)\.norm\.gamma", rf"{target}.norm\g<n>.weight", of_channels),
        Rule(rf"{source}\.res_conv\.weight", rf"{target}.project.weight", of_frames),
        Rule(rf"{source}\.res_conv\.bias", rf"{target}.project.bias"),
    )


def _attention(source: str, target: str) -> tuple[Rule, ...]:
    """Rules for attention behind its norm.

    Args:
        source: regular expression of its name, with the named group ``at`` at most.
        target: ours.
    """
    return (
        Rule(rf"{source}\.(?:fn\.)+rotary_emb\.freqs", None),  # they follow from the sizes
        Rule(rf"{source}\.(?:fn\.)+to_(?P<map>qkv|out)\.(?P<rest>.+)", rf"{target}.\g<map>.\g<rest>"),
        Rule(rf"{source}\.fn\.norm\.gamma", rf"{target}.norm.weight", of_channels),
    )


FILM_UNET_RULES = (
    Rule(r"null_action_emb", "action.none"),
    Rule(r"action_emb\.weight", "action.table"),
    Rule(r"action_mlp\.(.+)", r"action.mlp.\1"),
    Rule(r"time_mlp\.1\.(.+)", r"level.mlp.0.\1"),
    Rule(r"time_mlp\.3\.(.+)", r"level.mlp.2.\1"),
    Rule(r"time_rel_pos_bias\.relative_attention_bias\.weight", "bias.table.weight"),
    Rule(r"init_conv\.weight", "conv_in.weight", of_frames),
    Rule(r"init_conv\.bias", "conv_in.bias"),
    *_attention(r"init_temporal_attn", "time_in"),
    *_attention(r"mid_spatial_attn", "mid_space"),
    *_attention(r"mid_temporal_attn", "mid_time"),
    *_residual(r"mid_block(?P<at>\d)", r"mid\g<at>"),
    *_residual(r"(?P<at>(?:downs|ups)\.\d+)\.0", r"\g<at>.block1"),
    *_residual(r"(?P<at>(?:downs|ups)\.\d+)\.1", r"\g<at>.block2"),
    *_attention(r"(?P<at>(?:downs|ups)\.\d+)\.2", r"\g<at>.space"),
    *_attention(r"(?P<at>(?:downs|ups)\.\d+)\.3", r"\g<at>.time"),
    Rule(r"downs\.(\d+)\.4\.weight", r"halvings.\1.weight", of_frames),
    Rule(r"downs\.(\d+)\.4\.bias", r"halvings.\1.bias"),
    Rule(r"ups\.(\d+)\.4\.weight", r"doublings.\1.weight", of_frames),
    Rule(r"ups\.(\d+)\.4\.bias", r"doublings.\1.bias"),
    *_residual(r"final_conv\.0", "block_out"),
    Rule(r"final_conv\.1\.weight", "conv_out.weight", of_frames),
    Rule(r"final_conv\.1\.bias", "conv_out.bias"),
)
"""Of AVID's U-Net, to :class:`wmcomponents.denoisers.FilmUNet` whose frames see later ones."""

ADAPTER_RULES = (
    *(
        Rule(rf"adapter\.{rule.source}", None if rule.target is None else f"network.{rule.target}", rule.change)
        for rule in FILM_UNET_RULES
    ),
    Rule(r"mixture_conv\.(weight|bias)", r"mixture.\1", lambda value: value.reshape(1)),
)
"""Of AVID's adapter and mask, to :class:`wmcomponents.denoisers.OutputAdapter`."""
