"""Sizes of an LWM, and the numbers of its training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.tokens.config import FrameLossConfig, TokenOptimizerConfig
from wmcomponents.models.tokens.lwm.stages import ContextStage
from wmcomponents.pretrained import ModelConfig

_SMALL_TOKENIZER = {"grid": 4, "channels": 32, "mults": (1,), "blocks": 1, "latent_channels": 32}


@dataclass(frozen=True)
class LWMTokenizerConfig:
    """Sizes of the discrete autoencoder of images, aMUSEd's VQGAN without attention.

    Attributes:
        grid: side of the square of codes that stand for an image: K = grid * grid.
        channels: channels of the first level, a multiple of 32.
        mults: of ``channels``, one for each level, the last for all further ones. There are as many levels as lead from
            the image's side to the grid's by halving.
        blocks: residual blocks at a level of the encoder; the decoder has one more.
        latent_channels: channels of the encoder's output and the decoder's input.
        vocabulary: number of codes in the codebook.
        code: size of a code.
        beta: factor on the commitment loss.
        codes_from_data: whether the codebook begins with vectors of real frames that lie far apart, fitted before
            training, instead of small random numbers.
    """

    grid: int = 16
    channels: int = 128
    mults: tuple[int, ...] = (1, 2, 2, 4, 6)
    blocks: int = 2
    latent_channels: int = 64
    vocabulary: int = 8192
    code: int = 64
    beta: float = 0.25
    codes_from_data: bool = False


@dataclass(frozen=True)
class LWMTransformerConfig:
    """Sizes of the transformer over words and codes; the defaults are LLaMA-2 7B's with LWM's vision tables.

    Attributes:
        layers: number of transformer blocks.
        heads: number of attention heads.
        dim: size of the embeddings.
        hidden: width of the feed-forward, a multiple of 8.
        text_vocabulary: number of words.
        spare: codes of the vision tables beside the codebook's.
        theta: base of the rotary positions.
        max_frames: frames in the context; each takes K + 2 positions.
        top_k: of how many codes, the likeliest, the next one is drawn; all if not given.
        action_words: numbers of the words that stand for the actions; the last of the vocabulary if not given.
        reward_words: of those for a reward of -1, 0, 1.
        end_words: of those for "goes on" and "terminates".
    """

    layers: int = 32
    heads: int = 32
    dim: int = 4096
    hidden: int = 11_008
    text_vocabulary: int = 32_000
    spare: int = 256
    theta: float = 50e6
    max_frames: int = 16
    top_k: int | None = 1000
    action_words: tuple[int, ...] = ()
    reward_words: tuple[int, ...] = ()
    end_words: tuple[int, ...] = ()


@dataclass(frozen=True)
class LWMNetworkConfig:
    """Sizes of both networks.

    Attributes:
        tokenizer: sizes of the discrete autoencoder of images.
        transformer: sizes of the transformer over words and codes.
    """

    tokenizer: LWMTokenizerConfig = field(default_factory=LWMTokenizerConfig)
    transformer: LWMTransformerConfig = field(default_factory=LWMTransformerConfig)


@dataclass(frozen=True)
class LWMLossConfig(FrameLossConfig):
    """Numbers of the losses; images are in [-1, 1]. The paper takes a tokenizer that is trained already."""


@dataclass(frozen=True)
class LWMConfig(ModelConfig):
    """Sizes and training of an LWM; the defaults are those of the paper's 7B model.

    Attributes:
        network: sizes of tokenizer and transformer.
        loss: numbers of the losses.
        optimizer: learning rates.
    """

    network: LWMNetworkConfig = field(default_factory=LWMNetworkConfig)
    loss: LWMLossConfig = field(default_factory=LWMLossConfig)
    optimizer: TokenOptimizerConfig = field(default_factory=TokenOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "LWMConfig":
        """For images of 16 or 32 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        sizes = {**_SMALL_TOKENIZER, "vocabulary": 64, "code": 16, "spare": 8, "text_vocabulary": 64}
        context = {"layers": 3, "heads": 4, "dim": 128, "hidden": 256, "theta": 1e4, "max_frames": 8, "top_k": None}
        training = {"tokenizer_steps": 500, "tokenizer_every": 0, "tokenizer_frames": 64, "absolute": 0.1}
        fast = {"squared": 1.0, "worst": 0.01, "codes_from_data": True, "revival": 400}
        rates = {"tokenizer_rate": 1e-3, "transformer_rate": 1e-3}
        return cls().vary(**{**sizes, **context, **training, **fast, **rates, **changes})

    @classmethod
    def size200m(cls, **changes: Any) -> "LWMConfig":
        """The authors' configuration ``200m``, for images of 256 pixels a side."""
        return cls().vary(**{"dim": 1024, "hidden": 2048, "layers": 14, "heads": 8, **changes})

    @classmethod
    def size1b(cls, **changes: Any) -> "LWMConfig":
        """The authors' configuration ``1b``."""
        return cls().vary(**{"dim": 2048, "hidden": 5504, "layers": 22, "heads": 16, **changes})

    @classmethod
    def size3b(cls, **changes: Any) -> "LWMConfig":
        """The authors' configuration ``3b``."""
        return cls().vary(**{"dim": 3200, "hidden": 8640, "layers": 26, "heads": 32, **changes})

    @classmethod
    def size7b(cls, **changes: Any) -> "LWMConfig":
        """LWM-Chat's and LWM's published size, LLaMA-2 7B's."""
        return cls().vary(**changes)

    @classmethod
    def size13b(cls, **changes: Any) -> "LWMConfig":
        """The authors' configuration ``13b``."""
        return cls().vary(**{"dim": 5120, "hidden": 13_824, "layers": 40, "heads": 40, **changes})

    def at_stage(self, stage: ContextStage) -> "LWMConfig":
        """The same network with a stage's context and base of the rotary positions; the weights fit as they are.

        Args:
            stage: such as one of :data:`~wmcomponents.models.VISION_STAGES`.

        Raises:
            ValueError: if the stage's context does not hold two frames.
        """
        frames = stage.context // (self.network.tokenizer.grid**2 + 2)
        if frames < 2:
            raise ValueError(f"a context of {stage.context} positions does not hold two frames of this grid.")
        return self.vary(theta=stage.theta, max_frames=frames)

    def speaking(
        self,
        encode: Callable[[str], Sequence[int]],
        actions: Sequence[str],
        *,
        rewards: Sequence[str] = ("loss", "nothing", "gain"),
        ends: Sequence[str] = ("on", "end"),
    ) -> "LWMConfig":
        """The same with words that mean something to a model of texts, instead of the vocabulary's last ones.

        Args:
            encode: a text as the numbers of its words, such as a tokenizer's ``encode`` without special words.
            actions: the name of each action.
            rewards: of a negative reward, none, and a positive one.
            ends: of "goes on" and "terminates".

        Raises:
            ValueError: if a name is not one word to the tokenizer, or is outside the vocabulary.
        """
        size = self.network.transformer.text_vocabulary
        groups = [tuple(_word(encode, name, size) for name in names) for names in (actions, rewards, ends)]
        return self.vary(action_words=groups[0], reward_words=groups[1], end_words=groups[2])


def _word(encode: Callable[[str], Sequence[int]], name: str, size: int) -> int:
    found = [int(number) for number in encode(name)]
    if len(found) != 1 or not 0 <= found[0] < size:
        raise ValueError(
            f"{name!r} is to be one word, a number from 0 to {size - 1}; the tokenizer makes {found} of it: take "
            f"another name, leave out special words, or set text_vocabulary to the tokenizer's size."
        )
    return found[0]
