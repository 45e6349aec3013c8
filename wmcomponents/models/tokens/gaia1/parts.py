"""The parts of a GAIA-1 out of its sizes."""

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.observation import DiscreteCodec
from wmcomponents.dynamics import TextImageActionTransformer
from wmcomponents.models.tokens.gaia1.config import GAIA1NetworkConfig, GAIA1TokenizerConfig
from wmcomponents.models.tokens.gaia1.tokenizer import DistilledTokenizer
from wmcomponents.nn import LearnedCosineQuantizer, PlainMiddle, VQGANDecoder, VQGANEncoder
from wmcomponents.nn.memory_format import keep_channels_last


def tokenizer_of(config: GAIA1TokenizerConfig, shape: tuple[int, int, int], image_key: str) -> DistilledTokenizer:
    """The tokenizer of images.

    Args:
        config: sizes.
        shape: (H, W, C) of an image.
        image_key: its key.

    Raises:
        ValueError: if the image does not halve to whole codes.
    """
    c, (height, width, channels) = config, shape
    if c.downsampling < 1 or c.downsampling & (c.downsampling - 1) or height % c.downsampling or width % c.downsampling:
        raise ValueError(
            f"downsampling is a power of two, as every level halves the image, and divides both sides; got "
            f"downsampling={c.downsampling} of {height} x {width} pixels: resize the image, or choose another."
        )
    levels = c.downsampling.bit_length()
    mults = (*c.mults, *[c.mults[-1]] * levels)[:levels]
    sizes = (c.channels, mults, c.blocks, (), c.latent_channels)
    tokenizer = DistilledTokenizer(
        shape,
        VQGANEncoder(*sizes, channels_in=channels, middle=PlainMiddle),
        VQGANDecoder(*sizes, channels_out=channels, middle=PlainMiddle),
        LearnedCosineQuantizer(c.vocabulary, c.code, beta=c.beta),
        features=c.latent_channels,
        grid=(height // c.downsampling, width // c.downsampling),
        distilled=c.distilled,
        in_keys=(image_key,),
    )
    keep_channels_last(tokenizer)
    return tokenizer


def dynamics_of(
    config: GAIA1NetworkConfig, frame_tokens: int, vector: ActionVector, has_text: bool
) -> TextImageActionTransformer:
    """The transformer over texts, codes and actions.

    Args:
        config: sizes.
        frame_tokens: K.
        vector: of actions.
        has_text: whether there are texts.
    """
    c, codec = config.transformer, vector.codec
    are_choices = isinstance(codec, DiscreteCodec)
    return TextImageActionTransformer(
        config.tokenizer.vocabulary,
        codec.classes if isinstance(codec, DiscreteCodec) else (1,) * vector.size,
        are_choices=are_choices,
        text_tokens=c.text_tokens if has_text else 0,
        text_width=c.text_width if has_text else 0,
        frame_tokens=frame_tokens,
        max_frames=c.max_frames,
        kept=c.kept,
        layers=c.layers,
        heads=c.heads,
        dim=c.dim,
        top_k=config.sampling.top_k,
    )
