"""STORM's world model (Zhang et al., Efficient Stochastic Transformer based World Models, NeurIPS 2023)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import vector_transform
from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.decoders import BatchNormConvDecoder, BoardDecoder, MLPDecoder, VAEDecoder
from wmcomponents.dynamics import CategoricalLatent, StateActionTransformer
from wmcomponents.encoders import BatchNormConvEncoder, BoardEncoder, MLPEncoder, MultiEncoder
from wmcomponents.functional.broadcast import aligned
from wmcomponents.heads import BernoulliHead, Head, PreprintTwoHotHead
from wmcomponents.models.tokens.base import KVCachedModel, rows_of
from wmcomponents.models.tokens.storm.config import STORMConfig, STORMNetworkConfig
from wmcomponents.models.tokens.storm.objective import STORMLoss
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of

PLAIN: Mapping[str, Any] = {"norm": "layer", "act": "relu", "bias": False}
"""Of all fully connected layers."""


class STORM(KVCachedModel):
    """STORM: a categorical autoencoder, and a transformer over tokens that mix its latent with the action.

    State: ``stoch`` float ``[*B, groups, classes]``, one-hot, the present latent; ``hidden`` float ``[*B, dim]``, the
    transformer's output at the last step, zero where an episode begins; ``kv_cache`` float ``[*B, layers, 2, heads,
    positions, d]``, keys and values of all that the transformer has read; ``length`` int64 ``[*B, 1]``, how many
    positions of it are in use; ``recent`` float ``[*B, kept, dim]``, the newest tokens, which are read again where all
    positions are used. Features: ``stoch``, flat, and ``hidden``.

    A step is one pass of the transformer over one token, from whose output reward, end and next latent are read: a
    frame costs as little as with a recurrent network. The decoder sees the latent alone, and is not needed to dream.

    A row's cache takes 0.5 MB at the paper's size. :meth:`imagine` copies it; :meth:`imagine_inplace`, which a
    simulator uses, writes into the one it is given. Steps are not differentiable.

    Args:
        config: sizes; a preset such as ``STORMConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: vectors, uint8 images, planes, categories, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import OneHot
        >>> model = STORM(STORMConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'inplace', 'objective', 'reward']
    """

    config_class = STORMConfig
    config: STORMConfig
    reward_head: Head
    continue_head: Head

    def __init__(self, config: STORMConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config.network
        latent = CategoricalLatent(c.groups, c.classes, c.unimix)
        action_vector = ActionVector(action_spec)
        encoder, decoder = _autoencoder(c, observation_spec, latent.size)
        sizes = {"layers": c.layers, "heads": c.heads, "dim": c.dim, "dropout": c.dropout}
        dynamics = StateActionTransformer(latent, action_vector.size, positions=c.positions, kept=c.kept, **sizes)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                stoch=Unbounded(torch.Size(latent.shape)),
                hidden=Unbounded(torch.Size([c.dim])),
                kv_cache=Unbounded(torch.Size(dynamics.kv_cache_shape)),
                length=Bounded(0, c.positions, torch.Size([1]), dtype=torch.int64),
                recent=Unbounded(torch.Size([c.kept, c.dim])),
            ),
            noise_spec=Composite(stoch=latent.noise_spec()),
        )
        self.config, self.action_vector = config, action_vector
        self.encoder, self.decoder, self.dynamics = encoder, decoder, dynamics
        self.posterior = nn.Linear(encoder.out_features, latent.params)
        self.reward_head = PreprintTwoHotHead(c.dim, c.dim, 2, c.bins, outscale=1.0, **PLAIN)
        self.continue_head = BernoulliHead(c.dim, c.dim, 2, **PLAIN)

    def objective(self) -> STORMLoss:
        """The paper's loss for this model."""
        return STORMLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of vector observations, once, where the configuration says so; warn of rewards beyond the bins.

        A model that was fitted keeps its scale: its weights were learned in it.
        """
        self.encoder.prepare({key: sequences[key] for key in keys_of(self.observation_spec)})
        self.reward_head.prepare(rewards_in(sequences))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero."""
        return self.action_vector.null(batch_size).to(device)

    def encode(self, observation: Observation) -> Tensor:
        """Raw parameters of the posterior of the latent, ``[*B, params]``, which sees one observation alone.

        Args:
            observation: ``[*B, ...]`` by key.
        """
        return self.posterior(self.encoder.embed(observation))

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step of ``[*B]`` rows as :meth:`imagine`, written into the KV cache that it is given."""
        lead = state["length"].shape[:-1]
        after = self._read_step(rows_of(state), action.reshape(-1, *action.shape[len(lead) :]))
        hidden = after["hidden"]
        drawn = None if noise is None else noise["stoch"].reshape(hidden.shape[0], -1)
        after["stoch"] = self.dynamics.latent.sample(self.dynamics.prior(hidden), drawn)
        reward = self.reward_head.mean(self.reward_head.raw(hidden))
        cont = self.continue_head.mean(self.continue_head.raw(hidden))
        return Prediction(
            {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()},
            reward.reshape(*lead, 1),
            cont.reshape(*lead, 1),
        )

    def decode(self, state: State) -> Observation:
        """The most likely observation."""
        return self.decoder.mean(self.decoder.raw(state["stoch"].flatten(-2)))

    def features(self, state: State) -> Tensor:
        """The flat latent and the transformer's output at the last step."""
        return torch.cat([state["stoch"].flatten(-2), state["hidden"]], -1)

    @torch.no_grad()
    def _read(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> dict[str, Tensor]:
        """The latents of all observations."""
        raw = self.encode(observation)
        return {"stoch": self.dynamics.latent.sample(raw, None if noise is None else noise["stoch"])}

    @torch.no_grad()
    def _filtered(self, state: State, action: Tensor, seen: dict[str, Tensor], is_init: Tensor) -> State:
        """One step of the filter, written into the cache that it is given."""
        lead = is_init.shape[:-1]
        rows, begins = rows_of(state), is_init.reshape(-1, 1)
        rows["length"] = rows["length"].masked_fill(begins, 0)
        after = self._read_step(rows, action.reshape(-1, *action.shape[len(lead) :]))
        # Nothing led to the first observation of an episode: what was read in its place is wiped out.
        for key in ("hidden", "length", "recent"):
            after[key] = after[key].masked_fill(aligned(begins, after[key]), 0)
        after["kv_cache"].masked_fill_(aligned(begins, after["kv_cache"]), 0.0)
        after["stoch"] = seen["stoch"].reshape(rows["stoch"].shape).clone()
        return {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}

    def _read_step(self, rows: State, action: Tensor) -> State:
        """Read the step that leaves a state, ``[N]`` rows; the latent that it leads to is still missing."""
        token = self.dynamics.mix(rows["stoch"], self.action_vector(action))
        read = self.dynamics.read(token, rows["kv_cache"], rows["length"], rows["recent"])
        return {"hidden": read.hidden, "kv_cache": rows["kv_cache"], "length": read.length, "recent": read.recent}


def _autoencoder(
    config: STORMNetworkConfig, observation_spec: Composite, latent: int
) -> tuple[MultiEncoder, VAEDecoder]:
    c = config
    transform = vector_transform(c.vectors, observation_spec)
    stack, maps = {"units": c.units, "layers": c.encoder_layers, **PLAIN}, {"depth": c.depth, "mults": c.mults}
    board = {"norm": "layer", "act": "relu", "units": c.units}
    encoder = MultiEncoder(
        observation_spec,
        vectors=partial(MLPEncoder, **stack),
        images=partial(BatchNormConvEncoder, **maps),
        boards=partial(BoardEncoder, **board),
        transform=transform,
    )
    decoder = VAEDecoder(
        observation_spec,
        latent,
        vectors=partial(MLPDecoder, **stack),
        images=partial(BatchNormConvDecoder, **maps),
        boards=partial(BoardDecoder, **board),
        transform=transform,
        in_keys=("stoch",),
    )
    return encoder, decoder
