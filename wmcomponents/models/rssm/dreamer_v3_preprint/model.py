"""DreamerV3's world model as its preprint has it (Hafner et al., arXiv 2301.04104v1, 2023)."""

from functools import partial
from typing import Any

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import SquaredError, codec_from_spec, vector_transform
from wmcomponents.decoders import BoardDecoder, MLPDecoder, MultiDecoder, TransposedConvDecoder
from wmcomponents.dynamics import RSSM, CategoricalLatent, GaussianLatent, Latent, LearnedInitialState, SigmoidStd
from wmcomponents.encoders import BoardEncoder, ConvEncoder, MLPEncoder, MultiEncoder
from wmcomponents.heads import BernoulliHead, PreprintTwoHotHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3_preprint.config import DreamerV3PreprintConfig, DreamerV3PreprintNetworkConfig
from wmcomponents.models.rssm.dreamer_v3_preprint.objective import DreamerV3PreprintModelLoss
from wmcomponents.nn import NormGRU, StrideStage, fan_average_init_, padded_deconv_plan


class DreamerV3Preprint(RSSMWorldModel):
    """The world model of DreamerV3's first generation; ``DreamerV3`` is the current one.

    Args:
        config: a preset such as ``DreamerV3PreprintConfig.s()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: uint8 images, vectors, planes, categories, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> config = DreamerV3PreprintConfig.tiny()
        >>> model = DreamerV3Preprint(config, Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'objective', 'reward']
    """

    config_class = DreamerV3PreprintConfig
    config: DreamerV3PreprintConfig

    def __init__(self, config: DreamerV3PreprintConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config.network
        transform = vector_transform(c.vectors, observation_spec)
        layer: dict[str, Any] = {"norm": "keras_layer", "act": "silu", "bias": False}
        dense = {"units": c.units, "layers": c.layers, **layer}
        image = {"depth": c.depth, "mults": c.mults, **layer}
        encoder = MultiEncoder(
            observation_spec,
            vectors=partial(MLPEncoder, **dense),
            images=partial(ConvEncoder, kernel=4, stage=StrideStage, **image),
            boards=partial(BoardEncoder, units=c.units, **layer),
            transform=transform,
        )
        latent = _latent(c)
        action = codec_from_spec(action_spec).size
        gru = NormGRU(c.units, c.deter, bias=False)
        initial = LearnedInitialState(c.deter)
        dynamics = RSSM.dense_gru(encoder.out_features, action, gru, latent, **layer, initial=initial)
        decoder = None
        if c.decoder:
            decoder = MultiDecoder(
                observation_spec,
                c.deter,
                latent.shape,
                vectors=partial(MLPDecoder, **dense),
                images=partial(
                    TransposedConvDecoder, deconv_plan=padded_deconv_plan, likelihood=SquaredError(offset=0.5), **image
                ),
                boards=partial(BoardDecoder, units=c.units, **layer),
                transform=transform,
            )
        reward_head = PreprintTwoHotHead(dynamics.feat_size, bins=c.bins, **dense)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            encoder=encoder,
            dynamics=dynamics,
            decoder=decoder,
            reward_head=reward_head,
            continue_head=BernoulliHead(dynamics.feat_size, **dense),
        )
        fan_average_init_(self)
        nn.init.zeros_(reward_head.get_parameter("out.weight"))
        self.config = config

    def objective(self) -> DreamerV3PreprintModelLoss:
        """The preprint's world-model loss for this model."""
        return DreamerV3PreprintModelLoss(self, self.config.loss, optimizer=self.config.optimizer)


def _latent(config: DreamerV3PreprintNetworkConfig) -> Latent:
    if config.latent == "categorical":
        return CategoricalLatent(config.groups, config.classes, config.unimix)
    return GaussianLatent(config.groups, std=SigmoidStd())
