"""Sizes of a Delta-IRIS, and the numbers of its training."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.tokens.config import TokenLossConfig, TokenOptimizerConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class DeltaIRISTokenizerConfig:
    """Sizes of the discrete autoencoder of changes.

    Attributes:
        tokens: tokens that stand for the change from a frame to the next, a square number.
        channels: channels of encoder and decoder at the largest resolution, a multiple of 32.
        features: channels of the encoder's output and of the codes' part of the decoder's input.
        context_channels: channels of the CNN through which the decoder sees the frame before, a multiple of 32.
        context: channels of that CNN's output.
        action_channels: channels that the decoder sees of the action.
        vocabulary: number of codes in the codebook.
        code: size of a code.
        beta: factor on the commitment loss.
        revival: updates of the codebook in which unused codes are revived.
    """

    tokens: int = 4
    channels: int = 64
    features: int = 64
    context_channels: int = 32
    context: int = 16
    action_channels: int = 4
    vocabulary: int = 1024
    code: int = 64
    beta: float = 0.02
    revival: int = 400


@dataclass(frozen=True)
class DeltaIRISTransformerConfig:
    """Sizes of the transformer over frames, actions and changes.

    Attributes:
        layers: number of transformer blocks.
        heads: number of attention heads.
        frame_channels: channels of the CNN through which the transformer sees frames, a multiple of 32.
        frame_features: channels of that CNN's output; with its height and width they make the size of the embeddings.
        dropout: share of embeddings, attention weights and outputs that is dropped in training.
        max_blocks: frames in the context.
        rewards: ``"sign"``, drawn, or ``"two_hot"`` in symlog space, of which the mean is taken.
    """

    layers: int = 3
    heads: int = 4
    frame_channels: int = 32
    frame_features: int = 4
    dropout: float = 0.0
    max_blocks: int = 26
    rewards: Literal["sign", "two_hot"] = "sign"


@dataclass(frozen=True)
class DeltaIRISNetworkConfig:
    """Sizes of both networks, and the levels that their CNNs share.

    Attributes:
        mults: multiples of the channels of every CNN, one for each residual block.
        halves: whether height and width halve behind the block.
        largest_map: largest side of the map that blocks of one width and as few halvings as will do, at least one,
            bring an image to, instead of ``mults`` and ``halves``; 0 takes those.
        tokenizer: sizes of the discrete autoencoder of changes.
        transformer: sizes of the transformer over frames, actions and changes.
    """

    mults: tuple[int, ...] = (1, 1, 2, 2, 4)
    halves: tuple[bool, ...] = (True, False, True, True, False)
    largest_map: int = 0
    tokenizer: DeltaIRISTokenizerConfig = field(default_factory=DeltaIRISTokenizerConfig)
    transformer: DeltaIRISTransformerConfig = field(default_factory=DeltaIRISTransformerConfig)

    def levels(self, side: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Multiples of the channels of each residual block, and whether the map halves behind it, for images of a side.

        Raises:
            ValueError: if the image does not halve to a map of such a size.
        """
        if not self.largest_map:
            return self.mults, self.halves
        return levels_of(side, self.largest_map, math.isqrt(self.tokenizer.tokens))


@dataclass(frozen=True)
class DeltaIRISLossConfig(TokenLossConfig):
    """Numbers of the losses; images are in [0, 1].

    Attributes:
        token_scale: factor on the loss of tokens.
        reward_scale: factor on the loss of rewards.
        termination_scale: factor on the loss of terminations.
    """

    tokenizer_steps: int = 5400
    tokenizer_every: int = 2
    tokenizer_frames: int = 0
    absolute: float = 0.1
    squared: float = 1.0
    worst: float = 0.01
    token_scale: float = 0.1
    reward_scale: float = 1.0
    termination_scale: float = 0.1


@dataclass(frozen=True)
class DeltaIRISOptimizerConfig(TokenOptimizerConfig):
    """Learning rates and decay.

    Attributes:
        tokenizer_decay: weight decay of the tokenizer's linear maps.
    """

    tokenizer_decay: float = 0.0


@dataclass(frozen=True)
class DeltaIRISConfig(ModelConfig):
    """Sizes and training of a Delta-IRIS world model; the defaults are the paper's for Atari.

    Attributes:
        network: sizes of tokenizer and transformer.
        loss: numbers of the losses.
        optimizer: learning rates and decay.
    """

    network: DeltaIRISNetworkConfig = field(default_factory=DeltaIRISNetworkConfig)
    loss: DeltaIRISLossConfig = field(default_factory=DeltaIRISLossConfig)
    optimizer: DeltaIRISOptimizerConfig = field(default_factory=DeltaIRISOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DeltaIRISConfig":
        """For images of 16 or 32 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper.

        Its size follows from the image, as that of the transformer's embeddings does: 0.9 million parameters at 16
        pixels a side, 11 at 32 and 64, 17 at 36, 4 at 96.
        """
        # At a quarter of the side, small things blur: a dream decodes its own frames, and soon shows the mean image.
        given = {name.rpartition(".")[2] for name in changes}
        halving = {} if given & {"mults", "halves"} else {"largest_map": 16}
        sizes = {"mults": (1, 1), "halves": (True, False), "channels": 32, "features": 16, "context": 8, **halving}
        codes = {"vocabulary": 64, "code": 16, "action_channels": 2}
        context = {"layers": 3, "frame_features": 2, "max_blocks": 16}
        training = {"tokenizer_steps": 900, "tokenizer_every": 0, "tokenizer_frames": 64, "token_scale": 1.0}
        rates = {"tokenizer_rate": 1e-3, "transformer_rate": 1e-3, "worst": 0.03}
        return cls().vary(**{**sizes, **codes, **context, **training, **rates, **changes})

    @classmethod
    def pong(cls, **changes: Any) -> "DeltaIRISConfig":
        """For ALE/Pong at 64x64 on a CPU. Not a scaled-down paper."""
        sizes = {"mults": (1, 1), "halves": (True, True), "channels": 32, "features": 16, "context": 32}
        codes = {"vocabulary": 128, "code": 32}
        context = {"layers": 3, "frame_features": 1, "max_blocks": 8}
        training = {"tokenizer_steps": 400, "tokenizer_every": 0, "tokenizer_frames": 16, "token_scale": 1.0}
        rates = {"tokenizer_rate": 1e-3, "transformer_rate": 1e-3, "worst": 0.03}
        return cls().vary(**{**sizes, **codes, **context, **training, **rates, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "DeltaIRISConfig":
        """Atari 100k at 64x64: 4,065,715 parameters in the tokenizer, 3,577,257 in the transformer with 4 actions."""
        return cls().vary(**changes)

    @classmethod
    def crafter(cls, **changes: Any) -> "DeltaIRISConfig":
        """Crafter at 64x64: 5,409,611 parameters in the tokenizer, 11,948,457 in the transformer with 17 actions."""
        sizes = {"context_channels": 64, "context": 8, "heads": 8, "frame_features": 8, "max_blocks": 21}
        training = {"revival": 0, "rewards": "two_hot", "tokenizer_steps": 5000, "tokenizer_decay": 0.01}
        scales = {"token_scale": 1.0, "termination_scale": 1.0}
        return cls().vary(**{**sizes, **training, **scales, **changes})


def levels_of(side: int, largest: int, cells: int = 2) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Blocks of one width, and the halvings behind them, that bring an image's side to at most ``largest``.

    There are two blocks at least, and one halving. Where the image does not halve so often to a map that the tokens
    can share, the map stays up to twice as large.

    Args:
        side: of the image.
        largest: of the map.
        cells: of the map along a side, one for each token.

    Raises:
        ValueError: if no map of such a size can be reached.

    Example:
        >>> levels_of(64, 16)
        ((1, 1), (True, True))
    """
    times = 1
    while side % (cells * 2 ** (times + 1)) == 0 and side >> times > largest:
        times += 1
    if side % (cells * 2) or side >> times > 2 * largest:
        raise ValueError(
            f"an image of {side}x{side} does not halve to a map of at most {2 * largest}x{2 * largest} that {cells} "
            f"tokens a side can share: resize it (16x16, 32x32, 64x64, 96x96), or give mults and halves."
        )
    blocks = max(2, times)
    return (1,) * blocks, (True,) * times + (False,) * (blocks - times)
