"""DINO-WM as a world model: its state is the window of patch features that the predictor reads."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ObservationGroups, Standardize
from wmcomponents.decoders import FeatureDecoder
from wmcomponents.dynamics import AsTokens, DINOWMPredictor, FrameParts, InChannels
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMConfig, DINOWMNetworkConfig
from wmcomponents.models.joint_embedding.dino_wm.objective import DINOWMLoss
from wmcomponents.models.joint_embedding.frozen_window import FrozenWindowModel, Given
from wmcomponents.world_model import Observation, State


class DINOWM(FrozenWindowModel):
    """Features of a frozen encoder's patches, and proprioception where there is any, predicted frame by frame.

    It predicts no reward and no end. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a reward of yours. It
    decodes where its config has a decoder, a probe that is trained beside it and changes nothing in it.

    State: ``window`` float ``[*B, H, M, K]``, features and proprioception of the last frames, oldest first;
    ``window_actions`` and ``filled`` as in :class:`FeatureWindowModel`. Features: those of the newest frame's patches,
    one behind the other.

    Args:
        config: sizes; a preset such as ``DINOWMConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one image, and beside it numbers, which are the proprioception,
            or nothing.
        action_spec: spec of one real action.
        encoder: a trained one in place of the config's: a vision transformer of ours or a masked model, whose weights
            are copied and saved with the model; or a :class:`wmcomponents.encoders.FrozenEncoder` around a backbone of
            yours, which the saved folder does not hold: ``load(folder, encoder=...)``.

    Raises:
        ValueError: if there is not one image beside numbers, the encoder gives no patches, or patches do not fill the
            image.
        TypeError: if ``encoder`` is none.

    Reference: Zhou et al., DINO-WM: World Models on Pre-trained Visual Features enable Zero-shot Planning (2025).

    Example:
        >>> from torchrl.data import Bounded, Unbounded
        >>> shown = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), position=Unbounded(2))
        >>> model = DINOWM(DINOWMConfig.tiny(), shown, Bounded(-1, 1, (3,)))
        >>> model.features(model.initial_state([5])).shape
        torch.Size([5, 256])
    """

    config_class = DINOWMConfig
    config: DINOWMConfig

    def __init__(
        self,
        config: DINOWMConfig,
        observation_spec: Composite,
        action_spec: TensorSpec,
        encoder: Given = None,
    ) -> None:
        n = config.network
        joining = _joining(n)

        def parts(groups: ObservationGroups, patches: int, dim: int) -> dict[str, torch.Size]:
            embedded = _embedded(n, dim)
            joined = joining(dim, embedded if groups.vector_size else 0, embedded)
            return {"window": joined.predicted(torch.empty(joined.count(patches), joined.dim, device="meta")).shape}

        super().__init__(
            config.encoder, encoder, n.frames, parts, observation_spec=observation_spec, action_spec=action_spec
        )
        self.config = dataclasses.replace(config, encoder=self.encoder_config)
        groups, dim, embedded = self.groups, self.dim, _embedded(n, self.dim)
        self.image_key = groups.image_keys[0]
        self.predictor = DINOWMPredictor(
            self.patches,
            dim,
            groups.vector_size,
            self.action_vector.size,
            embedded=embedded,
            frames=n.frames,
            joining=joining,
            depth=n.depth,
            heads=n.heads,
            head_dim=n.head_dim,
            hidden=n.hidden,
            dropout=n.dropout,
        )
        self.proprio_scale = Standardize(groups.vector_size)
        self.decoder = self.proprio_decoder = None
        if config.decoder.channels:
            self.decoder = FeatureDecoder(
                self.encoder_config.grid(groups.image_shape[:2]),
                dim,
                **dataclasses.asdict(config.decoder),
                image_channels=groups.image_shape[2],
            )
            self.proprio_decoder = nn.Linear(embedded, groups.vector_size) if groups.vector_size else None

    @property
    def capabilities(self) -> frozenset[str]:
        """Features and an objective; a decoder where it has one."""
        return super().capabilities | ({"decode"} if self.decoder is not None else set())

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scales of proprioception and actions, once."""
        super().prepare(sequences)
        if self.groups.vector_size:
            self.proprio_scale.prepare(self.groups.numbers({key: sequences[key] for key in self.groups.keys}))

    def look(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features of the patches ``[*B, N, D]``, without gradient, and scaled proprioception ``[*B, P]``.

        Raises:
            ValueError: if the image is not as the environment shows it.
        """
        return self.visual(observation), self.proprio_scale(self.numbers(observation))

    def encode(self, observation: Mapping[str, Tensor]) -> State:
        """See :class:`FeatureWindowModel`."""
        return {"window": self.frame_of(*self.look(observation))}

    def frame_of(self, visual: Tensor, proprio: Tensor) -> Tensor:
        """A frame of the window, ``[*B, M, K]``, of what :meth:`look` gives."""
        joining, embedded = self.predictor.joining, self.predictor.proprio_encoder(proprio)
        none = embedded.new_zeros(*embedded.shape[:-1], joining.action)
        return joining.predicted(joining.join(FrameParts(visual, embedded, none)))

    def predict(self, window: State, action: Tensor) -> State:
        """See :class:`FeatureWindowModel`."""
        joining = self.predictor.joining
        tokens = joining.acted(window["window"], self.predictor.action_encoder(action))
        return {"window": joining.predicted(self.predictor.transformer(tokens))}

    def features(self, state: State) -> Tensor:
        """Features of the newest frame's patches, ``[*B, N D]``."""
        return self._parts(state).visual.flatten(-2)

    def proprio(self, state: State) -> Tensor:
        """Embedded proprioception of the newest frame, ``[*B, E]``: a term of a goal beside the features."""
        return self._parts(state).proprio.clone()

    def _parts(self, state: State) -> FrameParts:
        joining, frame = self.predictor.joining, self.newest(state)["window"]
        none = frame.new_zeros(*frame.shape[:-2], joining.action)
        return joining.part(joining.acted(frame, none))

    def decode(self, state: State) -> Observation:
        """What the probes make of the newest frame: the image, and the numbers beside it."""
        if self.decoder is None:
            return super().decode(state)
        parts, codec = self._parts(state), self.groups.images[self.image_key]
        levels = (self.shown(parts.visual) / 2.0 + 0.5).clamp(0.0, 1.0) * codec.white
        levels = levels.round() if codec.dtype == torch.uint8 else levels
        shown = {self.image_key: codec.layout(levels).to(codec.dtype)}
        if self.proprio_decoder is not None:
            numbers = self.proprio_scale.inverse(self.proprio_decoder(parts.proprio))
            sizes = self.groups.vector_sizes
            shown |= {
                key: self.groups.codecs[key].decode(part)
                for key, part in zip(sizes, numbers.split([*sizes.values()], -1), strict=True)
            }
        return shown

    def shown(self, visual: Tensor) -> Tensor:
        """What the decoder makes of features ``[*B, N, D]``: an image from -1 to 1, ``[*B, H, W, C]``.

        It is resized from 16 times the grid of patches to the environment's size.
        """
        assert self.decoder is not None
        image = self.decoder.compute(visual)
        height, width, channels = self.groups.image_shape
        if image.shape[-3:-1] == (height, width):
            return image
        flat = image.reshape(-1, *image.shape[-3:]).movedim(-1, 1)
        sized = interpolate(flat, size=(height, width), mode="bilinear", antialias=True)
        return sized.movedim(1, -1).reshape(*image.shape[:-3], height, width, channels)

    def objective(self) -> DINOWMLoss:
        """The objective of the config."""
        return DINOWMLoss(self, self.config.loss, optimizer=self.config.optimizer)


def _embedded(network: DINOWMNetworkConfig, dim: int) -> int:
    """Size of an embedded action or proprioception beside features of size ``dim``; a token is as large as these."""
    return dim if network.joining == "tokens" else network.embedded


def _joining(network: DINOWMNetworkConfig) -> Any:
    if network.joining == "tokens":
        return AsTokens
    return partial(InChannels, proprio_repeats=network.proprio_repeats, action_repeats=network.action_repeats)
