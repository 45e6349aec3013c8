"""What a PlaNet is made and trained with (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained.model_config import ModelConfig


@dataclass(frozen=True)
class PlaNetNetworkConfig:
    """Sizes and kinds of the parts of a PlaNet world model.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        stoch: dimensions of the stochastic state.
        min_std: smallest standard deviation of the stochastic state.
        depth: base channels of the image encoder and decoder.
        mults: channel factors of the image stages.
        bits: bits of a pixel that the model sees and shows.
        units: width of the heads, and of the encoder and decoder of vectors and boards, which the paper does not have.
        layers: layers of the vector encoder and decoder.
        norm: normalisation of all layers but the recurrent unit; the paper has none.
        reward_layers: hidden layers of the reward head.
        continues: whether there is a head that predicts the end of episodes; the paper has none.
        vectors: scaling of vector observations: ``"identity"``, ``"symlog"``, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training).
        rewards: targets of the reward head: ``"plain"`` rewards as in the paper, or ``"scaled"`` ones: above 100 in
            units of a power of ten, which is found in data before training.
        decoder: whether the model reconstructs observations.
    """

    deter: int = 200
    hidden: int = 200
    stoch: int = 30
    min_std: float = 0.1
    depth: int = 32
    mults: tuple[int, ...] = (1, 2, 4, 8)
    bits: int = 5
    units: int = 300
    layers: int = 3
    norm: Literal["none", "keras_layer"] = "none"
    reward_layers: int = 3
    continues: bool = False
    vectors: Literal["identity", "symlog", "standardize"] = "identity"
    rewards: Literal["plain", "scaled"] = "plain"
    decoder: bool = True


@dataclass(frozen=True)
class PlaNetLossConfig:
    """Weights of the world-model loss of PlaNet.

    Attributes:
        free_nats: nats subtracted from the KL of each step; below them there is neither loss nor gradient.
        kl_scale: weight of the KL.
        reward_scale: weight of the reward's error.
        continue_scale: weight of the continue head's error, which the paper does not have.
        overshooting: longest distance of latent overshooting, in steps; 0 and 1: none, as in the released agent.
        overshooting_scale: weight of latent overshooting.
    """

    free_nats: float = 3.0
    kl_scale: float = 1.0
    reward_scale: float = 10.0
    continue_scale: float = 1.0
    overshooting: int = 0
    overshooting_scale: float = 1.0


@dataclass(frozen=True)
class PlaNetOptimizerConfig:
    """Numbers of Adam and of the gradient clipping.

    Attributes:
        lr: learning rate.
        eps: number added to the root of the second moment.
        max_norm: largest norm of the whole gradient.
        warmup: steps over which the learning rate grows from 0.
    """

    lr: float = 1e-3
    eps: float = 1e-4
    max_norm: float = 1000.0
    warmup: int = 0


@dataclass(frozen=True)
class PlaNetConfig(ModelConfig):
    """A PlaNet world model and its training; the defaults are those of the released agent.

    Attributes:
        network: sizes and kinds of the world model's parts.
        loss: weights of the world model's loss.
        optimizer: numbers of its optimiser.
    """

    network: PlaNetNetworkConfig = field(default_factory=PlaNetNetworkConfig)
    loss: PlaNetLossConfig = field(default_factory=PlaNetLossConfig)
    optimizer: PlaNetOptimizerConfig = field(default_factory=PlaNetOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "PlaNetConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper; and episodes may end.

        The KL weighs little, as a few standardised numbers are worth few nats: see ``DreamerV1Config.tiny``.
        """
        sizes = {"deter": 128, "hidden": 64, "stoch": 16, "depth": 8, "units": 64, "layers": 2, "reward_layers": 2}
        kinds = {"vectors": "standardize", "rewards": "scaled", "continues": True}
        weights = {"kl_scale": 0.02, "free_nats": 0.1, "reward_scale": 1.0}
        return cls().vary(**{**sizes, **kinds, **weights, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "PlaNetConfig":
        """The released agent."""
        return cls().vary(**changes)
