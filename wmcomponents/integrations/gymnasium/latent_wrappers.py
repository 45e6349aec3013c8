"""The way back: the filter on a real environment, so that a policy trained on latents acts there unchanged."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcomponents._arguments import of_kind
from wmcomponents._extras import require
from wmcomponents.dream.make import Model
from wmcomponents.dream.starts import model_device, where_rows
from wmcomponents.models.loading import load
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel

gymnasium = require("gymnasium", extra="gym")

from gymnasium.utils import RecordConstructorArgs  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

from wmcomponents.integrations.gymnasium.rows import keeps_autoreset_through_reset  # noqa: E402
from wmcomponents.integrations.gymnasium.uncopied import UncopiedArguments  # noqa: E402
from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    ObservationReader,
    SpaceError,
    outline,
    space_from_spec,
)


class LatentFilter:
    """A world model's filter run beside N real rows: real observations in, features out.

    The first observation that a row is given is the first that is known of its episode, whatever step of it that is.

    Args:
        model: the world model; needs ``features``. Whatever mode it is in, it is used in eval mode.
        rows: number of rows.
        sample: draw the filter's z; the default takes the mode, so that the same history gives the same features.
        seed: of the drawn z; fresh entropy if not given.

    Attributes:
        state: the rows' states, ``[rows, ...]`` each.
        known: bool ``[rows]``: whether something of the row's episode has been seen.

    Raises:
        CapabilityError: if the model offers no features.
    """

    def __init__(self, model: WorldModel, rows: int, *, sample: bool = False, seed: int | None = None) -> None:
        model.require("features", driver="LatentObservation", remedy="write features(), or act on raw observations.")
        self.model = model
        self.rows = rows
        self.device = model_device(model)
        self.known = np.zeros(rows, dtype=bool)
        self.state: State = model.initial_state((rows,), self.device)
        self._mode = EvalMode(model)
        self._noise = model.noise_source("observe") if sample else None
        self._generator = torch.Generator(self.device)
        self._seeded = False
        if seed is not None:
            self.seed(seed)
        self._read = ObservationReader(model.observation_spec, self.device)

    def seed(self, seed: int) -> None:
        """Seed the drawn z."""
        self._generator.manual_seed(seed)
        self._seeded = True

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
        self.known[:] = True
        return self.features(self.state)

    def begin(self, observation: Any, rows: np.ndarray) -> np.ndarray:
        """Begin an episode in some rows, and in those of which nothing is known yet.

        Args:
            observation: real observations of all rows.
            rows: bool ``[rows]``; the others stay as they are.

        Returns:
            Features of every row, float32 ``[rows, F]``.

        Raises:
            SpaceError: as a call.
        """
        fresh = rows | ~self.known
        nothing = self.model.null_action((self.rows,), self.device)
        state = self.advance(nothing, observation, np.ones_like(fresh))
        self.state = where_rows(torch.as_tensor(fresh).to(self.device), state, self.state)
        self.known[:] = True
        return self.features(self.state)

    @torch.no_grad()
    def advance(self, action: Tensor, observation: Any, is_init: np.ndarray) -> State:
        """The rows' states ``[N, ...]`` after one real observation each; this filter itself stays where it is."""
        noise = None
        if self._noise is not None:
            if not self._seeded:
                self._generator.seed()
                self._seeded = True
            noise = self._noise((self.rows,), self._generator)
        flags = torch.as_tensor(is_init | ~self.known, device=self.device).reshape(self.rows, 1)
        entries = self._read(observation, self.rows)
        with self._mode:
            return self.model.observe(self.state, action, entries, flags, noise)

    @torch.no_grad()
    def features(self, state: State) -> np.ndarray:
        """What a policy reads, float32 ``[rows, F]``; an array of its own."""
        with self._mode:
            return self.model.features(state).to("cpu", torch.float32, copy=True).numpy()


class LatentObservation(gymnasium.Wrapper, RecordConstructorArgs):
    """The way back: a real environment seen through a world model's filter, for a policy trained on latents.

    It may be put around an environment in the middle of an episode.

    Args:
        env: the real environment, the one the model was trained on.
        model: the world model, or the path of a saved one.
        sample: draw the filter's z instead of taking the mode.
        seed: of the drawn z; fresh entropy if not given. The seed of a reset seeds it too.

    Raises:
        CapabilityError: if the model offers no features.
        SpaceError: if the environment's spaces are not those of the model.
    """

    def __init__(self, env: Any, model: Model, *, sample: bool = False, seed: int | None = None) -> None:
        of_kind("env", env, gymnasium.Env, "the real environment itself (gymnasium.make)")
        self._saved_kwargs = UncopiedArguments(model=model, sample=sample, seed=seed)
        gymnasium.Wrapper.__init__(self, env)
        self._filter = LatentFilter(_loaded(model), 1, sample=sample, seed=seed)
        self._read = ActionReader(self._filter.model.action_spec, self._filter.device)
        _check_spaces(env.observation_space, env.action_space, self._filter.model)
        self.observation_space = _feature_space(self._filter)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Reset the environment and the filter."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._filter.seed(seed)
        return self._filter.begin(_row(observation), np.array([True]))[0], info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step the environment and filter what it shows.

        Raises:
            SpaceError: if the action does not fit the environment's space; the environment is then not stepped.
        """
        tensor = self._read(np.asarray(action)[None], 1)
        observation, reward, terminated, truncated, info = self.env.step(action)
        features = self._filter(tensor, _row(observation), np.array([False]))[0]
        return features, float(reward), bool(terminated), bool(truncated), info


class LatentVectorObservation(gymnasium.vector.VectorWrapper, RecordConstructorArgs):
    """The way back for a vector environment, in all three autoreset modes.

    It may be put around an environment whose episodes are under way.

    Args:
        env: the real vector environment; its ``metadata["autoreset_mode"]`` says how finished rows restart.
        model: the world model, or the path of a saved one.
        sample: draw the filter's z instead of taking the mode.
        seed: of the drawn z; fresh entropy if not given. The seed of a reset seeds it too.

    Raises:
        CapabilityError: if the model offers no features.
        SpaceError: if the environment's spaces are not those of the model.
    """

    def __init__(self, env: VectorEnv, model: Model, *, sample: bool = False, seed: int | None = None) -> None:
        self._saved_kwargs = UncopiedArguments(model=model, sample=sample, seed=seed)
        gymnasium.vector.VectorWrapper.__init__(self, env)
        self._filter = LatentFilter(_loaded(model), env.num_envs, sample=sample, seed=seed)
        self._read = ActionReader(self._filter.model.action_spec, self._filter.device)
        _check_spaces(env.single_observation_space, env.single_action_space, self._filter.model)
        self.single_observation_space = _feature_space(self._filter)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._marks_stay = keeps_autoreset_through_reset(env)
        self._done = np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environment and the filter's rows that begin anew."""
        mask = (options or {}).get("reset_mask")
        fresh = np.ones(self.num_envs, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        observation, info = self.env.reset(seed=seed, options=options)
        known = [] if seed is None else [int(one) for one in np.atleast_1d(np.asarray(seed)) if one is not None]
        if known:
            self._filter.seed(int(np.random.SeedSequence(known).generate_state(1)[0]))
        if not self._marks_stay:
            self._done = self._done & ~fresh
        return self._filter.begin(observation, fresh), info

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environment and filter what it shows.

        Raises:
            SpaceError: if the actions do not fit the environment's space; the environment is then not stepped.
        """
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
        last = with_final_rows(observation, info["final_obs"], done)
        features = self._filter.features(self._filter.advance(action, last, np.zeros_like(done)))
        rows = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            rows[i] = features[i]
        return {"final_obs": rows, "_final_obs": done.copy()}


def _loaded(model: Model) -> WorldModel:
    return load(model) if isinstance(model, (str, Path)) else model


def _feature_space(latents: LatentFilter) -> Any:
    shape = latents.features(latents.state).shape[1:]
    return gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)


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
        return {key: _row(value) for key, value in observation.items()}
    return np.asarray(observation)[None]


def with_final_rows(observation: Any, final: Any, done: np.ndarray) -> Any:
    """A batch of observations with the rows that are done replaced by what their episodes ended with.

    ``final`` is Gymnasium's array of objects (each an observation, a dict where the space is one), or a batch.
    """
    if isinstance(observation, dict):
        entries = (
            final
            if isinstance(final, dict)
            else {key: [None if row is None else row[key] for row in final] for key in observation}
        )
        return {key: with_final_rows(value, entries[key], done) for key, value in observation.items()}
    rows = np.array(observation, copy=True)
    for i in np.flatnonzero(done):
        rows[i] = final[i]
    return rows
