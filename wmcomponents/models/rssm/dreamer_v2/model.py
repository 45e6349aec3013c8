"""DreamerV2's world model (Hafner et al., Mastering Atari with Discrete World Models, 2021)."""

from typing import Any

from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import codec_from_spec, reward_transform, vector_transform
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM, CategoricalLatent, GaussianLatent, Latent, SigmoidStd
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, NormalHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v2.config import DreamerV2Config, DreamerV2NetworkConfig
from wmcomponents.models.rssm.dreamer_v2.objective import DreamerV2ModelLoss
from wmcomponents.nn import NormGRU, glorot_init_


class DreamerV2(RSSMWorldModel):
    """DreamerV2's world model.

    Args:
        config: a preset such as ``DreamerV2Config.atari()``, varied with its keyword arguments.
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
        c = config.network
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
        return DreamerV2ModelLoss(self, self.config.loss, optimizer=self.config.optimizer)


def _latent(config: DreamerV2NetworkConfig) -> Latent:
    if config.latent == "categorical":
        return CategoricalLatent(config.groups, config.classes, unimix=0.0)
    return GaussianLatent(config.groups, config.min_std, SigmoidStd())
