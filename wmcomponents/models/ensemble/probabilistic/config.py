"""Sizes of a probabilistic ensemble, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class ProbabilisticNetworkConfig:
    """Sizes of the members.

    Attributes:
        members: how many networks there are.
        elites: how many of them, the best on data they were not trained on, predict in a dream.
        units: width of their hidden layers.
        layers: hidden layers.
        act: activation.
        propagation: whether the member that predicts a row is drawn at each step (``"TS1"``), or once (``"TSinf"``).
        learn_bounds: whether the bounds of the predicted variance are learned.
    """

    members: int = 7
    elites: int = 5
    units: int = 200
    layers: int = 4
    act: Literal["silu", "relu", "elu", "tanh"] = "silu"
    propagation: Literal["TS1", "TSinf"] = "TS1"
    learn_bounds: bool = True


@dataclass(frozen=True)
class ProbabilisticLossConfig:
    """Numbers of the loss.

    Attributes:
        bounds_scale: price of wide bounds of the variance.
    """

    bounds_scale: float = 0.01


@dataclass(frozen=True)
class ProbabilisticOptimizerConfig:
    """Numbers of the optimiser.

    Attributes:
        decay: share of every weight that a step takes away.
    """

    decay: float = 0.0


@dataclass(frozen=True)
class ProbabilisticEnsembleConfig(ModelConfig):
    """Sizes and training of a probabilistic ensemble; the defaults are MBPO's.

    Attributes:
        network: sizes of the members.
        loss: numbers of the loss.
        optimizer: numbers of the optimiser.
    """

    network: ProbabilisticNetworkConfig = field(default_factory=ProbabilisticNetworkConfig)
    loss: ProbabilisticLossConfig = field(default_factory=ProbabilisticLossConfig)
    optimizer: ProbabilisticOptimizerConfig = field(default_factory=ProbabilisticOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "ProbabilisticEnsembleConfig":
        """For small environments on a CPU: minutes, not hours."""
        return cls().vary(**{"members": 5, "elites": 4, "units": 64, "layers": 2, **changes})

    @classmethod
    def mbpo(cls, **changes: Any) -> "ProbabilisticEnsembleConfig":
        """Seven members of four layers of 200, five of which predict (MBPO, MOPO)."""
        return cls().vary(**changes)

    @classmethod
    def pets(cls, **changes: Any) -> "ProbabilisticEnsembleConfig":
        """Five members of three layers of 200, all of which predict, each for a whole dream (PETS)."""
        return cls().vary(**{"members": 5, "elites": 5, "layers": 3, "propagation": "TSinf", **changes})
