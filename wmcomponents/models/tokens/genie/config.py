"""Sizes of a Genie, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.tokens.film_config import (
    TINY_ACTIONS,
    FilmDecodingConfig,
    FilmLossConfig,
    FilmOptimizerConfig,
    FilmOutcomeConfig,
)
from wmcomponents.pretrained import ModelConfig

Block = Literal["genie", "jasmine", "1xgpt"]


@dataclass(frozen=True)
class GenieTokenizerConfig:
    """Sizes of the tokenizer of films.

    Attributes:
        patch: side of a patch, which is a token.
        vocabulary: number of codes in the codebook.
        code: size of a code.
        encoder_blocks: blocks of the encoder, each of which attends in space and in time. The paper counts either
            attention as a layer: it has twice as many.
        encoder_dim: size of a token in the encoder.
        encoder_heads: of each attention.
        decoder_blocks: likewise of the decoder.
        decoder_dim: likewise.
        decoder_heads: likewise.
    """

    patch: int = 4
    vocabulary: int = 1024
    code: int = 32
    encoder_blocks: int = 6
    encoder_dim: int = 512
    encoder_heads: int = 8
    decoder_blocks: int = 10
    decoder_dim: int = 1024
    decoder_heads: int = 16


@dataclass(frozen=True)
class GenieActionConfig:
    """Sizes of the latent action model.

    Attributes:
        actions: number of codes: what a player can do.
        action_patch: side of a patch.
        action_code: size of a code.
        action_blocks: blocks of its encoder, and of its decoder.
        action_dim: size of a token.
        action_heads: of each attention.
        action_norm: whether what its encoder tells is normalised over the batch before it is quantised; not in the
            paper. Where frames hardly differ it is nearly the same for all, and one code would do.
    """

    actions: int = 8
    action_patch: int = 16
    action_code: int = 32
    action_blocks: int = 10
    action_dim: int = 1024
    action_heads: int = 16
    action_norm: bool = False


@dataclass(frozen=True)
class GenieDynamicsConfig(FilmDecodingConfig):
    """Sizes of the dynamics.

    Attributes:
        blocks: number of blocks, each of which attends in space and in time: half of the paper's layers.
        dim: size of a token.
        heads: of each attention.
        head_dim: size of a head.
        joining: how actions meet tokens: ``"added"``, as in the paper, or ``"prepended"`` as a token of their own.
    """

    blocks: int = 24
    dim: int = 5120
    heads: int = 36
    head_dim: int = 128
    joining: Literal["added", "prepended"] = "added"
    temperature: float = 2.0


@dataclass(frozen=True)
class GenieNetworkConfig:
    """Sizes of all networks, and what they share.

    Attributes:
        tokenizer: of films.
        action_model: of latent actions.
        dynamics: of tokens.
        outcomes: of reward and end; the paper has none.
        frames: of the window, in training and in dreams.
        block: whose blocks they are made of.
    """

    tokenizer: GenieTokenizerConfig = field(default_factory=GenieTokenizerConfig)
    action_model: GenieActionConfig = field(default_factory=GenieActionConfig)
    dynamics: GenieDynamicsConfig = field(default_factory=GenieDynamicsConfig)
    outcomes: FilmOutcomeConfig = field(default_factory=FilmOutcomeConfig)
    frames: int = 16
    block: Block = "genie"


@dataclass(frozen=True)
class GenieConfig(ModelConfig):
    """Sizes and training of a Genie; the defaults are the paper's final model of 10.7 billion parameters.

    Attributes:
        network: sizes.
        loss: numbers of the losses.
        optimizer: of the optimiser.
    """

    network: GenieNetworkConfig = field(default_factory=GenieNetworkConfig)
    loss: FilmLossConfig = field(default_factory=FilmLossConfig)
    optimizer: FilmOptimizerConfig = field(default_factory=FilmOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "GenieConfig":
        """For images of 10 or 16 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        tokenizer = {"patch": 2, "vocabulary": 128, "code": 8}
        tokenizer |= {"encoder_blocks": 1, "encoder_dim": 64, "encoder_heads": 4}
        tokenizer |= {"decoder_blocks": 1, "decoder_dim": 64, "decoder_heads": 4}
        actions = {"actions": 6, "action_patch": 2, "action_code": 8}
        actions |= {"action_blocks": 1, "action_dim": 64, "action_heads": 4}
        dynamics = {"blocks": 2, "dim": 96, "heads": 4, "head_dim": 24, "rounds": 8, "temperature": 1.0, "frames": 8}
        training = {"tokenizer_steps": 1000, "worst": 0.01, "revival": 400, "warmup": 100}
        training |= {"tokenizer_rate": 1e-3, "dynamics_rate": 1e-3, **TINY_ACTIONS}
        return cls().vary(**{**tokenizer, **actions, **dynamics, **training, **changes})

    @classmethod
    def coinrun(cls, **changes: Any) -> "GenieConfig":
        """The paper's case study of CoinRun (appendix F): 6 actions, 12 layers of 512."""
        sizes: dict[str, Any] = {"encoder_blocks": 4, "decoder_blocks": 4, "decoder_dim": 512, "decoder_heads": 8}
        sizes |= {"actions": 6, "action_patch": 4, "action_blocks": 4, "action_dim": 512, "action_heads": 8}
        sizes |= {"blocks": 6, "dim": 512, "heads": 8, "head_dim": 64, "temperature": 1.0}
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def dynamics41m(cls, **changes: Any) -> "GenieConfig":
        """The smallest of the paper's scaling family: 18 layers of 512."""
        return cls._scaled(9, 8, 512, 64, **changes)

    @classmethod
    def dynamics96m(cls, **changes: Any) -> "GenieConfig":
        """Of the paper's scaling family: 16 layers of 768."""
        return cls._scaled(8, 16, 768, 64, **changes)

    @classmethod
    def dynamics192m(cls, **changes: Any) -> "GenieConfig":
        """Of the paper's scaling family: 20 layers of 1024."""
        return cls._scaled(10, 18, 1024, 64, **changes)

    @classmethod
    def dynamics404m(cls, **changes: Any) -> "GenieConfig":
        """Of the paper's scaling family: 21 layers of 1536, 22 here, where layers come in pairs."""
        return cls._scaled(11, 12, 1536, 128, **changes)

    @classmethod
    def dynamics811m(cls, **changes: Any) -> "GenieConfig":
        """Of the paper's scaling family: 20 layers of 2048."""
        return cls._scaled(10, 20, 2048, 128, **changes)

    @classmethod
    def dynamics1600m(cls, **changes: Any) -> "GenieConfig":
        """Of the paper's scaling family: 28 layers of 2560."""
        return cls._scaled(14, 22, 2560, 128, **changes)

    @classmethod
    def dynamics2700m(cls, **changes: Any) -> "GenieConfig":
        """The largest of the paper's scaling family: 36 layers of 3072."""
        return cls._scaled(18, 22, 3072, 128, **changes)

    @classmethod
    def platformers(cls, **changes: Any) -> "GenieConfig":
        """The paper's final model: 48 layers of 5120, drawn at a temperature of 2."""
        return cls().vary(**changes)

    @classmethod
    def _scaled(cls, blocks: int, heads: int, dim: int, head_dim: int, **changes: Any) -> "GenieConfig":
        return cls().vary(**{"blocks": blocks, "heads": heads, "dim": dim, "head_dim": head_dim, **changes})
