"""Dreamer V1's world model (Hafner et al., Dream to Control: Learning Behaviors by Latent Imagination, 2020)."""

from dataclasses import dataclass
from typing import Any, Literal

from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import codec_from_spec, reward_transform, vector_transform
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM, GaussianLatent
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, NormalHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v1.objective import DreamerV1ModelLoss
from wmcomponents.nn import ResetAfterGRU, glorot_init_


@dataclass(frozen=True)
class DreamerV1Config:
    """Sizes of a Dreamer V1 world model; the defaults are the official ones (DeepMind Control Suite from pixels).

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
        vectors: how vector observations enter: ``"identity"``, ``"symlog"``, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training).
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: larger ones than 100 in units of a power of ten, which
            is found in data before training.
        decoder: whether the model reconstructs observations.
        discount: what the continue head's target contains.
        free_nats: below this the batch's mean KL has no gradient.
        kl_scale: weight of the KL.
        continue_scale: weight of the continue head's error.
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
    free_nats: float = 3.0
    kl_scale: float = 1.0
    continue_scale: float = 10.0

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV1Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Under a unit normal, a standardised number is worth half a nat at most, so that with the paper's weight of the
        KL, made for thousands of pixels, nothing would be told: the weight is smaller by as much. Boards of many cells
        can pay for more, and learn faster in normalised layers: ``tiny(kl_scale=0.1, norm="keras_layer")``.
        """
        sizes = {"deter": 128, "hidden": 64, "stoch": 16, "depth": 8, "units": 64, "layers": 2, "continue_layers": 2}
        ours = {
            "vectors": "standardize",
            "rewards": "scaled",
            "pcont": True,
            "kl_scale": 0.02,
            "free_nats": 0.1,
            "continue_scale": 1.0,
        }
        return cls(**{**sizes, **ours, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "DreamerV1Config":
        """The official default, for the DeepMind Control Suite."""
        return cls(**changes)

    @classmethod
    def discrete(cls, **changes: Any) -> "DreamerV1Config":
        """The paper's setting for Atari and DeepMind Lab: episodes end, and the KL weighs 0.1."""
        return cls(**{"pcont": True, "kl_scale": 0.1, **changes})


class DreamerV1(RSSMWorldModel):
    """Dreamer V1's world model.

    Args:
        config: sizes; a preset such as ``DreamerV1Config.official()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: uint8 images of 64 pixels a side as in the paper, or vectors,
            planes, categories, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = DreamerV1(DreamerV1Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'objective', 'reward']
    """

    config_class = DreamerV1Config
    config: DreamerV1Config

    def __init__(self, config: DreamerV1Config, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        transform = vector_transform(c.vectors, observation_spec)
        sizes = {"units": c.units, "layers": c.layers, "depth": c.depth, "mults": c.mults, "norm": c.norm}
        encoder = MultiEncoder.planet(observation_spec, **sizes, transform=transform)
        latent = GaussianLatent(c.stoch, c.min_std)
        action = codec_from_spec(action_spec).size
        gru = ResetAfterGRU(c.hidden, c.deter)
        dynamics = RSSM.dense_gru(encoder.out_features, action, gru, latent, c.norm, act="elu")
        decoder = None
        if c.decoder:
            decoder = MultiDecoder.planet(observation_spec, c.deter, latent.shape, **sizes, transform=transform)
        head = {"in_features": dynamics.feat_size, "units": c.units, "norm": c.norm, "act": "elu"}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            encoder=encoder,
            dynamics=dynamics,
            decoder=decoder,
            reward_head=NormalHead(**head, layers=c.reward_layers, transform=reward_transform(c.rewards)),
            continue_head=BernoulliHead(**head, layers=c.continue_layers) if c.pcont else None,
            discount=c.discount,
        )
        glorot_init_(self)
        self.config = config

    def objective(self) -> DreamerV1ModelLoss:
        """The paper's world-model loss for this model."""
        c = self.config
        return DreamerV1ModelLoss(
            self,
            free_nats=c.free_nats,
            kl_scale=c.kl_scale,
            continue_scale=c.continue_scale,
            discount=self.discount,
        )
