"""The way back: the filter on a real environment, so that a policy trained on latents acts there unchanged."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcomponents._extras import require
from wmcomponents.dream.simulator import Model
from wmcomponents.dream.starts import model_device, where_rows
from wmcomponents.saving import load
from wmcomponents.world_model import State, WorldModel

gymnasium = require("gymnasium", extra="gym")

from gymnasium.utils import RecordConstructorArgs  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    ObservationReader,
    SpaceError,
    outline,
    space_from_spec,
)


class LatentFilter:
    """A world model's filter run beside N real rows: real observations in, features out.

    Args:
        model: the world model; needs ``features``.
        rows: number of rows.
        sample: draw the filter's z; the default takes the mode, so that the same history gives the same features.
        seed: of the drawn z.

    Raises:
        CapabilityError: if the model offers no features.
    """

    def __init__(self, model: WorldModel, rows: int, *, sample: bool = False, seed: int = 0) -> None:
        model.require("features", driver="LatentObservation", remedy="write features(), or act on raw observations.")
        self.model = model.eval()
        self.rows = rows
        self.device = model_device(model)
        self._noise = model.noise_source("observe")
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._sample = sample
        self.state: State = model.initial_state((rows,), self.device)
        self._read = ObservationReader(model.observation_spec, self.device)

    @torch.no_grad()
    def __call__(self, action: Tensor, observation: Any, is_init: np.ndarray) -> np.ndarray:
        """Advance every row by one real observation.

        Args:
            action: the action that led here, ``[rows, ...]`` as the model's ``action_spec`` says.
            observation: real observations of all rows, as the real environment gives them.
            is_init: bool ``[rows]``: whether the observation is the first of its episode.

        Returns:
            Features, float32 ``[rows, F]``.

        Raises:
            SpaceError: if the observation has another structure, shape or dtype than the model was built for, or is
                not finite.
        """
        self.state = self.advance(action, observation, is_init)
        return self.features(self.state)

    @torch.no_grad()
    def advance(self, action: Tensor, observation: Any, is_init: np.ndarray) -> State:
        """The states after one real observation; this filter itself stays where it is."""
        noise = self._noise((self.rows,), self._generator) if self._sample else None
        flags = torch.as_tensor(is_init, device=self.device).reshape(self.rows, 1)
        return self.model.observe(self.state, action, self._read(observation, self.rows), flags, noise)

    @torch.no_grad()
    def features(self, state: State) -> np.ndarray:
        """What a policy reads, float32 ``[rows, F]``; an array of its own."""
        return self.model.features(state).to("cpu", torch.float32, copy=True).numpy()


class LatentObservation(gymnasium.Wrapper, RecordConstructorArgs):
    """The way back: a real environment seen through a world model's filter, for a policy trained on latents.

    Args:
        env: the real environment, the one the model was trained on.
        model: the world model, or the path of a saved one.
        sample: draw the filter's z instead of taking the mode.
        seed: of the drawn z.

    Raises:
        CapabilityError: if the model offers no features.
        SpaceError: if the environment's spaces are not those of the model.
    """

    def __init__(self, env: Any, model: Model, *, sample: bool = False, seed: int = 0) -> None:
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, model=model, sample=sample, seed=seed)
        gymnasium.Wrapper.__init__(self, env)
        self._filter = LatentFilter(_loaded(model), 1, sample=sample, seed=seed)
        self._read = ActionReader(self._filter.model.action_spec, self._filter.device)
        _check_spaces(env.observation_space, env.action_space, self._filter.model)
        self.observation_space = _feature_space(self._filter.model)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Reset the environment and the filter."""
        observation, info = self.env.reset(seed=seed, options=options)
        nothing = self._filter.model.action_spec.zero(torch.Size([1])).to(self._filter.device)
        return self._filter(nothing, _row(observation), np.array([True]))[0], info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step the environment and filter what it shows."""
        tensor = self._read(np.asarray(action)[None], 1)
        observation, reward, terminated, truncated, info = self.env.step(action)
        features = self._filter(tensor, _row(observation), np.array([False]))[0]
        return features, float(reward), bool(terminated), bool(truncated), info


class LatentVectorObservation(gymnasium.vector.VectorWrapper, RecordConstructorArgs):
    """The way back for a vector environment, in all three autoreset modes.

    Args:
        env: the real vector environment; its ``metadata["autoreset_mode"]`` says how finished rows restart.
        model: the world model, or the path of a saved one.
        sample: draw the filter's z instead of taking the mode.
        seed: of the drawn z.

    Raises:
        CapabilityError: if the model offers no features.
        SpaceError: if the environment's spaces are not those of the model.
    """

    def __init__(self, env: VectorEnv, model: Model, *, sample: bool = False, seed: int = 0) -> None:
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, model=model, sample=sample, seed=seed)
        gymnasium.vector.VectorWrapper.__init__(self, env)
        self._filter = LatentFilter(_loaded(model), env.num_envs, sample=sample, seed=seed)
        self._read = ActionReader(self._filter.model.action_spec, self._filter.device)
        _check_spaces(env.single_observation_space, env.single_action_space, self._filter.model)
        self.single_observation_space = _feature_space(self._filter.model)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._done = np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environment and the filter's rows that begin anew."""
        mask = (options or {}).get("reset_mask")
        fresh = np.ones(self.num_envs, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        observation, info = self.env.reset(seed=seed, options=options)
        self._done = self._done & ~fresh
        nothing = self._filter.model.action_spec.zero(torch.Size([self.num_envs])).to(self._filter.device)
        state = self._filter.advance(nothing, observation, np.ones(self.num_envs, dtype=bool))
        self._filter.state = where_rows(torch.as_tensor(fresh).to(self._filter.device), state, self._filter.state)
        return self._filter.features(self._filter.state), info

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environment and filter what it shows."""
        action = self._read(actions, self.num_envs)
        observation, reward, terminated, truncated, info = self.env.step(actions)
        done = np.asarray(terminated) | np.asarray(truncated)
        if self._mode is AutoresetMode.SAME_STEP and done.any():
            info = {**info, **self._final_features(action, observation, info, done)}
            return self._filter(action, observation, done), reward, terminated, truncated, info
        begun = self._done if self._mode is AutoresetMode.NEXT_STEP else np.zeros_like(done)
        features = self._filter(action, observation, begun)
        self._done = done
        return features, reward, terminated, truncated, info

    def _final_features(self, action: Tensor, observation: Any, info: dict[str, Any], done: np.ndarray) -> dict:
        """The features of the observations that ended their episodes, in Gymnasium's layout."""
        if "final_obs" not in info:
            raise SpaceError(
                "a SAME_STEP environment gives the last observations as infos['final_obs']; this one does not."
            )
        last = _with_final_rows(observation, info["final_obs"], done)
        features = self._filter.features(self._filter.advance(action, last, np.zeros_like(done)))
        rows = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            rows[i] = features[i]
        return {"final_obs": rows, "_final_obs": done.copy()}


def _loaded(model: Model) -> WorldModel:
    return load(model) if isinstance(model, (str, Path)) else model


def _feature_space(model: WorldModel) -> Any:
    with torch.no_grad():
        features = model.features(model.initial_state((), model_device(model)))
    return gymnasium.spaces.Box(-np.inf, np.inf, tuple(features.shape), np.float32)


def _check_spaces(observation: Any, action: Any, model: WorldModel) -> None:
    for name, got, want in (
        ("observation", observation, space_from_spec(model.observation_spec)),
        ("action", action, space_from_spec(model.action_spec)),
    ):
        if outline(got) != outline(want):
            raise SpaceError(
                f"the environment's {name} space is {got}, and the model was trained on {want}: use the environment "
                f"that the model was trained on, with the same wrappers."
            )


def _row(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]


def _with_final_rows(observation: Any, final: Any, done: np.ndarray) -> Any:
    """A batch of observations with the rows that are done replaced by what their episodes ended with.

    ``final`` is Gymnasium's array of objects (each an observation, a dict where the space is one), or a batch.
    """
    if isinstance(observation, dict):
        entries = (
            final
            if isinstance(final, dict)
            else {key: [None if row is None else row[key] for row in final] for key in observation}
        )
        return {key: _with_final_rows(value, entries[key], done) for key, value in observation.items()}
    rows = np.array(observation, copy=True)
    for i in np.flatnonzero(done):
        rows[i] = final[i]
    return rows
