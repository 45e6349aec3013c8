"""Dreamer V1's world model (Hafner et al., Dream to Control: Learning Behaviors by Latent Imagination, 2020)."""

from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import codec_from_spec, reward_transform, vector_transform
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM, GaussianLatent
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, NormalHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v1.config import DreamerV1Config
from wmcomponents.models.rssm.dreamer_v1.objective import DreamerV1ModelLoss
from wmcomponents.nn import ResetAfterGRU, glorot_init_


class DreamerV1(RSSMWorldModel):
    """Dreamer V1's world model.

    Args:
        config: a preset such as ``DreamerV1Config.official()``, varied with its keyword arguments.
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
        c = config.network
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
        return DreamerV1ModelLoss(self, self.config.loss, optimizer=self.config.optimizer)
