"""Where the weights of AVID's pixel models go: its U-Net over films, and the adapter beside it."""

from torch import Tensor

from wmcomponents.pretrained import Rule


def of_frames(value: Tensor) -> Tensor:
    """A convolution over single frames of a film, ``[out, in, 1, h, w]``, as one of images."""
    return value.squeeze(2)


def of_pixels(value: Tensor) -> Tensor:
    """A convolution of single pixels, ``[out, in, 1, 1]``, as the linear map that it is."""
    return value.flatten(1)


def of_channels(value: Tensor) -> Tensor:
    """One number a channel."""
    return value.reshape(-1)


def _residual(source: str, target: str) -> tuple[Rule, ...]:
    """Rules for a residual block.

    Args:
        source: regular expression of its name.
        target: ours, which may take the named group ``at``.
    """
    return (
        Rule(rf"{source}\.mlp\.(?P<rest>.+)", rf"{target}.modulation.\g<rest>"),
        Rule(rf"{source}\.block(?P<n>\d)\.proj\.weight", rf"{target}.conv\g<n>.weight", of_frames),
        Rule(rf"{source}\.block(?P<n>\d)\.proj\.bias", rf"{target}.conv\g<n>.bias"),
        Rule(rf"{source}\.block(?P<n>\d)\.norm\.gamma", rf"{target}.norm\g<n>.weight", of_channels),
        Rule(rf"{source}\.res_conv\.weight", rf"{target}.shortcut.weight", of_frames),
        Rule(rf"{source}\.res_conv\.bias", rf"{target}.shortcut.bias"),
    )


def _attention_rules(source: str, target: str, inner: str) -> tuple[Rule, ...]:
    return (
        Rule(rf"{source}\.{inner}\.rotary_emb\.freqs", None),
        Rule(rf"{source}\.{inner}\.to_qkv\.weight", rf"{target}qkv.weight", of_pixels),
        Rule(rf"{source}\.{inner}\.to_out\.weight", rf"{target}proj.weight", of_pixels),
        Rule(rf"{source}\.{inner}\.to_out\.bias", rf"{target}proj.bias"),
    )


def _around(source: str, target: str) -> tuple[Rule, ...]:
    """Attention in whatever axes, behind its norm."""
    return (
        *_attention_rules(source, rf"{target}.attention.", r"fn\.fn\.fn"),
        Rule(rf"{source}\.fn\.norm\.gamma", rf"{target}.norm.weight", of_channels),
    )


def video_unet_rules(levels: int) -> tuple[Rule, ...]:
    """Rules of AVID's U-Net, to :class:`wmcomponents.denoisers.VideoUNet`.

    Args:
        levels: how many resolutions it has.
    """
    rules: list[Rule] = [
        Rule(r"null_action_emb", "no_action"),
        Rule(r"action_emb\.weight", "action_table"),
        Rule(r"action_mlp\.(.+)", r"action.\1"),
        Rule(r"time_mlp\.(.+)", r"level.\1"),
        Rule(r"time_rel_pos_bias\.relative_attention_bias\.weight", "bias.table.weight"),
        Rule(r"init_conv\.weight", "conv_in.weight", of_frames),
        Rule(r"init_conv\.bias", "conv_in.bias"),
        *_around(r"init_temporal_attn", "time_in"),
        *_around(r"mid_spatial_attn", "mid_space"),
        *_around(r"mid_temporal_attn", "mid_time"),
        *_residual(r"mid_block(?P<at>\d)", r"mid\g<at>"),
        *_residual(r"final_conv\.0", "block_out"),
        Rule(r"final_conv\.1\.weight", "conv_out.weight", of_frames),
        Rule(r"final_conv\.1\.bias", "conv_out.bias"),
    ]
    for way, resampled in (("downs", "halvings"), ("ups", "doublings")):
        for number in range(levels):
            at, to = rf"{way}\.{number}", f"{way}.{number}"
            rules += [
                *_residual(rf"{at}\.0", f"{to}.block1"),
                *_residual(rf"{at}\.1", f"{to}.block2"),
                *_attention_rules(rf"{at}\.2", f"{to}.space.", r"fn\.fn"),
                Rule(rf"{at}\.2\.fn\.norm\.gamma", f"{to}.space.norm.weight", of_channels),
                *_around(rf"{at}\.3", f"{to}.time"),
                Rule(rf"{at}\.4\.weight", f"{resampled}.{number}.weight", of_frames),
                Rule(rf"{at}\.4\.bias", f"{resampled}.{number}.bias"),
            ]
    return tuple(rules)


def adapter_rules(levels: int) -> tuple[Rule, ...]:
    """Rules of AVID's adapter and mask, to :class:`wmcomponents.denoisers.OutputAdapter`.

    Args:
        levels: how many resolutions the adapter's U-Net has.
    """
    return (
        *(
            Rule(rf"adapter\.{rule.source}", None if rule.target is None else f"network.{rule.target}", rule.change)
            for rule in video_unet_rules(levels)
        ),
        Rule(r"mixture_conv\.(weight|bias)", r"mixture.\1", lambda value: value.reshape(())),
    )
