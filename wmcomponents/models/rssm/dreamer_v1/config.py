"""What a Dreamer V1 is made and trained with (Hafner et al., Dream to Control, 2020)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained.model_config import ModelConfig


@dataclass(frozen=True)
class DreamerV1NetworkConfig:
    """Sizes and kinds of the parts of a Dreamer V1 world model.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        stoch: dimensions of the stochastic state.
        min_std: smallest standard deviation of the stochastic state.
        depth: base channels of the image encoder and decoder.
        mults: channel factors of the image stages.
        units: width of the heads, and of the encoder and decoder of vectors and boards, which the paper does not have.
        layers: layers of the vector encoder and decoder.
        norm: normalisation of all layers but the recurrent unit; the paper has none.
        reward_layers: hidden layers of the reward head.
        continue_layers: hidden layers of the continue head.
        pcont: whether there is a continue head: none in control tasks, which do not terminate.
        vectors: scaling of vector observations: ``"identity"``, ``"symlog"``, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training).
        rewards: targets of the reward head: ``"plain"`` rewards as in the paper, or ``"scaled"`` ones: above 100 in
            units of a power of ten, which is found in data before training.
        decoder: whether the model reconstructs observations.
        discount: factor on the continue head's target; the head's output divided by it is P(not terminated).
    """

    deter: int = 200
    hidden: int = 200
    stoch: int = 30
    min_std: float = 0.1
    depth: int = 32
    mults: tuple[int, ...] = (1, 2, 4, 8)
    units: int = 400
    layers: int = 3
    norm: Literal["none", "keras_layer"] = "none"
    reward_layers: int = 2
    continue_layers: int = 3
    pcont: bool = False
    vectors: Literal["identity", "symlog", "standardize"] = "identity"
    rewards: Literal["plain", "scaled"] = "plain"
    decoder: bool = True
    discount: float = 0.99


@dataclass(frozen=True)
class DreamerV1LossConfig:
    """Weights of the world-model loss of Dreamer V1.

    Attributes:
        free_nats: nats below which the batch's mean KL has no gradient.
        kl_scale: weight of the KL; 1 in control tasks, 0.1 on Atari.
        continue_scale: weight of the continue head's error.
    """

    free_nats: float = 3.0
    kl_scale: float = 1.0
    continue_scale: float = 10.0


@dataclass(frozen=True)
class DreamerV1OptimizerConfig:
    """Numbers of Adam and of the gradient clipping.

    Attributes:
        lr: learning rate.
        eps: number added to the root of the second moment.
        max_norm: largest norm of the whole gradient.
        warmup: steps over which the learning rate grows from 0.
    """

    lr: float = 6e-4
    eps: float = 1e-7
    max_norm: float = 100.0
    warmup: int = 0


@dataclass(frozen=True)
class DreamerV1Config(ModelConfig):
    """A Dreamer V1 world model and its training; the defaults are the official ones for DeepMind Control from pixels.

    Attributes:
        network: sizes and kinds of the world model's parts.
        loss: weights of the world model's loss.
        optimizer: numbers of its optimiser.
    """

    network: DreamerV1NetworkConfig = field(default_factory=DreamerV1NetworkConfig)
    loss: DreamerV1LossConfig = field(default_factory=DreamerV1LossConfig)
    optimizer: DreamerV1OptimizerConfig = field(default_factory=DreamerV1OptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV1Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Under a unit normal, a standardised number is worth half a nat at most, so that with the paper's weight of the
        KL, made for thousands of pixels, nothing would be told: the weight is smaller by as much. Boards of many cells
        can pay for more, and learn faster in normalised layers: ``tiny(kl_scale=0.1, norm="keras_layer")``.
        """
        sizes = {"deter": 128, "hidden": 64, "stoch": 16, "depth": 8, "units": 64, "layers": 2, "continue_layers": 2}
        kinds = {"vectors": "standardize", "rewards": "scaled", "pcont": True}
        weights = {"kl_scale": 0.02, "free_nats": 0.1, "continue_scale": 1.0}
        return cls().vary(**{**sizes, **kinds, **weights, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "DreamerV1Config":
        """The official default, for the DeepMind Control Suite."""
        return cls().vary(**changes)

    @classmethod
    def discrete(cls, **changes: Any) -> "DreamerV1Config":
        """The paper's setting for Atari and DeepMind Lab: episodes end, and the KL weighs 0.1."""
        return cls().vary(**{"pcont": True, "kl_scale": 0.1, **changes})
