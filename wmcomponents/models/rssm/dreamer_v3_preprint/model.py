"""DreamerV3's world model as its preprint has it (Hafner et al., arXiv 2301.04104v1, 2023)."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import SquaredError, codec_from_spec, vector_transform
from wmcomponents.decoders import BoardDecoder, MLPDecoder, MultiDecoder, TransposedConvDecoder
from wmcomponents.dynamics import RSSM, CategoricalLatent, GaussianLatent, Latent, LearnedInitialState, SigmoidStd
from wmcomponents.encoders import BoardEncoder, ConvEncoder, MLPEncoder, MultiEncoder
from wmcomponents.heads import BernoulliHead, PreprintTwoHotHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3_preprint.objective import DreamerV3PreprintModelLoss
from wmcomponents.nn import NormGRU, StrideStage, fan_average_init_, padded_deconv_plan


@dataclass(frozen=True)
class DreamerV3PreprintConfig:
    """Sizes of the world model of DreamerV3's preprint; the defaults are its size XL.

    Attributes:
        deter: size of the recurrent state.
        units: width of all dense layers.
        depth: base channels of the image encoder and decoder.
        layers: layers of the vector encoder, the vector decoder and the heads.
        groups: categorical variables of the stochastic state; dimensions of a Gaussian one.
        classes: classes of each categorical variable.
        latent: ``"categorical"``, or ``"gaussian"``.
        mults: channel factors of the image stages.
        bins: bins of the reward head.
        unimix: share of the uniform distribution in categorical latents.
        vectors: how vector observations enter: ``"symlog"`` as in the paper, ``"identity"``, or ``"standardize"`` (zero
            mean and unit variance, fitted to data before training).
        decoder: whether the model reconstructs observations.
        free_nats: below this the KL losses have no gradient.
    """

    deter: int = 4096
    units: int = 1024
    depth: int = 96
    layers: int = 5
    groups: int = 32
    classes: int = 32
    latent: Literal["categorical", "gaussian"] = "categorical"
    mults: tuple[int, ...] = (1, 2, 4, 8)
    bins: int = 255
    unimix: float = 0.01
    vectors: Literal["symlog", "identity", "standardize"] = "symlog"
    decoder: bool = True
    free_nats: float = 1.0

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        As in ``DreamerV3Config.tiny``, vectors are standardised and only 0.1 nats are free.
        """
        sizes = {"deter": 128, "units": 64, "depth": 8, "layers": 2, "groups": 8, "classes": 8}
        return cls(**{**sizes, "vectors": "standardize", "free_nats": 0.1, **changes})

    @classmethod
    def xs(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 8M parameters with its agent (official size, like all below)."""
        return cls(**{"deter": 256, "units": 256, "depth": 24, "layers": 1, **changes})

    @classmethod
    def s(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 18M parameters."""
        return cls(**{"deter": 512, "units": 512, "depth": 32, "layers": 2, **changes})

    @classmethod
    def m(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 37M parameters."""
        return cls(**{"deter": 1024, "units": 640, "depth": 48, "layers": 3, **changes})

    @classmethod
    def l(cls, **changes: Any) -> "DreamerV3PreprintConfig":  # noqa: E743  the size's own name
        """About 77M parameters."""
        return cls(**{"deter": 2048, "units": 768, "depth": 64, "layers": 4, **changes})

    @classmethod
    def xl(cls, **changes: Any) -> "DreamerV3PreprintConfig":
        """About 200M parameters."""
        return cls(**changes)


class DreamerV3Preprint(RSSMWorldModel):
    """The world model of DreamerV3's first generation; ``DreamerV3`` is the current one.

    Args:
        config: sizes; a preset such as ``DreamerV3PreprintConfig.s()``, varied with its keyword arguments.
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
        c = config
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
        nn.init.zeros_(reward_head.out.weight)
        self.config = config

    def objective(self) -> DreamerV3PreprintModelLoss:
        """The preprint's world-model loss for this model."""
        return DreamerV3PreprintModelLoss(self, free_nats=self.config.free_nats)


def _latent(config: DreamerV3PreprintConfig) -> Latent:
    if config.latent == "categorical":
        return CategoricalLatent(config.groups, config.classes, config.unimix)
    return GaussianLatent(config.groups, spread=SigmoidStd())
