"""World Models: V and M of Ha and Schmidhuber, World Models (2018)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec, Unbounded

from wmcomponents.codecs import SigmoidSquaredError, Standardize, Transform, vector_transform
from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.decoders import BoardDecoder, MLPDecoder, TransposedConvDecoder, VAEDecoder
from wmcomponents.dynamics import MDNRNN, DimensionMixture, VectorMixture
from wmcomponents.encoders import BoardEncoder, ConvEncoder, MLPEncoder, MultiEncoder, VAEEncoder
from wmcomponents.heads import BernoulliHead, MSEHead
from wmcomponents.models.recurrent.world_models import official as official
from wmcomponents.models.recurrent.world_models.config import (
    WorldModelsConfig,
    WorldModelsNetworkConfig,
    WorldModelsVisionConfig,
)
from wmcomponents.models.recurrent.world_models.objective import WorldModelsLoss
from wmcomponents.nn import ValidStage
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of


class WorldModels(PretrainedModel):
    """World Models: a variational autoencoder (V) and a mixture-density recurrent network on its latents (M).

    State: ``z`` float ``[*B, latent]``, what was seen last; ``h`` and ``c`` float ``[*B, hidden]``, the LSTM's state
    before it processed that z, zero where an episode begins; where M is told which z begins an episode also ``first``
    float ``[*B, 1]``, 1 where z does. Features: ``[z, h]``, which the paper's controller reads (Doom: ``[z, c, h]``).

    A step feeds z_t and a_t to the LSTM; the mixture over z_{t+1}, the reward and the termination are read from
    h_{t+1}. Observing takes z_{t+1} from the real x_{t+1} instead of the mixture.

    Args:
        config: sizes; a preset such as ``WorldModelsConfig.carracing()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: 64x64 uint8 images, numbers, boards, categories, or several.
        action_spec: spec of one real action.

    Raises:
        ValueError: if sizes do not fit each other, or an observation cannot be encoded.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> model = WorldModels(WorldModelsConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'objective', 'reward']
    """

    config_class = WorldModelsConfig
    format_1_weights = ((r"^reward_head\.transform\.", "reward_head.distribution.transform."),)
    config: WorldModelsConfig

    def __init__(self, config: WorldModelsConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net, v, m = config.network, config.network.vision, config.network.memory
        mixture = (DimensionMixture if m.mixture == "dimension" else VectorMixture)(v.latent, m.components)
        state = {"z": Unbounded(v.latent), "h": Unbounded(m.hidden), "c": Unbounded(m.hidden)}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(state | ({"first": Unbounded(1)} if m.begins else {})),
            noise_spec=Composite(observe=Composite(z=Unbounded(v.latent)), imagine=mixture.noise_spec()),
        )
        self.config = config
        transform = vector_transform("standardize" if net.standardize else "identity", observation_spec)
        scale = config.loss.reconstruction_scale**-0.5
        self.encoder = VAEEncoder(_features(net, observation_spec, transform), v.latent, scale)
        self.decoder = _decoder(net, observation_spec, transform)
        self.action_vector = ActionVector(action_spec)
        inputs = self.action_vector.size + (1 if m.begins else 0)
        self.memory = MDNRNN(mixture, inputs, m.hidden, m.forget_bias, m.temperature)
        head = {"units": net.units, "layers": net.head_layers, "norm": "none"}
        self.reward_head = MSEHead(m.hidden, transform=Standardize(1) if net.standardize else None, **head)
        self.termination_head = BernoulliHead(m.hidden, **head, out_keys=("terminated_logits", "terminated"))

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
    ) -> "WorldModels":
        """The model of a checkpoint of ctallec/world-models: V and M.

        Args:
            weights: the repository's ``logdir`` as a mapping from file names (``vae/best.tar``, ``mdrnn/best.tar``), or
                a mapping with ``vae`` and ``mdrnn``.
            observation_spec: the key of the image; ``pixels`` if not given.
            action_spec: of the environment, as the model was trained on; unbounded numbers if not given.

        Raises:
            BadModelError: if a key is unknown, missing, or of another shape.
        """
        merged = official.merged(weights)
        sizes = official.sizes(merged)
        shown, acted = official.specs(sizes, observation_spec, action_spec)
        kept = {key: value for key, value in sizes.items() if key not in ("pixels", "action")}
        config = WorldModelsConfig().vary(**kept, mixture="vector", forget_bias=0.0, dense_act="relu", kl_tolerance=0.0)
        model = cls(config, shown, acted)
        return load_mapped(model, official.translated(merged, sizes, model.action_vector), official.RULES).eval()

    @property
    def temperature(self) -> float:
        """Of the dream: divides the mixture's logits, its root multiplies the spread; 1 is the model as it learned."""
        return self.memory.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.memory.temperature = value

    def objective(self) -> WorldModelsLoss:
        """The paper's losses for this model: V's first, then M's."""
        return WorldModelsLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of numbers and rewards, once, where the model standardises them."""
        self.encoder.features.prepare({key: sequences[key] for key in keys_of(self.observation_spec)})
        self.reward_head.prepare(rewards_in(sequences))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero."""
        return self.action_vector.null(batch_size).to(device)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """One step of the filter, of ``[*B]`` rows; see :meth:`WorldModel.observe`."""
        h, c = self.memory.advance(state["z"], state["h"], state["c"], self.inputs(action, state.get("first")))
        zero = h.new_zeros(())
        h, c = torch.where(is_init, zero, h), torch.where(is_init, zero, c)
        return self._seen(h, c, self._encode(observation, noise), is_init)

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along a sequence ``[*B, T]``, all observations encoded at once."""
        time = is_init.ndim - 2
        z = self._encode(observation, noise)
        before = torch.cat([state["z"].unsqueeze(time), z.narrow(time, 0, z.shape[time] - 1)], time)
        first = None
        if self.config.network.memory.begins:
            begun = is_init.to(z.dtype)
            first = torch.cat([state["first"].unsqueeze(time), begun.narrow(time, 0, z.shape[time] - 1)], time)
        h, c = self.memory.advance_sequence(before, state["h"], state["c"], self.inputs(action, first), is_init)
        return self._seen(h, c, z, is_init)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream, of ``[*B]`` rows; see :meth:`WorldModel.imagine`."""
        component, value = (None, None) if noise is None else (noise["component"], noise["value"])
        inputs = self.inputs(action, state.get("first"))
        z, h, c, _ = self.memory.compute(state["z"], state["h"], state["c"], inputs, component, value)
        after = self._seen(h, c, z, torch.zeros_like(h[..., :1], dtype=torch.bool))
        reward = self.reward_head.mean(self.reward_head.raw(h))
        return Prediction(after, reward, 1.0 - self.terminated(self.termination_head.raw(h)))

    def decode(self, state: State) -> Observation:
        """What z looks like."""
        return self.decoder.mean(self.decoder.raw(state["z"]))

    def features(self, state: State) -> Tensor:
        """What the paper's controller reads: ``config.network.features``, side by side."""
        return torch.cat([state[key] for key in self.config.network.features], -1)

    def terminated(self, raw: Tensor) -> Tensor:
        """P(terminated) from the head's logit, both ``[*B, 1]``, freed of terminations' weight in training."""
        return torch.sigmoid(raw - torch.tensor(self.config.loss.termination_weight).log().item())

    def inputs(self, action: Tensor, first: Tensor | None) -> Tensor:
        """What M reads beside z: the action's vector, and where the family has it whether z begins its episode.

        Args:
            action: ``[*B, ...]`` as ``action_spec`` says.
            first: ``[*B, 1]``, or ``None`` where ``network.memory.begins`` is false.
        """
        vector = self.action_vector(action)
        return vector if first is None else torch.cat([vector, first], -1)

    def _encode(self, observation: Observation, noise: Noise | None) -> Tensor:
        mu, logvar = self.encoder.encode(observation)
        return self.encoder.sample(mu, logvar, None if noise is None else noise["z"])

    def _seen(self, h: Tensor, c: Tensor, z: Tensor, is_init: Tensor) -> State:
        state = {"z": z, "h": h, "c": c}
        return state | {"first": is_init.to(z.dtype)} if self.config.network.memory.begins else state


def _features(config: WorldModelsNetworkConfig, observation_spec: Composite, transform: Transform) -> MultiEncoder:
    c = config
    return MultiEncoder(
        observation_spec,
        vectors=partial(MLPEncoder, units=c.units, layers=c.vision.layers, norm="none"),
        images=partial(
            ConvEncoder, depth=1, mults=c.vision.channels, kernel=4, stage=ValidStage, norm="none", act="relu"
        ),
        boards=partial(BoardEncoder, units=c.units),
        transform=transform,
    )


def _decoder(config: WorldModelsNetworkConfig, observation_spec: Composite, transform: Transform) -> VAEDecoder:
    c = config
    return VAEDecoder(
        observation_spec,
        c.vision.latent,
        vectors=partial(MLPDecoder, units=c.units, layers=c.vision.layers, norm="none"),
        images=partial(_images, c.vision),
        boards=partial(BoardDecoder, units=c.units),
        transform=transform,
    )


def _images(
    config: WorldModelsVisionConfig, latent: int, nothing: Sequence[int], shape: Sequence[int]
) -> TransposedConvDecoder:
    """The paper's way back to images, in [0, 1] by a sigmoid."""
    first, *rest = config.decoder_channels
    if first % 4:
        raise ValueError(f"decoder_channels begin with a multiple of 4 (2 x 2 pixels); got {config.decoder_channels}.")
    mults = (*reversed(rest), first // 4)
    part = TransposedConvDecoder(latent, nothing, shape, depth=1, mults=mults, likelihood=SigmoidSquaredError())
    if config.dense_act == "relu":
        part.map_in = nn.Sequential(part.map_in, nn.ReLU())
    return part
