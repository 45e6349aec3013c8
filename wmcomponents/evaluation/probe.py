"""A window into a latent that nothing decodes: observations read off the features by a small network."""

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.codecs.observation import ObservationCodec, VectorCodec
from wmcomponents.dream.replay_starts import filtered_states
from wmcomponents.dream.starts import model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel, keys_of


class ProbedModel(WorldModel):
    """A world model with a probe in the place of a decoder: all else is the model's own.

    Args:
        model: offers features.
        probe: features ``[*B, F]`` to observations.
    """

    def __init__(self, model: WorldModel, probe: "Probe") -> None:
        model.require("features", driver="ProbedModel", remedy="write features(), from which to read.")
        super().__init__(
            observation_spec=model.observation_spec,
            action_spec=model.action_spec,
            state_spec=model.state_spec,
            noise_spec=model.noise_spec,
        )
        self.model, self.probe = model, probe

    @property
    def capabilities(self) -> frozenset[str]:
        """The model's, and ``decode``."""
        return self.model.capabilities | {"decode"}

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """The model's state before anything was seen, ``[*batch_size, ...]``."""
        return self.model.initial_state(batch_size, device)

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The model's action that stands for none, ``[*batch_size, ...]``."""
        return self.model.null_action(batch_size, device)

    def relabelled(self, sequences: TensorDictBase) -> TensorDictBase:
        """As the model's."""
        return self.model.relabelled(sequences)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The model's filter: s_t, ``[*B, ...]``."""
        return self.model.observe(state, action, observation, is_init, noise)

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The model's filter along a sequence: s_0..s_{T-1}, ``[*B, T, ...]``."""
        return self.model.observe_sequence(state, action, observation, is_init, noise)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The model's step: s_{t+1} ``[*B, ...]``, reward and continuation ``[*B, 1]``."""
        return self.model.imagine(state, action, noise)

    def features(self, state: State) -> Tensor:
        """The model's features, ``[*B, F]``."""
        return self.model.features(state)

    def value(self, state: State) -> Tensor:
        """The model's value, ``[*B, 1]``."""
        return self.model.value(state)

    def decode(self, state: State) -> Observation:
        """What the probe reads off the features, ``[*B, ...]`` by key."""
        return self.probe(self.model.features(state))


class Probe(nn.Module):
    """Observations from features, by one MLP with two hidden layers.

    Args:
        features: F.
        model: whose observations; vectors are predicted in units of their spread.
        units: width.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int, model: WorldModel, units: int = 128) -> None:
        super().__init__()
        self.codecs = nn.ModuleDict(codecs_from_spec(model.observation_spec))
        self.sizes = [cast(ObservationCodec, codec).size for codec in self.codecs.values()]
        self.net = nn.Sequential(
            *(nn.Linear(features, units), nn.SiLU(), nn.Linear(units, units), nn.SiLU()),
            nn.Linear(units, sum(self.sizes)),
        )
        for name, width in (("feature", features), ("raw", sum(self.sizes))):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_spread", torch.ones(width))

    def forward(self, features: Tensor) -> Observation:
        """Features ``[*B, F]`` to the most likely observations ``[*B, ...]``."""
        return {key: self._codec(key).decode(raw) for key, raw in self._raw(features).items()}

    def error(self, features: Tensor, observation: Observation) -> Tensor:
        """The mean error of a batch ``[N, F]``: squared in units of the spread, or cross entropy."""
        total = features.new_zeros(())
        for (key, raw), spread in zip(self._raw(features).items(), self._split(self.raw_spread), strict=True):
            codec = self._codec(key)
            truth = codec.encode(observation[key])
            if isinstance(codec, VectorCodec):
                total = total + ((raw - truth) / spread).square().sum(-1).mean()
            else:
                total = total + codec.error(raw, truth).mean()
        return total

    def fit_scales(self, features: Tensor, observation: Observation) -> None:
        """Centre and spread of the features, and of the vectors among the observations; from ``[N, ...]``."""
        self.feature_mean, self.feature_spread = features.mean(0), features.std(0).clamp_min(1e-6)
        means, spreads = [], []
        for key in self.codecs:
            codec, truth = self._codec(key), self._codec(key).encode(observation[key]).flatten(1)
            is_vector = isinstance(codec, VectorCodec)
            means.append(truth.mean(0) if is_vector else torch.zeros_like(truth[0]))
            spreads.append(truth.std(0).clamp_min(1e-6) if is_vector else torch.ones_like(truth[0]))
        self.raw_mean, self.raw_spread = torch.cat(means), torch.cat(spreads)

    def _codec(self, key: str) -> ObservationCodec:
        return cast(ObservationCodec, self.codecs[key])

    def _split(self, flat: Tensor) -> tuple[Tensor, ...]:
        return flat.split(self.sizes, -1)

    def _raw(self, features: Tensor) -> Observation:
        flat = self.net((features - self.feature_mean) / self.feature_spread) * self.raw_spread + self.raw_mean
        shaped = {}
        for key, raw in zip(self.codecs, self._split(flat), strict=True):
            codec = self._codec(key)
            is_board = codec.encode(torch.zeros(codec.shape, dtype=codec.dtype)).ndim == 3
            shaped[key] = raw.reshape(*raw.shape[:-1], *codec.shape) if is_board else raw
        return shaped


def fit_probe(
    model: WorldModel,
    sequences: TensorDictBase,
    *,
    updates: int = 2000,
    batch_size: int = 256,
    lr: float = 1e-3,
    units: int = 128,
    horizon: int = 0,
    seed: int = 0,
) -> ProbedModel:
    """Teach a probe to read observations off a model's states; the model stays as it is.

    Fitted on filtered states alone, what it reads off an imagined state is right as far as that state is one that the
    filter would have reached. Value-equivalent models (MuZero) are not held to that; with a ``horizon`` the probe
    learns from imagined states too, each paired with what really followed under the same actions.

    Args:
        model: offers features.
        sequences: real data ``[B, T]`` in TorchRL's layout.
        updates: steps of Adam.
        batch_size: states in a step.
        lr: learning rate, which falls to zero along a cosine.
        units: width of the probe.
        horizon: imagined steps to learn from, after each of several prefixes; 0 for filtered states alone.
        seed: of the probe's weights and batches.

    Returns:
        The model with the probe as its decoder.

    Raises:
        CapabilityError: if the model offers no features.
        ValueError: if the sequences are not longer than the horizon.
    """
    model.require("features", driver="fit_probe", remedy="write features(), from which to read.")
    if not 0 <= horizon < sequences.batch_size[1]:
        raise ValueError(
            f"a horizon of {horizon} steps needs sequences of at least one more; got {sequences.batch_size[1]}."
        )
    device = model_device(model)
    with EvalMode(model), torch.no_grad():
        features, seen = _examples(model, sequences.to(device), horizon)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe(features.shape[-1], model, units).to(device)
    probe.fit_scales(features, seen)
    optimizer = torch.optim.Adam(probe.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        rows = torch.randint(len(features), (batch_size,), generator=generator).to(device)
        optimizer.zero_grad(set_to_none=True)
        probe.error(features[rows], {key: value[rows] for key, value in seen.items()}).backward()
        optimizer.step()
        schedule.step()
    return ProbedModel(model, probe.eval().requires_grad_(False))


def _examples(model: WorldModel, sequences: TensorDictBase, horizon: int) -> tuple[Tensor, Observation]:
    """Features of filtered and of imagined states, ``[N, F]``, and the observations that belong to them."""
    keys, sequences = keys_of(model.observation_spec), model.relabelled(sequences)
    states = filtered_states(model, sequences)
    features = [model.features(states).flatten(0, 1)]
    seen = {key: [cast(Tensor, sequences[key]).flatten(0, 1)] for key in keys}
    starts = range(0, sequences.batch_size[1] - horizon, max(1, horizon // 3)) if horizon else ()
    for start in starts:
        state = {key: value[:, start] for key, value in states.items()}
        alive = torch.ones_like(sequences["is_init"][:, 0, 0])
        for t in range(start, start + horizon):
            if t > start:
                alive = alive & ~(sequences["next", "done"][:, t - 1] | sequences["is_init"][:, t]).squeeze(-1)
            state = model.imagine(state, cast(Tensor, sequences["action"][:, t]), None).state
            features.append(model.features(state)[alive])
            for key in keys:
                seen[key].append(cast(Tensor, sequences["next", key][:, t])[alive])
    return torch.cat(features), {key: torch.cat(values) for key, values in seen.items()}
