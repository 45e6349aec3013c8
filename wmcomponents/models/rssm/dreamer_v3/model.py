"""DreamerV3's world model (Hafner et al., Mastering Diverse Domains through World Models, 2023/2025)."""

from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import codecs_from_spec, vector_transform
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM, BlockGRUCell, CategoricalLatent, GaussianLatent, Prior, RecurrentPosterior
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, TwoHotHead
from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3Config, DreamerV3NetworkConfig
from wmcomponents.models.rssm.dreamer_v3.objective import DreamerV3ModelLoss
from wmcomponents.nn import Doubling, PoolStage, Stage, StridedDoubling, StrideStage, UpsampleConv

STAGES: dict[str, tuple[type[Stage], type[Doubling]]] = {
    "pool": (PoolStage, UpsampleConv),
    "strided": (StrideStage, StridedDoubling),
}


class DreamerV3(RSSMWorldModel):
    """DreamerV3's world model, the current (2024) generation of the official code.

    Args:
        config: a preset such as ``DreamerV3Config.size12m()``, varied with its keyword arguments.
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
        c = config.network
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
        return DreamerV3ModelLoss(self, self.config.loss, optimizer=self.config.optimizer)


def _dynamics(config: DreamerV3NetworkConfig, embed: int, action_spec: TensorSpec) -> RSSM:
    c = config
    latent = CategoricalLatent(c.groups, c.classes, c.unimix) if c.latent == "categorical" else GaussianLatent(c.groups)
    action = codecs_from_spec(Composite(action=action_spec))["action"].size
    return RSSM(
        BlockGRUCell(c.deter, latent.size, action, c.hidden, c.blocks),
        latent,
        Prior(c.deter, latent.params, c.hidden, layers=2),
        RecurrentPosterior(c.deter, embed, latent.params, c.hidden, layers=1),
    )
