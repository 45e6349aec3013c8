"""What worlds of features share whose predictor reads a window: the state, the filter and the dream."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded, UnboundedDiscrete

from wmcomponents.codecs import Standardize
from wmcomponents.codecs.action import ActionVector
from wmcomponents.functional.broadcast import aligned, keep_where
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import Noise, Observation, Prediction, State, items_of

ACTIONS, FILLED = "window_actions", "filled"
"""State keys beside the parts of the frames: the actions taken after them, and how many frames there are."""


class FeatureWindowModel(PretrainedModel):
    """Base of worlds of features: the state is the window of frames, and of actions between them, that is read next.

    A family says what a frame holds (:meth:`encode`), and what follows each frame of a window (:meth:`predict`). It
    predicts no reward and no end: dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a reward of yours.

    State: each part of a frame by its name, float ``[*B, H, ...]``, oldest first; ``window_actions`` float
    ``[*B, H, A]``, the action taken after each frame, 0 after the newest; ``filled`` int64 ``[*B, 1]``, how many frames
    there are. What lies behind them is read by nothing.

    Args:
        frames: H, most frames that are read.
        parts: shape of each part of a frame, by its name, without batch dims; the names begin with ``window``, so that
            no observation is called so.
        observation_spec: spec of one real observation.
        action_spec: spec of one real action.

    Raises:
        ValueError: if there is no frame, or the action cannot be encoded.
    """

    def __init__(
        self,
        frames: int,
        parts: Mapping[str, Sequence[int]],
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
    ) -> None:
        if frames < 1:
            raise ValueError(f"the window has at least one frame; got frames={frames}.")
        vector = ActionVector(action_spec)
        shapes = {**parts, ACTIONS: (vector.size,)}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                {
                    **{name: Unbounded(torch.Size([frames, *shape])) for name, shape in shapes.items()},
                    FILLED: UnboundedDiscrete(shape=torch.Size([1]), dtype=torch.int64),
                }
            ),
        )
        self.frames = frames
        self.action_vector, self.action_scale = vector, Standardize(vector.size)

    # -- what a family writes ------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, observation: Mapping[str, Tensor]) -> State:
        """What a frame holds of an observation ``[*B, ...]``: every part by its name, ``[*B, ...]``."""

    @abstractmethod
    def predict(self, window: State, action: Tensor) -> State:
        """The frame that follows each frame of a window, out of that frame and those before it.

        Args:
            window: every part by its name, ``[*B, T, ...]``, at most as many frames as are read.
            action: taken after each frame, as :meth:`action_numbers` gives it, ``[*B, T, A]``.

        Returns:
            Every part by its name, ``[*B, T, ...]``.
        """

    def action_numbers(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, A]``: its vector, with mean 0 and deviation 1 over the data."""
        return self.action_scale(self.action_vector(action))

    def check_shown(self, observation: Mapping[str, Tensor]) -> None:
        """Refuse observations that are not as the environment shows them; many an encoder would take them silently.

        Args:
            observation: ``[*B, ...]`` by key.

        Raises:
            ValueError: if an entry has another shape, such as frames of another size or with the channels first, or is
                no longer made of bytes.
        """
        for key, leaf in items_of(self.observation_spec):
            value = observation[key]
            is_other = leaf.dtype == torch.uint8 and value.dtype != leaf.dtype
            if is_other or value.shape[value.ndim - leaf.ndim :] != leaf.shape:
                raise ValueError(
                    f"{type(self).__name__} sees {key!r} as the environment of its training shows it, {leaf.dtype} "
                    f"[..., {', '.join(map(str, leaf.shape))}]; got {value.dtype} {[*value.shape]}: resize it, and "
                    f"order its channels, as there."
                )

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of the actions, once."""
        self.action_scale.prepare(self.action_vector(sequences["action"]))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero, ``[*batch_size, ...]``."""
        return self.action_vector.null(batch_size).to(device)

    @property
    def capabilities(self) -> frozenset[str]:
        """Features and an objective."""
        return frozenset({"features", "objective"})

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The window with the observation at its end; alone in it where an episode begins."""
        return self._seen(state, action, self.encode(observation), is_init)

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """As :meth:`observe` of each step; the observations are encoded all at once."""
        time, states = is_init.ndim - 2, []
        for step in self._steps(action, observation, is_init):
            state = self._seen(state, *step)
            states.append(state)
        return {key: torch.stack([one[key] for one in states], time) for key in states[0]}

    def observe_last(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The last state of :meth:`observe_sequence`, without keeping those before it."""
        for step in self._steps(action, observation, is_init):
            state = self._seen(state, *step)
        return state

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The window with the frame that the predictor expects at its end; no reward, no end."""
        left = self._acted(state, self.action_numbers(action))
        window = {key: value for key, value in left.items() if key not in (ACTIONS, FILLED)}
        after = self.predict(window, left[ACTIONS])
        following = {name: self._at_newest(value, left[FILLED]) for name, value in after.items()}
        return Prediction(self._followed(left, following), None, None)

    def features(self, state: State) -> Tensor:
        """The newest frame's features, flat, ``[*B, F]``."""
        return self.newest(state)["window"].flatten(state[FILLED].ndim - 1)

    # -- the window ----------------------------------------------------------------------------------------------------

    def newest(self, state: State) -> State:
        """The newest frame of states, zeros before there is one: every part by its name, ``[*B, ...]``."""
        return {
            name: self._at_newest(value, state[FILLED])
            for name, value in state.items()
            if name not in (ACTIONS, FILLED)
        }

    def _steps(self, action: Tensor, observation: Observation, is_init: Tensor):
        """The action that led to each step of a sequence ``[*B, T, ...]``, its frame, and whether it is a first one."""
        time, frames = is_init.ndim - 2, self.encode(observation)
        for t in range(is_init.shape[time]):
            frame = {name: value.select(time, t) for name, value in frames.items()}
            yield action.select(time, t), frame, is_init.select(time, t)

    def _seen(self, state: State, action: Tensor, frame: State, is_init: Tensor) -> State:
        """The state with a real frame ``[*B, ...]`` at its end, and what was before it where the episode goes on."""
        goes_on = ~is_init
        kept = {key: keep_where(value, goes_on) for key, value in state.items()}
        # What is no action, where an episode begins, may be anything.
        return self._followed(self._acted(kept, self.action_numbers(keep_where(action, goes_on))), frame)

    def _acted(self, state: State, action: Tensor) -> State:
        """The state with an action ``[*B, A]`` behind its newest frame."""
        newest = self._is_at(state[FILLED] - 1, state[ACTIONS])
        return {**state, ACTIONS: torch.where(newest, action.unsqueeze(-2), state[ACTIONS])}

    def _followed(self, state: State, frame: State) -> State:
        """The state with one more frame at its end; the oldest leaves where there is no room."""
        filled = state[FILLED]
        axis, is_full, place = filled.ndim - 1, filled >= self.frames, filled.clamp_max(self.frames - 1)
        after = {FILLED: (filled + 1).clamp_max(self.frames)}
        for name, value in {**frame, ACTIONS: torch.zeros_like(state[ACTIONS].select(-2, 0))}.items():
            window = state[name]
            moved = torch.where(aligned(is_full, window), window.roll(-1, axis), window)
            after[name] = torch.where(self._is_at(place, window), value.unsqueeze(axis), moved)
        return after

    def _is_at(self, place: Tensor, window: Tensor) -> Tensor:
        """Which frame of ``[*B, H, ...]`` is at a place ``[*B, 1]``, bool, to be broadcast with it."""
        return aligned(torch.arange(self.frames, device=place.device) == place, window)

    def _at_newest(self, window: Tensor, filled: Tensor) -> Tensor:
        """The newest of ``[*B, H, ...]``, ``[*B, ...]``."""
        axis = filled.ndim - 1
        return window.take_along_dim(aligned((filled - 1).clamp_min(0), window), axis).squeeze(axis)
