"""DreamerV2's world model (Hafner et al., Mastering Atari with Discrete World Models, 2021)."""

from dataclasses import dataclass
from typing import Any, Literal

from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import codec_from_spec, reward_transform, vector_transform
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM, CategoricalLatent, GaussianLatent, Latent, SigmoidStd
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, NormalHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v2.objective import DreamerV2ModelLoss
from wmcomponents.nn import NormGRU, glorot_init_


@dataclass(frozen=True)
class DreamerV2Config:
    """Sizes and weights of a DreamerV2 world model; the defaults are those of the official code.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        groups: categorical variables of the stochastic state; dimensions of a Gaussian one.
        classes: classes of each categorical variable.
        latent: ``"categorical"``, or ``"gaussian"``, the paper's ablation.
        min_std: smallest standard deviation of a Gaussian latent.
        depth: base channels of the image encoder and decoder.
        mults: channel factors of the image stages.
        units: width of the vector encoder, the vector decoder and the heads.
        layers: layers of each of them.
        norm: normalisation of all layers but the recurrent unit, which always has one.
        rewards: ``"tanh"``: the reward head learns the hyperbolic tangent of rewards, as on Atari; ``"plain"``; or
            ``"scaled"``: larger ones than 100 in units of a power of ten, found in data before training.
        pcont: whether there is a continue head (the paper's discount predictor): none in control tasks.
        vectors: how vector observations enter: ``"identity"``, ``"symlog"``, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training).
        decoder: whether the model reconstructs observations.
        discount: what the continue head's target contains.
        balance: share of the KL that trains the prior.
        free_nats: below this the batch's mean KL has no gradient.
        kl_scale: weight of the KL.
        continue_scale: weight of the continue head's error.
        lr: learning rate.
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
    balance: float = 0.8
    free_nats: float = 0.0
    kl_scale: float = 1.0
    continue_scale: float = 1.0
    lr: float = 1e-4

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV2Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Rewards are plain, large ones in units that data give, and layers are normalised as on Crafter, without which
        dreams drift off within ten steps. Under a unit normal, a standardised number is worth half a nat at most, so
        the KL holds the posterior back far less than in the paper, which sets it against thousands of pixels.
        """
        sizes = {"deter": 128, "hidden": 64, "groups": 8, "classes": 8, "depth": 8, "units": 64, "layers": 2}
        ours = {"norm": "keras_layer", "vectors": "standardize", "rewards": "scaled", "discount": 1.0, "lr": 1e-3}
        return cls(**{**sizes, **ours, "kl_scale": 0.1, "balance": 0.98, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for Atari."""
        sizes = {"deter": 600, "hidden": 600}
        weights = {"kl_scale": 0.1, "continue_scale": 5.0, "discount": 0.999, "lr": 2e-4}
        return cls(**{**sizes, **weights, **changes})

    @classmethod
    def crafter(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for Crafter: normalisation everywhere."""
        return cls(**{"norm": "keras_layer", "discount": 0.999, **changes})

    @classmethod
    def dmc_vision(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for the DeepMind Control Suite from pixels."""
        sizes = {"deter": 200, "hidden": 200}
        weights = {"rewards": "plain", "pcont": False, "free_nats": 1.0, "lr": 3e-4}
        return cls(**{**sizes, **weights, **changes})

    @classmethod
    def dmc_proprio(cls, **changes: Any) -> "DreamerV2Config":
        """The official setting for the DeepMind Control Suite from joint angles and velocities."""
        return cls.dmc_vision(**changes)


class DreamerV2(RSSMWorldModel):
    """DreamerV2's world model.

    Args:
        config: sizes; a preset such as ``DreamerV2Config.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: uint8 images, vectors, planes, categories, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = DreamerV2(DreamerV2Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'objective', 'reward']
    """

    config_class = DreamerV2Config
    config: DreamerV2Config

    def __init__(self, config: DreamerV2Config, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        transform = vector_transform(c.vectors, observation_spec)
        layer: dict[str, Any] = {"norm": c.norm, "act": "elu"}
        sizes = {"units": c.units, "layers": c.layers, "depth": c.depth, "mults": c.mults, **layer}
        encoder = MultiEncoder.planet(observation_spec, **sizes, transform=transform)
        latent = _latent(c)
        action = codec_from_spec(action_spec).size
        dynamics = RSSM.dense_gru(encoder.out_features, action, NormGRU(c.hidden, c.deter), latent, **layer)
        decoder = None
        if c.decoder:
            decoder = MultiDecoder.planet(observation_spec, c.deter, latent.shape, **sizes, transform=transform)
        head = {"in_features": dynamics.feat_size, "units": c.units, "layers": c.layers, **layer}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            encoder=encoder,
            dynamics=dynamics,
            decoder=decoder,
            reward_head=NormalHead(**head, transform=reward_transform(c.rewards)),
            continue_head=BernoulliHead(**head) if c.pcont else None,
            discount=c.discount,
        )
        glorot_init_(self)
        self.config = config

    def objective(self) -> DreamerV2ModelLoss:
        """The paper's world-model loss for this model."""
        c = self.config
        return DreamerV2ModelLoss(
            self,
            balance=c.balance,
            free_nats=c.free_nats,
            kl_scale=c.kl_scale,
            continue_scale=c.continue_scale,
            discount=self.discount,
            lr=c.lr,
        )


def _latent(config: DreamerV2Config) -> Latent:
    if config.latent == "categorical":
        return CategoricalLatent(config.groups, config.classes, unimix=0.0)
    return GaussianLatent(config.groups, config.min_std, SigmoidStd())
