"""Sizes of an IRIS, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.tokens.config import FrameLossConfig, TokenOptimizerConfig
from wmcomponents.pretrained import ModelConfig

_FAST_TRAINING = {
    **{"tokenizer_rate": 1e-3, "transformer_rate": 1e-3, "absolute": 0.1, "squared": 1.0, "worst": 0.01},
    **{"codes_from_data": True, "revival": 400},
}
"""Of our own presets: a few hundred updates must do."""


@dataclass(frozen=True)
class IRISTokenizerConfig:
    """Sizes of the discrete autoencoder of images.

    Attributes:
        grid: side of the square of tokens that stand for an image: K = grid * grid.
        channels: channels of every level of the autoencoder, a multiple of 32. There are as many levels as lead from
            the image's side to the grid's by halving.
        blocks: residual blocks at a level of the encoder; the decoder has one more.
        attention: sides of maps at which attention follows each residual block.
        latent_channels: channels of the encoder's output and the decoder's input.
        vocabulary: number of codes in the codebook.
        code: size of a code.
        beta: factor on the commitment loss.
        codes_from_data: whether the codebook begins with vectors of real frames that lie far apart, fitted before
            training, instead of small random numbers.
    """

    grid: int = 4
    channels: int = 64
    blocks: int = 2
    attention: tuple[int, ...] = (8, 16)
    latent_channels: int = 512
    vocabulary: int = 512
    code: int = 512
    beta: float = 1.0
    codes_from_data: bool = False


@dataclass(frozen=True)
class IRISTransformerConfig:
    """Sizes of the transformer over tokens and actions.

    Attributes:
        layers: number of transformer blocks.
        heads: number of attention heads.
        dim: size of the embeddings.
        dropout: share of embeddings, attention weights and outputs that is dropped in training.
        causality: whether tokens of one frame see each other; the paper's is ``"causal"``.
        max_frames: frames in the context.
    """

    layers: int = 10
    heads: int = 4
    dim: int = 256
    dropout: float = 0.1
    causality: Literal["causal", "block_causal"] = "causal"
    max_frames: int = 20


@dataclass(frozen=True)
class IRISNetworkConfig:
    """Sizes of both networks.

    Attributes:
        tokenizer: sizes of the discrete autoencoder of images.
        transformer: sizes of the transformer over tokens and actions.
    """

    tokenizer: IRISTokenizerConfig = field(default_factory=IRISTokenizerConfig)
    transformer: IRISTransformerConfig = field(default_factory=IRISTransformerConfig)


@dataclass(frozen=True)
class IRISLossConfig(FrameLossConfig):
    """Numbers of the losses; images are in [-1, 1].

    The paper has an absolute error alone, and revives no codes. Where few pixels are not the background, that error is
    content with the background for long, and a mean hardly sees a ball of one pixel: Delta-IRIS has factors of 0.1, 1
    and 0.01.
    """


@dataclass(frozen=True)
class IRISConfig(ModelConfig):
    """Sizes and training of an IRIS world model; the defaults are the paper's for Atari.

    Attributes:
        network: sizes of tokenizer and transformer.
        loss: numbers of the losses.
        optimizer: learning rates.
    """

    network: IRISNetworkConfig = field(default_factory=IRISNetworkConfig)
    loss: IRISLossConfig = field(default_factory=IRISLossConfig)
    optimizer: TokenOptimizerConfig = field(default_factory=TokenOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "IRISConfig":
        """For images of 16 or 32 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        sizes = {"channels": 32, "blocks": 1, "attention": (), "latent_channels": 32, "vocabulary": 64, "code": 16}
        context = {"layers": 3, "dim": 128, "dropout": 0.0, "max_frames": 8}
        training = {"tokenizer_steps": 500, "tokenizer_every": 0, "tokenizer_frames": 64}
        return cls().vary(**{**sizes, **context, **training, **_FAST_TRAINING, **changes})

    @classmethod
    def pong(cls, **changes: Any) -> "IRISConfig":
        """For ALE/Pong at 64x64 on a CPU; ours. The ball is a pixel or two."""
        sizes = {"channels": 32, "blocks": 1, "attention": (8,), "latent_channels": 64, "vocabulary": 256, "code": 32}
        context = {"layers": 4, "dim": 128, "dropout": 0.0, "max_frames": 8}
        training = {"tokenizer_steps": 400, "tokenizer_every": 0, "tokenizer_frames": 16}
        return cls().vary(**{**sizes, **context, **training, **_FAST_TRAINING, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "IRISConfig":
        """Atari 100k at 64x64: 4,027,523 parameters in the tokenizer, 8,447,493 in the transformer with 4 actions."""
        return cls().vary(**changes)
