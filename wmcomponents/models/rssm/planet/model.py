"""PlaNet's world model (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019)."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torchrl.data import Bounded, Composite, TensorSpec

from wmcomponents.codecs import (
    QuantizedUnitNormal,
    UnitNormal,
    codec_from_spec,
    reward_transform,
    vector_transform,
)
from wmcomponents.decoders import BoardDecoder, MLPDecoder, MultiDecoder, TransposedConvDecoder
from wmcomponents.dynamics import RSSM, GaussianLatent
from wmcomponents.encoders import MultiEncoder
from wmcomponents.functional import dequantized
from wmcomponents.heads import BernoulliHead, NormalHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.planet.objective import PlaNetModelLoss
from wmcomponents.nn import ResetBeforeGRU, glorot_init_
from wmcomponents.world_model import Noise, Observation


@dataclass(frozen=True)
class PlaNetConfig:
    """Sizes of a PlaNet world model; the defaults are those of the released agent.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        stoch: dimensions of the stochastic state.
        min_std: smallest standard deviation of the stochastic state.
        depth: base channels of the image encoder and decoder.
        mults: channel factors of the image stages.
        bits: of the pixels that the model sees and shows.
        units: width of the heads, and of the encoder and decoder of vectors and boards, which the paper does not have.
        layers: layers of the vector encoder and decoder.
        norm: normalisation of all layers but the recurrent unit; the paper has none.
        reward_layers: hidden layers of the reward head.
        continues: whether there is a head that predicts the end of episodes; the paper has none.
        vectors: how vector observations enter: ``"identity"``, ``"symlog"``, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training).
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: larger ones than 100 in units of a power of ten, which
            is found in data before training.
        decoder: whether the model reconstructs observations.
        free_nats: subtracted from the KL of each step.
        kl_scale: weight of the KL.
        reward_scale: weight of the reward's error.
        overshooting: longest distance of latent overshooting, in steps; 0: none, as in the released agent.
        overshooting_scale: weight of latent overshooting.
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
    free_nats: float = 3.0
    kl_scale: float = 1.0
    reward_scale: float = 10.0
    overshooting: int = 0
    overshooting_scale: float = 1.0

    @classmethod
    def tiny(cls, **changes: Any) -> "PlaNetConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper; and episodes may end.

        The KL weighs little, as a few standardised numbers are worth few nats: see ``DreamerV1Config.tiny``.
        """
        sizes = {"deter": 128, "hidden": 64, "stoch": 16, "depth": 8, "units": 64, "layers": 2, "reward_layers": 2}
        kinds = {"vectors": "standardize", "rewards": "scaled", "continues": True}
        weights = {"kl_scale": 0.02, "free_nats": 0.1, "reward_scale": 1.0}
        return cls(**{**sizes, **kinds, **weights, **changes})

    @classmethod
    def official(cls, **changes: Any) -> "PlaNetConfig":
        """The released agent."""
        return cls(**changes)


class PlaNet(RSSMWorldModel):
    """PlaNet's world model.

    Images are reduced to 5 bits. In training, noise of the width of a level is added (:meth:`preprocessing_noise`);
    the filter takes its mean, the middle of the level.

    Args:
        config: sizes; a preset such as ``PlaNetConfig.official()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: uint8 images of 64 pixels a side as in the paper, or vectors,
            planes, categories, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = PlaNet(PlaNetConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'objective', 'reward']
    """

    config_class = PlaNetConfig
    config: PlaNetConfig

    def __init__(self, config: PlaNetConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        transform = vector_transform(c.vectors, observation_spec)
        sizes = {"units": c.units, "layers": c.layers}
        channels = {"depth": c.depth, "mults": c.mults}
        plain: dict[str, Any] = {"norm": c.norm, "act": "relu"}
        encoder = MultiEncoder.planet(observation_spec, **sizes, **channels, **plain, transform=transform)
        latent = GaussianLatent(c.stoch, c.min_std)
        action = codec_from_spec(action_spec).size
        gru = ResetBeforeGRU(c.hidden, c.deter)
        dynamics = RSSM.dense_gru(encoder.out_features, action, gru, latent, **plain)
        decoder = None
        if c.decoder:
            decoder = MultiDecoder(
                observation_spec,
                c.deter,
                latent.shape,
                vectors=partial(MLPDecoder, **sizes, **plain, likelihood=UnitNormal()),
                images=partial(TransposedConvDecoder, **channels, **plain, likelihood=QuantizedUnitNormal(c.bits)),
                boards=partial(BoardDecoder, units=c.units, **plain),
                transform=transform,
            )
        head = {"in_features": dynamics.feat_size, "units": c.units, "layers": c.reward_layers, **plain}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            encoder=encoder,
            dynamics=dynamics,
            decoder=decoder,
            reward_head=NormalHead(**head, transform=reward_transform(c.rewards)),
            continue_head=BernoulliHead(**head) if c.continues else None,
        )
        glorot_init_(self)
        self.config = config

    def preprocessing_noise(self) -> dict[str, TensorSpec]:
        """Uniform noise in [0, 1) for every pixel of every image."""
        shapes = {key: self.observation_spec[key].shape for key in self.encoder.groups.image_keys}
        return {key: Bounded(0.0, 1.0, shape=shape, dtype=torch.float32) for key, shape in shapes.items()}

    def preprocessed(self, observation: Observation, noise: Noise | None = None) -> Observation:
        """Images with few bits, and noise between their levels: float, in units of 0 to 255."""
        seen = dict(observation)
        for key in self.encoder.groups.image_keys:
            drawn = None if noise is None else noise[key]
            seen[key] = 255.0 * dequantized(observation[key], drawn, self.config.bits)
        return seen

    def objective(self) -> PlaNetModelLoss:
        """The paper's loss for this model."""
        c = self.config
        return PlaNetModelLoss(
            self,
            free_nats=c.free_nats,
            kl_scale=c.kl_scale,
            distance=c.overshooting,
            overshooting_scale=c.overshooting_scale,
            reward_scale=c.reward_scale,
        )
