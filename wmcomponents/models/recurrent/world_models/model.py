"""World Models: V and M of Ha and Schmidhuber, World Models (2018)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

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
from wmcomponents.models.recurrent.world_models.objective import WorldModelsLoss
from wmcomponents.nn import ValidStage
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of


@dataclass(frozen=True)
class WorldModelsConfig:
    """Sizes and training of a V-M world model; the defaults are the paper's for CarRacing.

    Attributes:
        latent: size of z.
        hidden: size of the LSTM's h and c.
        components: Gaussians in a mixture.
        mixture: one mixture for each ``"dimension"`` of z, as the authors' code has it, or one for the whole
            ``"vector"``, as ctallec/world-models has it; the losses are scaled as in the one code or the other.
        forget_bias: constant on the LSTM's forget gate.
        channels: of the convolutions over images.
        growth_channels: of the maps from one pixel back to 64: the first is the dense layer's output.
        dense_act: activation after that dense layer: none in the authors' code, ReLU in ctallec/world-models.
        units: width of the layers over numbers and boards, and of hidden layers in the heads.
        layers: layers over numbers; 0 makes the autoencoder of numbers linear.
        head_layers: hidden layers of the reward and termination heads; 0 is linear in h, as the paper's.
        standardize: whether numbers, and rewards, are shifted and scaled to zero mean and unit variance, fitted to data
            before training.
        begins: whether M is told which z begins an episode (Doom).
        features: what a controller reads of the state, in this order.
        kl_tolerance: nats that are free in each dimension of z.
        reconstruction_scale: factor on the reconstruction error; the paper's 1 blurs what varies by less than about 1.
        reward_scale: factor on the reward's squared error.
        termination_weight: factor on the cross entropy of what terminates (Doom: 10); the head's probability is freed
            of it.
        vision_rate: learning rate of V over that of M; the paper's are 1e-4 and 1e-3.
        vision_steps: updates of V before those of M.
        cycle_steps: after so many updates V's turn comes again: the paper's iterative procedure; 0 for never.
        temperature: of the dream; ``model.temperature`` may be set later.
    """

    latent: int = 32
    hidden: int = 256
    components: int = 5
    mixture: Literal["dimension", "vector"] = "dimension"
    forget_bias: float = 1.0
    channels: tuple[int, ...] = (32, 64, 128, 256)
    growth_channels: tuple[int, ...] = (1024, 128, 64, 32)
    dense_act: Literal["none", "relu"] = "none"
    units: int = 256
    layers: int = 2
    head_layers: int = 0
    standardize: bool = False
    begins: bool = False
    features: tuple[Literal["z", "h", "c"], ...] = ("z", "h")
    kl_tolerance: float = 0.5
    reconstruction_scale: float = 1.0
    reward_scale: float = 1.0
    termination_weight: float = 1.0
    vision_rate: float = 0.1
    vision_steps: int = 100_000
    cycle_steps: int = 0
    temperature: float = 1.0

    @classmethod
    def tiny(cls, **changes: Any) -> "WorldModelsConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Numbers are standardised and pass through a linear autoencoder whose reconstruction error counts a thousand
        times: with the paper's weight it would keep one or two digits of what decides whether CartPole's pole falls.
        """
        sizes = {"latent": 16, "hidden": 128, "units": 64, "layers": 0, "head_layers": 1, "standardize": True}
        return cls(**{**sizes, "reconstruction_scale": 1000.0, "vision_rate": 5.0, "vision_steps": 300, **changes})

    @classmethod
    def carracing(cls, **changes: Any) -> "WorldModelsConfig":
        """CarRacing-v0: 4,348,547 parameters in V, 422,368 in M (without our reward and termination heads)."""
        return cls(**changes)

    @classmethod
    def doom(cls, **changes: Any) -> "WorldModelsConfig":
        """DoomTakeCover-v0: 4,446,915 parameters in V, 1,678,785 in M (without our reward head)."""
        sizes = {"latent": 64, "hidden": 512, "begins": True, "termination_weight": 10.0}
        return cls(**{**sizes, "features": ("z", "c", "h"), "temperature": 1.25, **changes})


class WorldModels(PretrainedModel):
    """World Models: a variational autoencoder (V) and a mixture-density recurrent network on its latents (M).

    State: ``z`` float ``[*B, latent]``, what was seen last; ``h`` and ``c`` float ``[*B, hidden]``, the LSTM's state
    before it processed that z, zero where an episode begins; with ``config.begins`` also ``first`` float ``[*B, 1]``,
    1 where z begins its episode. Features: ``[z, h]``, which the paper's controller reads (Doom: ``[z, c, h]``).

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
        c = config
        mixture = (DimensionMixture if c.mixture == "dimension" else VectorMixture)(c.latent, c.components)
        state = {"z": Unbounded(c.latent), "h": Unbounded(c.hidden), "c": Unbounded(c.hidden)}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(state | ({"first": Unbounded(1)} if c.begins else {})),
            noise_spec=Composite(observe=Composite(z=Unbounded(c.latent)), imagine=mixture.noise_spec()),
        )
        self.config = config
        transform = vector_transform("standardize" if c.standardize else "identity", observation_spec)
        self.encoder = VAEEncoder(_features(c, observation_spec, transform), c.latent, c.reconstruction_scale**-0.5)
        self.decoder = _decoder(c, observation_spec, transform)
        self.action_vector = ActionVector(action_spec)
        inputs = self.action_vector.size + (1 if c.begins else 0)
        self.memory = MDNRNN(mixture, inputs, c.hidden, c.forget_bias, c.temperature)
        head = {"units": c.units, "layers": c.head_layers, "norm": "none"}
        self.reward_head = MSEHead(c.hidden, transform=Standardize(1) if c.standardize else None, **head)
        self.termination_head = BernoulliHead(c.hidden, **head, out_keys=("terminated_logits", "terminated"))

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
        config = WorldModelsConfig(**kept, mixture="vector", forget_bias=0.0, dense_act="relu", kl_tolerance=0.0)
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
        c = self.config
        # The authors average over z's dimensions; ctallec divides the whole loss by the size of z, reward and end.
        share = 1.0 / c.latent if c.mixture == "dimension" else 1.0 / (c.latent + 2)
        return WorldModelsLoss(
            self,
            vision_steps=c.vision_steps,
            cycle_steps=c.cycle_steps,
            kl_tolerance=c.kl_tolerance,
            reconstruction_scale=c.reconstruction_scale,
            mixture_scale=share,
            reward_scale=c.reward_scale * (1.0 if c.mixture == "dimension" else share),
            termination_scale=1.0 if c.mixture == "dimension" else share,
            termination_weight=c.termination_weight,
            vision_rate=c.vision_rate,
        )

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
        """One step of the filter; see :meth:`WorldModel.observe`."""
        h, c = self.memory.advance(state["z"], state["h"], state["c"], self.inputs(action, state.get("first")))
        zero = h.new_zeros(())
        h, c = torch.where(is_init, zero, h), torch.where(is_init, zero, c)
        return self._seen(h, c, self._encode(observation, noise), is_init)

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along a sequence, all observations encoded at once."""
        time = is_init.ndim - 2
        z = self._encode(observation, noise)
        before = torch.cat([state["z"].unsqueeze(time), z.narrow(time, 0, z.shape[time] - 1)], time)
        first = None
        if self.config.begins:
            begun = is_init.to(z.dtype)
            first = torch.cat([state["first"].unsqueeze(time), begun.narrow(time, 0, z.shape[time] - 1)], time)
        h, c = self.memory.advance_sequence(before, state["h"], state["c"], self.inputs(action, first), is_init)
        return self._seen(h, c, z, is_init)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream; see :meth:`WorldModel.imagine`."""
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
        """What the paper's controller reads: ``config.features``, side by side."""
        return torch.cat([state[key] for key in self.config.features], -1)

    def terminated(self, raw: Tensor) -> Tensor:
        """P(terminated) from the head's logit, freed of the weight that terminations had in training."""
        return torch.sigmoid(raw - torch.tensor(self.config.termination_weight).log().item())

    def inputs(self, action: Tensor, first: Tensor | None) -> Tensor:
        """What M reads beside z: the action's vector, and where the family has it whether z begins its episode.

        Args:
            action: ``[*B, ...]`` as ``action_spec`` says.
            first: ``[*B, 1]``, or ``None`` where ``config.begins`` is false.
        """
        vector = self.action_vector(action)
        return vector if first is None else torch.cat([vector, first], -1)

    def _encode(self, observation: Observation, noise: Noise | None) -> Tensor:
        mu, logvar = self.encoder.encode(observation)
        return self.encoder.sample(mu, logvar, None if noise is None else noise["z"])

    def _seen(self, h: Tensor, c: Tensor, z: Tensor, is_init: Tensor) -> State:
        state = {"z": z, "h": h, "c": c}
        return state | {"first": is_init.to(z.dtype)} if self.config.begins else state


def _features(config: WorldModelsConfig, observation_spec: Composite, transform: Transform) -> MultiEncoder:
    c = config
    return MultiEncoder(
        observation_spec,
        vectors=partial(MLPEncoder, units=c.units, layers=c.layers, norm="none"),
        images=partial(ConvEncoder, depth=1, mults=c.channels, kernel=4, stage=ValidStage, norm="none", act="relu"),
        boards=partial(BoardEncoder, units=c.units),
        transform=transform,
    )


def _decoder(config: WorldModelsConfig, observation_spec: Composite, transform: Transform) -> VAEDecoder:
    c = config
    return VAEDecoder(
        observation_spec,
        c.latent,
        vectors=partial(MLPDecoder, units=c.units, layers=c.layers, norm="none"),
        images=partial(_images, c),
        boards=partial(BoardDecoder, units=c.units),
        transform=transform,
    )


def _images(
    config: WorldModelsConfig, latent: int, nothing: Sequence[int], shape: Sequence[int]
) -> TransposedConvDecoder:
    """The paper's way back to images, in [0, 1] by a sigmoid."""
    first, *rest = config.growth_channels
    if first % 4:
        raise ValueError(f"growth_channels begin with a multiple of 4 (2 x 2 pixels); got {config.growth_channels}.")
    mults = (*reversed(rest), first // 4)
    part = TransposedConvDecoder(latent, nothing, shape, depth=1, mults=mults, likelihood=SigmoidSquaredError())
    if config.dense_act == "relu":
        part.map_in = cast(Any, nn.Sequential(part.map_in, nn.ReLU()))
    return part
