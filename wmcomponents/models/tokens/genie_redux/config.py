"""Sizes of GenieRedux and GenieRedux-G, and the numbers of their training."""

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


@dataclass(frozen=True)
class ReduxSizeConfig:
    """Sizes that all networks of a GenieRedux share.

    Attributes:
        frames: of the window, in training and in dreams.
        patch: side of a patch, of tokenizer and action model.
        dim: size of a token.
        heads: of each attention.
        head_dim: size of a head.
    """

    frames: int = 16
    patch: int = 4
    dim: int = 512
    heads: int = 8
    head_dim: int = 64


@dataclass(frozen=True)
class ReduxTokenizerConfig:
    """Sizes of the tokenizer of films.

    Attributes:
        vocabulary: number of codes in the codebook.
        code: size of a code.
        tokenizer_blocks: of its encoder, and of its decoder.
    """

    vocabulary: int = 1024
    code: int = 32
    tokenizer_blocks: int = 8


@dataclass(frozen=True)
class ReduxActionConfig:
    """Sizes of the latent action model.

    Attributes:
        actions: number of codes.
        action_code: size of a code.
        action_blocks: of its encoder, and of its decoder.
    """

    actions: int = 7
    action_code: int = 32
    action_blocks: int = 8


@dataclass(frozen=True)
class ReduxDynamicsConfig(FilmDecodingConfig):
    """Sizes of the dynamics.

    Attributes:
        blocks: number of blocks.
        embedding: of tokens: ``"learned"``, or ``"skipped"``, to which a map of the tokenizer's codes is added.
    """

    blocks: int = 12
    embedding: Literal["learned", "skipped"] = "learned"


@dataclass(frozen=True)
class ReduxGuidedNetworkConfig:
    """Sizes of the networks of a GenieRedux-G.

    Attributes:
        size: of all networks.
        tokenizer: of films.
        dynamics: of tokens.
        outcomes: of reward and end; the papers have none.
    """

    size: ReduxSizeConfig = field(default_factory=ReduxSizeConfig)
    tokenizer: ReduxTokenizerConfig = field(default_factory=ReduxTokenizerConfig)
    dynamics: ReduxDynamicsConfig = field(default_factory=ReduxDynamicsConfig)
    outcomes: FilmOutcomeConfig = field(default_factory=FilmOutcomeConfig)


@dataclass(frozen=True)
class ReduxNetworkConfig(ReduxGuidedNetworkConfig):
    """Sizes of the networks of a GenieRedux.

    Attributes:
        action_model: of latent actions.
    """

    action_model: ReduxActionConfig = field(default_factory=ReduxActionConfig)


REDUX_LOSS = FilmLossConfig(tokenizer_steps=100_000)
"""The paper's."""

REDUX_OPTIMIZER = FilmOptimizerConfig(1e-4, 1e-4, 1e-4, 0.5, 5000)
"""The paper's: a rate of 1e-4, gradients clipped at 0.5."""

_TINY: dict[str, Any] = {
    **{"frames": 8, "patch": 2, "dim": 64, "heads": 4, "head_dim": 16},
    **{"vocabulary": 128, "code": 8, "tokenizer_blocks": 1, "blocks": 2, "rounds": 8},
    **{"tokenizer_steps": 1000, "worst": 0.01, "revival": 400, "warmup": 100},
    **{"tokenizer_rate": 1e-3, "dynamics_rate": 1e-3},
}


@dataclass(frozen=True)
class GenieReduxConfig(ModelConfig):
    """Sizes and training of a GenieRedux; the defaults are the paper's for CoinRun.

    Attributes:
        network: sizes.
        loss: numbers of the losses.
        optimizer: of the optimiser.
    """

    network: ReduxNetworkConfig = field(default_factory=ReduxNetworkConfig)
    loss: FilmLossConfig = REDUX_LOSS
    optimizer: FilmOptimizerConfig = REDUX_OPTIMIZER

    @classmethod
    def tiny(cls, **changes: Any) -> "GenieReduxConfig":
        """For images of 10 or 16 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        return cls().vary(**{**_TINY, "actions": 6, "action_code": 8, "action_blocks": 1, **TINY_ACTIONS, **changes})

    @classmethod
    def coinrun(cls, **changes: Any) -> "GenieReduxConfig":
        """CoinRun at 64x64, with 7 latent actions."""
        return cls().vary(**changes)


@dataclass(frozen=True)
class GenieReduxGConfig(ModelConfig):
    """Sizes and training of a GenieRedux-G; the defaults are the workshop paper's for CoinRun.

    Attributes:
        network: sizes.
        loss: numbers of the losses.
        optimizer: of the optimiser.
    """

    network: ReduxGuidedNetworkConfig = field(default_factory=ReduxGuidedNetworkConfig)
    loss: FilmLossConfig = REDUX_LOSS
    optimizer: FilmOptimizerConfig = REDUX_OPTIMIZER

    @classmethod
    def tiny(cls, **changes: Any) -> "GenieReduxGConfig":
        """For images of 10 or 16 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        return cls().vary(**{**_TINY, **changes})

    @classmethod
    def coinrun(cls, **changes: Any) -> "GenieReduxGConfig":
        """CoinRun at 64x64, with its own actions."""
        return cls().vary(**changes)

    @classmethod
    def autoexplore(cls, **changes: Any) -> "GenieReduxGConfig":
        """The later paper's: with the token-distance term and the token input skip."""
        return cls().vary(**{"embedding": "skipped", "distance_weight": 1.0, **changes})
