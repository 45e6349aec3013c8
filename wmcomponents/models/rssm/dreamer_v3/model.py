"""DreamerV3's world model (Hafner et al., Mastering Diverse Domains through World Models, 2023/2025)."""

from dataclasses import dataclass
from typing import Any, Literal

from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import codecs_from_spec, vector_transform
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM, BlockGRUCell, CategoricalLatent, GaussianLatent, Prior, RecurrentPosterior
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, TwoHotHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3.objective import DreamerV3ModelLoss
from wmcomponents.nn import Doubling, PoolStage, Stage, StridedDoubling, StrideStage, UpsampleConv

STAGES: dict[str, tuple[type[Stage], type[Doubling]]] = {
    "pool": (PoolStage, UpsampleConv),
    "strided": (StrideStage, StridedDoubling),
}


@dataclass(frozen=True)
class DreamerV3Config:
    """Sizes of a DreamerV3 world model; the defaults are the official ``size200m``.

    Attributes:
        deter: size of the recurrent state.
        hidden: width of the dynamics' dense layers.
        groups: categorical variables of the stochastic state; dimensions of a Gaussian one.
        classes: classes of each categorical variable.
        depth: base channels of the image encoder and decoder.
        units: width of the vector encoder, the decoder and the heads.
        blocks: blocks of the recurrent cell.
        layers: layers of the vector encoder and decoder.
        mults: channel factors of the image stages.
        stages: what halves and doubles images: ``"pool"``, max-pooling and nearest upsampling, as in the official
            presets, or ``"strided"``, strided and transposed convolutions, as in the paper and the official option.
        bins: bins of the reward head.
        unimix: share of the uniform distribution in categorical latents.
        latent: ``"categorical"``, or ``"gaussian"`` as in PlaNet and Dreamer V1.
        vectors: how vector observations enter: ``"symlog"`` as in the paper, or ``"standardize"`` (zero mean and unit
            variance, fitted to data before training), which small models need where a few numbers of small range say
            everything, as in CartPole.
        decoder: whether the model reconstructs observations.
        horizon: H of the discount 1 - 1/H that the continue head's target contains (official: 333).
        free_nats: below this the KL losses have no gradient.
    """

    deter: int = 8192
    hidden: int = 1024
    groups: int = 32
    classes: int = 64
    depth: int = 64
    units: int = 1024
    blocks: int = 8
    layers: int = 3
    mults: tuple[int, ...] = (2, 3, 4, 4)
    stages: Literal["pool", "strided"] = "pool"
    bins: int = 255
    unimix: float = 0.01
    latent: Literal["categorical", "gaussian"] = "categorical"
    vectors: Literal["symlog", "standardize"] = "symlog"
    decoder: bool = True
    horizon: int = 333
    free_nats: float = 1.0

    @classmethod
    def tiny(cls, **changes: Any) -> "DreamerV3Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Vectors are standardised and only 0.1 nats are free: with 1 nat, a model this small spends its free nat on noise
        in the digits that decide whether CartPole's pole falls.
        """
        sizes = {"deter": 128, "hidden": 64, "groups": 8, "classes": 8, "depth": 8, "units": 64, "layers": 2}
        return cls(**{**sizes, "vectors": "standardize", "free_nats": 0.1, **changes})

    @classmethod
    def size1m(cls, **changes: Any) -> "DreamerV3Config":
        """0.69M parameters as an agent on 64x64 images (official preset, like all below)."""
        return cls(**{"deter": 512, "hidden": 64, "classes": 4, "depth": 4, "units": 64, **changes})

    @classmethod
    def size12m(cls, **changes: Any) -> "DreamerV3Config":
        """10.5M parameters."""
        return cls(**{"deter": 2048, "hidden": 256, "classes": 16, "depth": 16, "units": 256, **changes})

    @classmethod
    def size25m(cls, **changes: Any) -> "DreamerV3Config":
        """23.5M parameters."""
        return cls(**{"deter": 3072, "hidden": 384, "classes": 24, "depth": 24, "units": 384, **changes})

    @classmethod
    def size50m(cls, **changes: Any) -> "DreamerV3Config":
        """41.7M parameters."""
        return cls(**{"deter": 4096, "hidden": 512, "classes": 32, "depth": 32, "units": 512, **changes})

    @classmethod
    def size100m(cls, **changes: Any) -> "DreamerV3Config":
        """93.5M parameters."""
        return cls(**{"deter": 6144, "hidden": 768, "classes": 48, "depth": 48, "units": 768, **changes})

    @classmethod
    def size200m(cls, **changes: Any) -> "DreamerV3Config":
        """166M parameters, the official default."""
        return cls(**changes)

    @classmethod
    def size400m(cls, **changes: Any) -> "DreamerV3Config":
        """373M parameters."""
        return cls(**{"deter": 12288, "hidden": 1536, "classes": 96, "depth": 96, "units": 1536, **changes})


class DreamerV3(RSSMWorldModel):
    """DreamerV3's world model, the current (2024) generation of the official code.

    Args:
        config: sizes; a preset such as ``DreamerV3Config.size12m()``, varied with its keyword arguments.
        observation_spec: spec of one real observation (``data.observation_spec(env)``): vectors, uint8 images, planes,
            categories, or several of them.
        action_spec: spec of one real action (``data.action_spec(env)``).

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'objective', 'reward']
    """

    config_class = DreamerV3Config
    config: DreamerV3Config

    def __init__(self, config: DreamerV3Config, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        transform = vector_transform(c.vectors, observation_spec)
        sizes = {"units": c.units, "layers": c.layers, "depth": c.depth, "mults": c.mults}
        if c.stages not in STAGES:
            raise ValueError(f"stages are {' or '.join(map(repr, STAGES))}; got {c.stages!r}.")
        halving, doubling = STAGES[c.stages]
        encoder = MultiEncoder.dreamer_v3(observation_spec, **sizes, stage=halving, transform=transform)
        dynamics = _dynamics(c, encoder.out_features, action_spec)
        decoder = None
        if c.decoder:
            decoder = MultiDecoder.dreamer_v3(
                observation_spec,
                c.deter,
                dynamics.latent.shape,
                **sizes,
                stage=doubling,
                blocks=c.blocks,
                transform=transform,
            )
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            encoder=encoder,
            dynamics=dynamics,
            decoder=decoder,
            reward_head=TwoHotHead(dynamics.feat_size, c.units, layers=1, bins=c.bins),
            continue_head=BernoulliHead(dynamics.feat_size, c.units, layers=1),
            discount=1.0 - 1.0 / c.horizon,
        )
        self.config = config

    def objective(self) -> DreamerV3ModelLoss:
        """The paper's world-model loss for this model."""
        return DreamerV3ModelLoss(self, free_nats=self.config.free_nats, discount=self.discount)


def _dynamics(config: DreamerV3Config, embed: int, action_spec: TensorSpec) -> RSSM:
    c = config
    latent = CategoricalLatent(c.groups, c.classes, c.unimix) if c.latent == "categorical" else GaussianLatent(c.groups)
    action = codecs_from_spec(Composite(action=action_spec))["action"].size
    return RSSM(
        BlockGRUCell(c.deter, latent.size, action, c.hidden, c.blocks),
        latent,
        Prior(c.deter, latent.params, c.hidden, layers=2),
        RecurrentPosterior(c.deter, embed, latent.params, c.hidden, layers=1),
    )
