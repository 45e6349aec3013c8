"""PlaNet's world model (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019)."""

from functools import partial
from typing import Any

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
from wmcomponents.models.rssm.planet.config import PlaNetConfig
from wmcomponents.models.rssm.planet.objective import PlaNetModelLoss
from wmcomponents.nn import ResetBeforeGRU, glorot_init_
from wmcomponents.world_model import Noise, Observation


class PlaNet(RSSMWorldModel):
    """PlaNet's world model.

    Images are reduced to 5 bits. In training, noise of the width of a level is added (:meth:`preprocessing_noise`);
    the filter takes its mean, the middle of the level.

    Args:
        config: a preset such as ``PlaNetConfig.official()``, varied with its keyword arguments.
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
        c = config.network
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
            seen[key] = 255.0 * dequantized(observation[key], drawn, self.config.network.bits)
        return seen

    def objective(self) -> PlaNetModelLoss:
        """The paper's loss for this model."""
        return PlaNetModelLoss(self, self.config.loss, optimizer=self.config.optimizer)
