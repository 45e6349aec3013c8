"""What a DreamerV2 is made and trained with (Hafner et al., Mastering Atari with Discrete World Models, 2021)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.pretrained.model_config import ModelConfig


@dataclass(frozen=True)
class DreamerV2NetworkConfig:
    """Sizes and kinds of the parts of a DreamerV2 world model.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        groups: categorical variables of the stochastic state; dimensions of a Gaussian one.
        classes: classes of each categorical variable.
        latent: kind of the stochastic state: ``"categorical"``, or ``"gaussian"``, the paper's ablation.
        min_std: smallest standard deviation of a Gaussian latent.
        depth: base channels of the image encoder and decoder.
        mults: channel factors of the image stages.
        units: width of the vector encoder, the vector decoder and the heads.
        layers: layers of the vector encoder, the vector decoder and the heads.
        norm: normalisation of all layers but the recurrent unit, which always has one.
        rewards: targets of the reward head: the ``"tanh"`` of rewards as on Atari, ``"plain"`` rewards, or
            ``"scaled"`` ones: above 100 in units of a power of ten, which is found in data before training.
        pcont: whether there is a continue head (the paper's discount predictor): none in control tasks.
        vectors: scaling of vector observations: ``"identity"``, ``"symlog"``, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training).
        decoder: whether the model reconstructs observations.
        discount: factor on the continue head's target; the head's output divided by it is P(not terminated).
    """

    deter: int = 1024
    hidden: int = 1024
    groups: int = 32
    classes: int = 32
    latent: Literal["categorical", "gaussian"] = "categorical"
    min_std: float = 0.1
    depth: int = 48
    mults: tuple[int, ...] = (1, 2, 4, 8)
    units: int = 400
    layers: int = 4
    norm: Literal["none", "keras_layer"] = "none"
    rewards: Literal["tanh", "plain", "scaled"] = "tanh"
    pcont: bool = True
    vectors: Literal["identity", "symlog", "standardize"] = "identity"
    decoder: bool = True
    discount: float = 0.99


@dataclass(frozen=True)
class DreamerV2LossConfig:
    """Weights of the world-model loss of DreamerV2.

    Attributes:
        balance: share of the KL that trains the prior, in [0, 1].
        free_nats: nats below which the batch's mean KL has no gradient; official: 0 on Atari, 1 in control tasks.
        kl_scale: weight of the KL; official: 0.1 on Atari, 1 in control tasks.
        continue_scale: weight of the continue head's error; official: 5 on Atari.
    """

    balance: float = 0.8
    free_nats: float = 0.0
    kl_scale: float = 1.0
    continue_scale: float = 1.0


@dataclass(frozen=True)
class DreamerV2OptimizerConfig:
    """Numbers of Adam, of the gradient clipping and of the weight decay.

    Attributes:
        lr: learning rate; official: 2e-4 on Atari, 3e-4 in control tasks.
        eps: number added to the root of the second moment.
        max_norm: largest norm of the whole gradient.
        decay: share of every weight that a step takes away.
        warmup: steps over which the learning rate grows from 0.
    """

    lr: float = 1e-4
    eps: float = 1e-5
    max_norm: float = 100.0
    decay: float = 1e-6
    warmup: int = 0


@dataclass(frozen=True)
class DreamerV2Config(ModelConfig):
    """A DreamerV2 world model and its training; the defaults are those of the official code.

    Attributes:
        network: sizes and kinds of the world model's parts.
        loss: weights of the world model's loss.
        optimizer: numbers of its optimiser.
    """

    network: DreamerV2NetworkConfig = field(default_factory=DreamerV2NetworkConfig)
    loss: DreamerV2LossConfig = field(default_factory=DreamerV2LossConfig)
    optimizer: DreamerV2OptimizerConfig = field(default_factory=DreamerV2OptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV2Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Rewards are plain, large ones in units that data give, and layers are normalised as on Crafter, without which
        dreams drift off within ten steps. Under a unit normal, a standardised number is worth half a nat at most, so
        the KL holds the posterior back far less than in the paper, which sets it against thousands of pixels.
        """
        sizes = {"deter": 128, "hidden": 64, "groups": 8, "classes": 8, "depth": 8, "units": 64, "layers": 2}
        kinds = {"norm": "keras_layer", "vectors": "standardize", "rewards": "scaled", "discount": 1.0}
        weights = {"kl_scale": 0.1, "balance": 0.98, "lr": 1e-3}
        return cls().vary(**{**sizes, **kinds, **weights, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for Atari."""
        sizes = {"deter": 600, "hidden": 600}
        weights = {"kl_scale": 0.1, "continue_scale": 5.0, "discount": 0.999, "lr": 2e-4}
        return cls().vary(**{**sizes, **weights, **changes})

    @classmethod
    def crafter(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for Crafter: normalisation everywhere."""
        return cls().vary(**{"norm": "keras_layer", "discount": 0.999, **changes})

    @classmethod
    def dmc_vision(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for the DeepMind Control Suite from pixels."""
        sizes = {"deter": 200, "hidden": 200}
        weights = {"rewards": "plain", "pcont": False, "free_nats": 1.0, "lr": 3e-4}
        return cls().vary(**{**sizes, **weights, **changes})

    @classmethod
    def dmc_proprio(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for the DeepMind Control Suite from joint angles and velocities."""
        return cls.dmc_vision(**changes)
