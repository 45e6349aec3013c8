"""DINO-WM as a world model: its state is the window of patch features that the predictor reads."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded, UnboundedDiscrete

from wmcomponents.codecs import ObservationGroups, Standardize
from wmcomponents.codecs.action import ActionVector
from wmcomponents.component import Component
from wmcomponents.dynamics import DINOWMPredictor, FrameParts
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.models.joint_embedding.dino_wm.objective import DINOWMLoss
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel


class DINOWM(WorldModel):
    """Features of a frozen encoder's patches and proprioception, predicted frame by frame.

    It predicts no reward and no end, and decodes nothing; a :class:`wmcomponents.decoders.FeatureDecoder` can be
    trained beside it to look at its features. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a reward of
    yours. The encoder is whatever you have, so that the model is put together by hand: save its ``state_dict``.

    State: ``window`` float ``[*B, H, M, K]``, the tokens of the last frames, oldest first; ``filled`` int64
    ``[*B, 1]``, how many there are. The action in the newest frame's tokens is not read before one is taken. Features:
    those of the newest frame's patches, one behind the other.

    Args:
        encoder: from the image to features of patches ``[*B, N, D]``; a :class:`wmcomponents.encoders.FrozenEncoder`,
            or another that is run without gradients here.
        predictor: of the next frame.
        observation_spec: spec of one real observation: one image, and numbers, which are the proprioception.
        action_spec: spec of one real action.

    Raises:
        ValueError: if there is not one image beside numbers, or numbers or actions are not as many as the predictor's.

    Reference: Zhou et al., DINO-WM: World Models on Pre-trained Visual Features enable Zero-shot Planning (2025).

    Example:
        >>> from torch import nn
        >>> from torchrl.data import Bounded
        >>> from wmcomponents.encoders import FrozenEncoder
        >>> shown = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), position=Unbounded(2))
        >>> predictor = DINOWMPredictor(4, 8, 2, 3, embedded=2, depth=1, heads=2, head_dim=4, hidden=16)
        >>> model = DINOWM(FrozenEncoder(nn.Conv2d(3, 8, 8, 8)), predictor, shown, Bounded(-1, 1, (3,)))
        >>> model.features(model.initial_state([5])).shape
        torch.Size([5, 32])
    """

    def __init__(
        self, encoder: Component, predictor: DINOWMPredictor, observation_spec: Composite, action_spec: TensorSpec
    ) -> None:
        groups, vector = ObservationGroups.from_spec(observation_spec), ActionVector(action_spec)
        if len(groups.image_keys) != 1 or not groups.vector_size:
            raise ValueError(
                f"DINO-WM sees one image and numbers beside it; got the images {list(groups.image_keys)} and "
                f"{groups.vector_size} numbers of {list(groups.keys)}."
            )
        wanted = (predictor.proprio_encoder.in_features, predictor.action_encoder.in_features)
        if (groups.vector_size, vector.size) != wanted:
            raise ValueError(
                f"the predictor reads {wanted[0]} numbers and actions of {wanted[1]}; the environment has "
                f"{groups.vector_size} and {vector.size}."
            )
        tokens = (predictor.frames, predictor.transformer.tokens, predictor.joining.dim)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                window=Unbounded(torch.Size(tokens)),
                filled=UnboundedDiscrete(shape=torch.Size([1]), dtype=torch.int64),
            ),
        )
        self.groups, self.action_vector = groups, vector
        self.image_key = groups.image_keys[0]
        self.encoder, self.predictor = encoder, predictor
        self.proprio_scale, self.action_scale = Standardize(groups.vector_size), Standardize(vector.size)

    @property
    def capabilities(self) -> frozenset[str]:
        """Features and an objective."""
        return frozenset({"features", "objective"})

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scales of proprioception and actions, once."""
        self.proprio_scale.prepare(self.groups.numbers({key: sequences[key] for key in self.groups.keys}))
        self.action_scale.prepare(self.action_vector(sequences["action"]))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero, ``[*batch_size, ...]``."""
        return self.action_vector.null(batch_size).to(device)

    def encode(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features of the patches ``[*B, N, D]``, without gradient, and embedded proprioception ``[*B, E]``."""
        with torch.no_grad():
            visual = self.encoder.compute(observation[self.image_key])
        assert isinstance(visual, Tensor)
        return visual, self.predictor.proprio_encoder(self.proprio_scale(self.groups.numbers(observation)))

    def embedded_action(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, E]``."""
        return self.predictor.action_encoder(self.action_scale(self.action_vector(action)))

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The window with the observation at its end; alone in it where an episode begins."""
        visual, proprio = self.encode(observation)
        # What comes next is not known yet: any action will do, and none is read before it is replaced.
        seen = self.predictor.joining.join(FrameParts(visual, proprio, torch.zeros_like(proprio)))
        goes_on = ~is_init.squeeze(-1)
        window, filled = keep_where(state["window"], goes_on), keep_where(state["filled"], goes_on)
        return self._followed(self._acted(window, filled, keep_where(action, goes_on)), filled, seen)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The window with the frame that the predictor expects at its end; no reward, no end."""
        window = self._acted(state["window"], state["filled"], action)
        following = self._newest(self.predictor.transformer(window), state["filled"])
        return Prediction(self._followed(window, state["filled"], following), None, None)

    def features(self, state: State) -> Tensor:
        """Features of the newest frame's patches, ``[*B, N D]``."""
        parts = self.predictor.joining.part(self._newest(state["window"], state["filled"]))
        return parts.visual.flatten(-2).clone()

    def proprio(self, state: State) -> Tensor:
        """Embedded proprioception of the newest frame, ``[*B, E]``: a term of a goal beside the features."""
        parts = self.predictor.joining.part(self._newest(state["window"], state["filled"]))
        return parts.proprio.clone()

    def objective(self) -> DINOWMLoss:
        """The paper's loss for this model."""
        return DINOWMLoss(self)

    # -- the window ----------------------------------------------------------------------------------------------------

    def _is_at(self, place: Tensor) -> Tensor:
        """Which frame of a window ``[*B, H, M, K]`` is at a place ``[*B, 1]``, bool ``[*B, H, 1, 1]``."""
        at = torch.arange(self.predictor.frames, device=place.device) == place
        return at.unsqueeze(-1).unsqueeze(-1)

    def _newest(self, window: Tensor, filled: Tensor) -> Tensor:
        """The newest frame's tokens, ``[*B, M, K]``."""
        index = (filled - 1).clamp_min(0).view(*filled.shape, 1, 1)
        return window.take_along_dim(index, -3).squeeze(-3)

    def _acted(self, window: Tensor, filled: Tensor, action: Tensor) -> Tensor:
        """The window with an action in its newest frame."""
        embedded = self.embedded_action(action).unsqueeze(-2).expand(*window.shape[:-2], -1)
        acted = self.predictor.joining.with_action(window, embedded)
        return torch.where(self._is_at((filled - 1).clamp_min(0)), acted, window)

    def _followed(self, window: Tensor, filled: Tensor, frame: Tensor) -> State:
        """The state with one more frame ``[*B, M, K]`` at its end; the oldest leaves where there is no room."""
        most = self.predictor.frames
        is_full = (filled >= most).view(*filled.shape, 1, 1)
        moved = torch.where(is_full, window.roll(-1, -3), window)
        place = self._is_at(filled.clamp_max(most - 1))
        return {
            "window": torch.where(place, frame.unsqueeze(-3), moved),
            "filled": (filled + 1).clamp_max(most),
        }
