"""A joint-embedding world model with actions, as eb_jepa has it (Terver et al., 2026)."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ObservationGroups, Standardize
from wmcomponents.codecs.action import ActionVector
from wmcomponents.dynamics import ActionGRU, ConvPredictor, ResidualPredictor
from wmcomponents.encoders import BoardEncoder, ImpalaEncoder, MLPEncoder, MultiEncoder
from wmcomponents.encoders.impala import impala_map
from wmcomponents.models.joint_embedding.embedding_encoder import channel_scale
from wmcomponents.models.joint_embedding.jepa.config import JEPAConfig, JEPANetworkConfig
from wmcomponents.models.joint_embedding.jepa.objective import JEPALoss
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import Noise, Observation, Prediction, State


class MapHead(nn.Module):
    """A flat map to another of as many places: a linear map at each, then LayerNorm over all numbers.

    Args:
        shape: (C, H, W) of the map.
        channels: of the other.
    """

    def __init__(self, shape: Sequence[int], channels: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.mix = nn.Conv2d(self.shape[0], channels, 1)
        self.norm = nn.LayerNorm(channels * math.prod(self.shape[1:]))

    def forward(self, embed: Tensor) -> Tensor:
        """``[*B, C * H * W]`` to ``[*B, channels * H * W]``."""
        mixed = self.mix(embed.reshape(-1, *self.shape))
        return self.norm(mixed.reshape(*embed.shape[:-1], -1))


class JEPA(PretrainedModel):
    """Embeds observations and predicts embeddings; it predicts no reward and no end, and decodes nothing.

    State: ``embedding`` float ``[*B, L]``; with ``predictor="conv"`` it is a map, flat: where things are stays where it
    is, and what happens at a place is told from what is near it. Features: the embedding. The filter needs no past: a
    state embeds the latest observation. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a reward of yours.

    Args:
        config: sizes; a preset such as ``JEPAConfig.two_rooms()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: vectors, boards, images, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if an observation cannot be encoded, or an entry of the config has no such choice; with a map, if
            there is more than images.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026);
    Sobal et al., Learning from Reward-Free Offline Data (PLDM, 2025).

    Example:
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> model = JEPA(JEPAConfig.tiny(), Composite(observation=Unbounded(4)), Bounded(-1, 1, (2,)))
        >>> sorted(model.capabilities)
        ['features', 'objective']
    """

    config_class = JEPAConfig
    config: JEPAConfig

    def __init__(self, config: JEPAConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        n = config.network
        if n.predictor not in ("gru", "mlp", "conv"):
            raise ValueError(f"predictor is 'gru', 'mlp' or 'conv'; got {n.predictor!r}.")
        shape = _map_shape(n, observation_spec) if n.predictor == "conv" else (n.latent,)
        latent = math.prod(shape)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(embedding=Unbounded(torch.Size([latent]))),
        )
        self.config = config
        self.action_vector = ActionVector(action_spec)
        size = self.action_vector.size
        numbers = ObservationGroups.from_spec(observation_spec).vector_size
        pixels = channel_scale(n.pixel_mean, n.pixel_std, observation_spec)
        self.encoder = MultiEncoder(
            observation_spec,
            vectors=partial(MLPEncoder, units=n.units, layers=2),
            images=partial(ImpalaEncoder, channels=n.channels, blocks=n.blocks, pixels=pixels),
            boards=partial(BoardEncoder, units=n.units),
            transform=Standardize(numbers) if n.vectors == "standardize" else None,
        )
        if n.predictor == "conv":
            self.head = MapHead((n.channels[-1], *shape[1:]), n.latent)
            self.predictor = ConvPredictor(shape, size, n.map_units, n.map_layers)
        else:
            self.head = nn.Sequential(nn.Linear(self.encoder.out_features, latent), nn.LayerNorm(latent))
            self.predictor = (
                ActionGRU(latent, size) if n.predictor == "gru" else ResidualPredictor(latent, size, n.units)
            )
        # Of the objective alone, but weights: they are saved and trained with the model.
        self.inverse_dynamics = nn.Sequential(
            nn.Linear(2 * latent, n.units),
            nn.ReLU(),
            nn.Linear(n.units, n.units),
            nn.ReLU(),
            nn.Linear(n.units, size),
        )

    @property
    def capabilities(self) -> frozenset[str]:
        """Features and an objective."""
        return frozenset({"features", "objective"})

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of vector observations, once, where the configuration says so."""
        if isinstance(self.encoder.transform, Standardize):
            self.encoder.prepare({key: sequences[key] for key in self.encoder.groups.keys})

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero, ``[*batch_size, ...]``."""
        return self.action_vector.null(batch_size).to(device)

    def encode(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The embedding of an observation, ``[*B, L]``."""
        return self.head(self.encoder.embed(observation))

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The embedding of the observation; nothing else is read."""
        return {"embedding": self.encode(observation)}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The embeddings of a sequence ``[*B, T, ...]``, all at once."""
        return self.observe(state, action, observation, is_init, noise)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The embedding that the predictor expects next; no reward, no end."""
        return Prediction(
            {"embedding": self.predictor.compute(state["embedding"], self.action_vector(action))}, None, None
        )

    def features(self, state: State) -> Tensor:
        """The embedding, ``[*B, L]``."""
        return state["embedding"].clone()

    def objective(self) -> JEPALoss:
        """The objective of the config."""
        return JEPALoss(self, self.config.loss, optimizer=self.config.optimizer)


def _map_shape(network: JEPANetworkConfig, observation_spec: Composite) -> tuple[int, int, int]:
    """Shape of the map that images become.

    Raises:
        ValueError: if there is more than images, or none.
    """
    groups = ObservationGroups.from_spec(observation_spec)
    if groups.flat_sizes or groups.boards or not groups.image_keys:
        raise ValueError(
            f"predictor='conv' needs a map: observations that are images alone; got {sorted(groups.keys)}. Take "
            "'gru' or 'mlp' for these."
        )
    return network.latent, *impala_map(groups.image_shape, network.channels)[1:]
