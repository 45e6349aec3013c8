"""Sizes of a GAIA-1, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.tokens.config import FrameLossConfig, TokenOptimizerConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class GAIA1TokenizerConfig:
    """Sizes of the discrete autoencoder of images, convolutional throughout.

    Attributes:
        downsampling: how often a code's place fits into an image's side, a power of two: an image of H x W pixels has
            K = (H / downsampling) * (W / downsampling) codes.
        channels: channels of the first level, a multiple of 32.
        mults: of ``channels``, one for each level, the last for all further ones. There are as many levels as lead from
            the image to the codes by halving.
        blocks: residual blocks at a level of the encoder; the decoder has one more.
        latent_channels: channels of the encoder's output and the decoder's input.
        vocabulary: number of codes in the codebook.
        code: size of a code, to which features are mapped.
        beta: factor on the commitment loss.
        distilled: size of the features of the backbone that codes are to tell too; 0 for none.
        codes_from_data: whether the codebook begins with vectors of real frames that lie far apart, fitted before
            training, instead of random directions.
    """

    downsampling: int = 16
    channels: int = 192
    mults: tuple[int, ...] = (1, 1, 2, 4, 6)
    blocks: int = 2
    latent_channels: int = 256
    vocabulary: int = 8192
    code: int = 32
    beta: float = 0.25
    distilled: int = 0
    codes_from_data: bool = False


@dataclass(frozen=True)
class GAIA1TransformerConfig:
    """Sizes of the transformer over texts, codes and actions.

    Attributes:
        text_tokens: vectors of an encoded text.
        text_width: size of such a vector, the text encoder's (T5-large's is 1024). Neither is looked at where the
            observation has no text.
        layers: number of transformer blocks.
        heads: number of attention heads.
        dim: size of the embeddings.
        max_frames: frames in the context.
        kept: frames that are read again where the context is full, the sliding window: one less than ``max_frames``
            lets it slide frame by frame, fewer let it jump, which costs less.
    """

    text_tokens: int = 32
    text_width: int = 1024
    layers: int = 32
    heads: int = 32
    dim: int = 4096
    max_frames: int = 26
    kept: int = 25


@dataclass(frozen=True)
class GAIA1SamplingConfig:
    """How a dream's codes are drawn.

    Attributes:
        top_k: of how many codes, the likeliest, the next one is drawn; all if not given.
        guidance: how far codes are led away from what would follow without the text, or with a negative one; 0 for no
            guidance, without which a state takes half the memory and a step half the time. It falls linearly over the
            codes of a frame.
        plateau: frames before guidance decays.
        decay: frames from then on until nothing is guided any more, by a cosine; 0 for no decay.
    """

    top_k: int | None = 50
    guidance: float = 0.0
    plateau: int = 0
    decay: int = 0


@dataclass(frozen=True)
class GAIA1NetworkConfig:
    """Sizes of both networks, and how they dream.

    Attributes:
        tokenizer: sizes of the discrete autoencoder of images.
        transformer: sizes of the transformer over texts, codes and actions.
        sampling: how a dream's codes are drawn.
    """

    tokenizer: GAIA1TokenizerConfig = field(default_factory=GAIA1TokenizerConfig)
    transformer: GAIA1TransformerConfig = field(default_factory=GAIA1TransformerConfig)
    sampling: GAIA1SamplingConfig = field(default_factory=GAIA1SamplingConfig)


@dataclass(frozen=True)
class GAIA1LossConfig(FrameLossConfig):
    """Numbers of the losses; images are in [-1, 1].

    Attributes:
        perceptual: factor on the perceptual distance.
        distillation: factor on the distance of directions from the backbone's features.
        unconditioned: share of examples whose texts and actions are hidden.
        action_only: share of examples whose texts are hidden.
        text_only: share of examples whose actions are hidden; the rest hides nothing.
    """

    tokenizer_steps: int = 200_000
    tokenizer_every: int = 0
    tokenizer_frames: int = 160
    absolute: float = 0.2
    squared: float = 2.0
    perceptual: float = 0.1
    distillation: float = 0.1
    unconditioned: float = 0.2
    action_only: float = 0.4
    text_only: float = 0.4


@dataclass(frozen=True)
class GAIA1Config(ModelConfig):
    """Sizes and training of a GAIA-1; the defaults are the paper's, where it tells them.

    Attributes:
        network: sizes of tokenizer and transformer, and how they dream.
        loss: numbers of the losses.
        optimizer: learning rates.
    """

    network: GAIA1NetworkConfig = field(default_factory=GAIA1NetworkConfig)
    loss: GAIA1LossConfig = field(default_factory=GAIA1LossConfig)
    optimizer: TokenOptimizerConfig = field(default_factory=TokenOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "GAIA1Config":
        """For images of 16 or 32 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        sizes = {"downsampling": 4, "channels": 32, "mults": (1,), "blocks": 1, "latent_channels": 32}
        codes = {"vocabulary": 64, "code": 16, "text_tokens": 4, "text_width": 32, "top_k": None}
        context = {"layers": 3, "heads": 4, "dim": 128, "max_frames": 8, "kept": 4}
        training = {"tokenizer_steps": 500, "tokenizer_frames": 64, "absolute": 0.1, "squared": 1.0, "worst": 0.01}
        fast = {"codes_from_data": True, "revival": 400, "tokenizer_rate": 1e-3, "transformer_rate": 1e-3}
        # Most worlds of this size have no texts, and are played with actions.
        hidden = {"unconditioned": 0.1, "action_only": 0.1, "text_only": 0.0}
        return cls().vary(**{**sizes, **codes, **context, **training, **fast, **hidden, **changes})

    @classmethod
    def paper(cls, **changes: Any) -> "GAIA1Config":
        """The published model, for images of 288 x 512 pixels, with T5-large and a DINO of 768 features.

        0.3 billion parameters in the tokenizer and 6.5 in the transformer; the numbers of layers and channels are ours.
        """
        return cls().vary(**{"distilled": 768, **changes})
