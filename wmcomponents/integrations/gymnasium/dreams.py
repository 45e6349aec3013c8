"""A dream as a Gymnasium environment."""

from typing import Any

import numpy as np
from typing_extensions import Unpack

from wmcomponents._extras import require
from wmcomponents.dream.make import Model, make_simulator
from wmcomponents.dream.options import DreamOptions, refuse_unknown
from wmcomponents.dream.uncertainty import UNCERTAINTY
from wmcomponents.rendering.frames import simulator_frames

gymnasium = require("gymnasium", extra="gym")

from gymnasium.envs.registration import EnvSpec  # noqa: E402

from wmcomponents.integrations.gymnasium.uncopied import UncopiedArguments  # noqa: E402
from wmcomponents.integrations.spaces import ActionReader, HostWriter, row_of  # noqa: E402


class StepAfterDoneError(RuntimeError):
    """A finished row was stepped although it has to be reset first."""


class DreamEnv(gymnasium.Env):
    """A world model as a ``gymnasium.Env``.

    Args:
        model: a world model, or the path of a saved one.
        render_mode: ``None`` or ``"rgb_array"``.
        **options: where the dream begins and how it goes on, as :class:`~wmcomponents.dream.DreamOptions` says: starts,
            horizon, view, termination, reward, penalty, noise (given noise is of one row, and begins again at each
            reset with a seed) and uncertainty (told as ``info["uncertainty"]``).

    Attributes:
        simulator: the dream itself, to save, fork and rewind.

    Raises:
        CapabilityError: if the model lacks what these options need.
        TypeError: if an option is unknown.
        BadModelError: if the path holds no valid saved model.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}
    _spec: EnvSpec | None = None
    _drawn_from: np.random.Generator | None = None

    def __init__(
        self,
        model: Model,
        *,
        render_mode: str | None = None,
        **options: Unpack[DreamOptions],
    ) -> None:
        refuse_unknown(options, type(self))
        self.simulator = make_simulator(model, **options)
        self.render_mode = checked_render_mode(render_mode, self.metadata)
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._host = HostWriter(self.simulator)
        self.observation_space = self._host.space
        self.action_space = self._read.space

    @property
    def spec(self) -> EnvSpec | None:
        """The spec that ``gymnasium.make`` sets. It tells the horizon, and copies of it refer to the same model."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = dream_spec(spec, self.simulator.horizon)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: makes this episode and all that follow reproducible.
            options: ignored.
        """
        super().reset(seed=seed)
        if self.np_random is not self._drawn_from:  # the first reset, another seed, or a generator set by hand
            self._drawn_from = self.np_random
            self.simulator.seed(int(self.np_random.integers(2**31)))
        return row_of(self._host.observation(self.simulator.reset()), 0, self.observation_space), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one step.

        Raises:
            StepAfterDoneError: if the episode is over or was never begun.
            SpaceError: if the action does not fit ``action_space``.
            NotFiniteError: if the model shows a NaN or an infinity.
        """
        if bool(self.simulator.done):
            raise StepAfterDoneError("the episode is over (or was never begun): call reset() before step().")
        step = self.simulator.step(self._read(np.asarray(action)[None], 1), lend=True)
        seen, rewards, ends, cuts = self._host.step(step)
        unknown = self.simulator.uncertainty
        info = {} if unknown is None else {UNCERTAINTY: float(unknown)}
        return row_of(seen, 0, self.observation_space), float(rewards[0]), bool(ends[0]), bool(cuts[0]), info

    def render(self) -> np.ndarray | None:
        """The current decoded observation as a frame, uint8 ``(H, W, 3)``; ``None`` without a render mode."""
        return None if self.render_mode is None else simulator_frames(self.simulator)[0]


def dream_spec(spec: EnvSpec | None, horizon: int | None) -> EnvSpec | None:
    """A spec as Gymnasium sets it, with the horizon as its time limit and arguments that are never copied."""
    if spec is not None:
        spec.kwargs = UncopiedArguments(spec.kwargs)
        if spec.max_episode_steps is None:
            spec.max_episode_steps = horizon
    return spec


def checked_render_mode(mode: str | None, metadata: dict[str, Any]) -> str | None:
    """A render mode that the environment declares.

    Raises:
        ValueError: if it declares no such mode.
    """
    if mode is not None and mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode is None or one of {metadata['render_modes']}; got {mode!r}.")
    return mode
