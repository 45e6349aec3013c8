"""Dreams as Gymnasium environments, single and vectorised; and the way back, the filter on a real environment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from wmcomponents._extras import require
from wmcomponents.dream.simulator import Model, RewardFunction, Termination, View, make_simulator
from wmcomponents.dream.starts import Starts
from wmcomponents.evaluation.frames import simulator_frames
from wmcomponents.saving import load
from wmcomponents.world_model import State, WorldModel

gymnasium = require("gymnasium", extra="gym")

from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

from wmcomponents.integrations.spaces import (  # noqa: E402
    BARE_KEYS,
    ActionReader,
    HostCopy,
    SpaceError,
    observation_arrays,
    space_from_spec,
)


class StepAfterDoneError(RuntimeError):
    """A finished row was stepped although it has to be reset first."""


class DreamEnv(gymnasium.Env):
    """A world model as a ``gymnasium.Env``.

    Args:
        model: a world model, or the path of a saved one.
        starts: where dreams begin; by default the start states saved with the model, else its own prior.
        horizon: steps after which an episode is truncated; ``None`` never truncates.
        view: ``"decoded"``, ``"latent"`` or ``"both"`` (a ``Dict``).
        termination: ``"sample"``, ``"threshold"`` or ``"off"``.
        reward: replaces the model's reward.
        penalty: subtracted from the reward.
        render_mode: ``None`` or ``"rgb_array"``.

    Raises:
        CapabilityError: if the model lacks what these choices need.
        BadModelError: if the path holds no valid saved model.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        model: Model,
        *,
        starts: Starts | None = None,
        horizon: int | None = None,
        view: View = "decoded",
        termination: Termination = "sample",
        reward: RewardFunction | None = None,
        penalty: RewardFunction | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.simulator = make_simulator(
            model, starts, horizon=horizon, view=view, termination=termination, reward=reward, penalty=penalty
        )
        self.render_mode = _checked_render_mode(render_mode, self.metadata)
        self._spec = self.simulator.observation_spec.cpu()
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._to_host = HostCopy()
        self.observation_space = space_from_spec(self._spec)
        self.action_space = self._read.space
        self._done = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: makes this episode and all that follow reproducible.
            options: ignored.
        """
        first = self._np_random is None
        super().reset(seed=seed)
        if seed is not None or first:
            self.simulator.seed(int(self.np_random.integers(2**31)))
        observation = self.simulator.reset()
        self._done = False
        keys = list(observation)
        arrays = self._to_host([observation[key][0] for key in keys])
        return self._observation(dict(zip(keys, arrays, strict=True))), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one step.

        Raises:
            StepAfterDoneError: if the episode is over or was never begun.
            SpaceError: if the action does not fit ``action_space``.
        """
        if self._done:
            raise StepAfterDoneError("the episode is over (or was never begun): call reset() before step().")
        tensor = self._read(np.asarray(action)[None], 1)
        observation, reward, terminated, truncated = self.simulator.step(tensor)
        keys = list(observation)
        arrays = self._to_host([*(observation[key][0] for key in keys), reward, terminated, truncated])
        self._done = bool(arrays[-2][0, 0]) or bool(arrays[-1][0, 0])
        return (
            self._observation(dict(zip(keys, arrays, strict=False))),
            float(arrays[-3][0, 0]),
            bool(arrays[-2][0, 0]),
            bool(arrays[-1][0, 0]),
            {},
        )

    def render(self) -> np.ndarray | None:
        """The current decoded observation as a frame, uint8 ``(H, W, 3)``; ``None`` without a render mode."""
        return None if self.render_mode is None else simulator_frames(self.simulator)[0]

    def _observation(self, arrays: dict[str, np.ndarray]) -> Any:
        return observation_arrays(arrays, self._spec)


class DreamVectorEnv(VectorEnv):
    """A world model as a ``gymnasium.vector.VectorEnv``: all rows step in one call of the model.

    Rows share one generator: the same seed gives the same dream for the same number of rows. One row equals
    :class:`DreamEnv` under the same seed.

    Args:
        model: a world model, or the path of a saved one.
        num_envs: number of rows.
        starts: where dreams begin.
        horizon: steps after which a row is truncated; ``None`` never truncates.
        view: ``"decoded"``, ``"latent"`` or ``"both"``.
        termination: ``"sample"``, ``"threshold"`` or ``"off"``.
        reward: replaces the model's reward.
        penalty: subtracted from the reward.
        autoreset_mode: what happens to finished rows. ``NEXT_STEP`` (Gymnasium's default) restarts them at the next step,
            ``SAME_STEP`` at once (with ``final_obs`` in the infos), ``DISABLED`` waits for
            ``reset(options={"reset_mask": ...})``.
        output: ``"numpy"``, or ``"torch"`` to leave observations, rewards and flags on the model's device.
        render_mode: ``None`` or ``"rgb_array"``.
        max_episode_steps: the name under which ``gymnasium.make_vec`` passes the horizon.
        compile: compile the model's step.

    Raises:
        CapabilityError: if the model lacks what these choices need.
        BadModelError: if the path holds no valid saved model.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        model: Model,
        num_envs: int = 1,
        *,
        starts: Starts | None = None,
        horizon: int | None = None,
        view: View = "decoded",
        termination: Termination = "sample",
        reward: RewardFunction | None = None,
        penalty: RewardFunction | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: Literal["numpy", "torch"] = "numpy",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        if output not in ("numpy", "torch"):
            raise ValueError(f"output is 'numpy' or 'torch'; got {output!r}.")
        self.simulator = make_simulator(
            model,
            starts,
            batch_size=num_envs,
            horizon=max_episode_steps if horizon is None else horizon,
            view=view,
            termination=termination,
            reward=reward,
            penalty=penalty,
            compile=compile,
        )
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = _checked_render_mode(render_mode, self.metadata)
        self._spec = self.simulator.observation_spec.cpu()
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._to_host = HostCopy()
        self._numpy = output == "numpy"
        self.single_observation_space = space_from_spec(self._spec)
        self.single_action_space = self._read.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._done = torch.ones(num_envs, 1, dtype=torch.bool, device=self.simulator.device)
        self._begun = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: one integer, or one for each row (together they seed the rows' common generator).
            options: ``{"reset_mask": bool array [num_envs]}`` restarts these rows only.

        Raises:
            ValueError: if the mask has the wrong shape or dtype, selects nothing, or comes before the first reset; or a
                list of seeds is not one for each row.
        """
        if seed is not None and not isinstance(seed, (int, np.integer)):
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ValueError(f"a list of seeds has one for each of the {self.num_envs} rows; got {len(seeds)}.")
            known = [s for s in seeds if s is not None]
            seed = int(np.random.SeedSequence(known).generate_state(1)[0]) if known else None
        first = self._np_random is None
        super().reset(seed=None if seed is None else int(seed))
        if seed is not None or first:
            self.simulator.seed(int(self.np_random.integers(2**31)))
        mask = self._mask((options or {}).get("reset_mask"))
        observation = self.simulator.reset(mask)
        self._done = torch.zeros_like(self._done) if mask is None else self._done & ~mask
        self._begun = True
        return self._out([*observation.values()], list(observation))[0], {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Dream one step in every row.

        Raises:
            StepAfterDoneError: before the first reset; with ``DISABLED``, if a finished row was not reset.
            SpaceError: if the actions do not fit ``action_space``.
        """
        if not self._begun:
            raise StepAfterDoneError("no episode was begun: call reset() before step().")
        disabled = self.autoreset_mode is AutoresetMode.DISABLED
        next_step = self.autoreset_mode is AutoresetMode.NEXT_STEP
        if disabled and bool(self._done.any()):
            rows = self._done.flatten().nonzero().flatten().tolist()
            raise StepAfterDoneError(f"rows {rows} are finished: reset(options={{'reset_mask': mask}}) them first.")
        observation, reward, terminated, truncated = self.simulator.step(self._read(actions, self.num_envs))
        # On an accelerator the masked reset always runs, since looking at the mask would wait for the device.
        looks = self.simulator.device.type == "cpu"
        if next_step:
            pending = self._done
            if not looks or bool(pending.any()):
                observation = self.simulator.reset(pending)
                reward = reward.masked_fill(pending, 0.0)
                terminated, truncated = terminated & ~pending, truncated & ~pending
        self._done = terminated | truncated
        keys = list(observation)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and (not looks or bool(self._done.any())):
            final = observation
            observation = self.simulator.reset(self._done)
            return self._same_step(keys, observation, final, reward, terminated, truncated)
        seen, reward, terminated, truncated = self._out(
            [*observation.values(), reward, terminated, truncated], keys
        )
        return seen, reward, terminated, truncated, {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current decoded observations, one uint8 frame ``(H, W, 3)`` for each row."""
        return None if self.render_mode is None else tuple(simulator_frames(self.simulator))

    def _same_step(
        self,
        keys: list[str],
        observation: dict[str, Tensor],
        final: dict[str, Tensor],
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
    ) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        count = len(keys)
        if not self._numpy:
            infos = {"final_obs": _bare(final), "_final_obs": self._done.squeeze(-1)}
            return _bare(observation), reward.squeeze(-1), terminated.squeeze(-1), truncated.squeeze(-1), infos
        arrays = self._to_host([*observation.values(), *final.values(), reward, terminated, truncated])
        seen = observation_arrays(dict(zip(keys, arrays[:count], strict=True)), self._spec)
        last = observation_arrays(dict(zip(keys, arrays[count : 2 * count], strict=True)), self._spec)
        rewards, ends, cuts = (array[:, 0] for array in arrays[-3:])
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(ends | cuts):
            row = {key: value[i] for key, value in last.items()} if isinstance(last, dict) else last[i]
            infos = self._add_info(infos, {"final_obs": row, "final_info": {}}, int(i))
        return seen, rewards, ends, cuts, infos

    def _out(self, tensors: list[Tensor], keys: list[str]) -> list[Any]:
        count = len(keys)
        if not self._numpy:
            return [_bare(dict(zip(keys, tensors, strict=False))), *(tensor.squeeze(-1) for tensor in tensors[count:])]
        arrays = self._to_host(tensors)
        seen = observation_arrays(dict(zip(keys, arrays, strict=False)), self._spec)
        return [seen, *(array[:, 0] for array in arrays[count:])]

    def _mask(self, mask: Any) -> Tensor | None:
        if mask is None:
            return None
        tensor = mask if isinstance(mask, Tensor) else torch.as_tensor(np.asarray(mask))
        if tensor.dtype is not torch.bool or tuple(tensor.shape) != (self.num_envs,):
            raise ValueError(
                f"reset_mask is a bool array of shape ({self.num_envs},); got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if not self._begun:
            raise ValueError("the first reset begins every row: leave reset_mask out.")
        if not bool(tensor.any()):
            raise ValueError("reset_mask selects no row; leave out the call instead.")
        return tensor.to(self.simulator.device).reshape(-1, 1)


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
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._noise = model.noise_source("observe")
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._sample = sample
        self.state: State = model.initial_state((rows,), self.device)
        self._space = space_from_spec(model.observation_spec)

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
        return self.model.features(self.state).cpu().numpy()

    @torch.no_grad()
    def advance(self, action: Tensor, observation: Any, is_init: np.ndarray) -> State:
        """The states after one real observation; this filter itself stays where it is."""
        noise = self._noise((self.rows,), self._generator) if self._sample else None
        flags = torch.as_tensor(is_init, device=self.device).reshape(self.rows, 1)
        return self.model.observe(self.state, action, self._tensors(observation), flags, noise)

    def _tensors(self, observation: Any) -> dict[str, Tensor]:
        spec = self.model.observation_spec
        entries = observation if isinstance(observation, dict) else {next(iter(spec.keys())): observation}
        if set(entries) != set(spec.keys()):
            raise SpaceError(f"the model observes {sorted(spec.keys())}; the environment shows {sorted(entries)}.")
        tensors = {}
        for key, leaf in spec.items():
            array = torch.as_tensor(np.asarray(entries[key]), device=self.device)
            expected = (self.rows, *leaf.shape)
            if tuple(array.shape) == (self.rows,) and leaf.shape and not array.dtype.is_floating_point:
                array = torch.nn.functional.one_hot(array.long(), leaf.shape[-1])
            if tuple(array.shape) != expected:
                raise SpaceError(
                    f"observation {key!r} must have shape {expected}; got {tuple(array.shape)}. The environment is not "
                    f"the one that this model was trained on."
                )
            if array.dtype.is_floating_point and not bool(torch.isfinite(array).all()):
                rows = (~torch.isfinite(array)).reshape(self.rows, -1).any(1).nonzero().flatten().tolist()
                raise SpaceError(f"observation {key!r} is not finite in rows {rows}; check the environment.")
            if array.dtype is not leaf.dtype and not (array.dtype.is_floating_point and leaf.dtype.is_floating_point):
                if array.dtype is not torch.int64:
                    raise SpaceError(f"observation {key!r} must be {leaf.dtype}; got {array.dtype}.")
            tensors[key] = array.to(leaf.dtype)
        return tensors


class LatentObservation(gymnasium.Wrapper):
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
        super().__init__(env)
        self._filter = LatentFilter(_loaded(model), 1, sample=sample, seed=seed)
        self._read = ActionReader(self._filter.model.action_spec, self._filter.device)
        _check_spaces(env.observation_space, env.action_space, self._filter.model)
        self.observation_space = _feature_space(self._filter.model)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Reset the environment and the filter."""
        observation, info = self.env.reset(seed=seed, options=options)
        nothing = self._filter.model.action_spec.zero((1,)).to(self._filter.device)
        return self._filter(nothing, _row(observation), np.array([True]))[0], info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step the environment and filter what it shows."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        tensor = self._read(np.asarray(action)[None], 1)
        features = self._filter(tensor, _row(observation), np.array([False]))[0]
        return features, float(reward), bool(terminated), bool(truncated), info


class LatentVectorObservation(gymnasium.vector.VectorWrapper):
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
        super().__init__(env)
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
        nothing = self._filter.model.action_spec.zero((self.num_envs,)).to(self._filter.device)
        state = self._filter.advance(nothing, observation, np.ones(self.num_envs, dtype=bool))
        self._filter.state = _merge(fresh, state, self._filter.state)
        return self._features(self._filter.state), info

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environment and filter what it shows."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        action = self._read(actions, self.num_envs)
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
        final = info.get("final_obs")
        if final is None:
            return {}
        last = _with_final_rows(observation, final, done)
        features = self._features(self._filter.advance(action, last, np.zeros_like(done)))
        rows = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            rows[i] = features[i]
        return {"final_obs": rows, "_final_obs": done.copy()}

    def _features(self, state: State) -> np.ndarray:
        with torch.no_grad():
            return self._filter.model.features(state).cpu().numpy()


def _loaded(model: Model) -> WorldModel:
    return load(model) if isinstance(model, (str, Path)) else model


def _feature_space(model: WorldModel) -> Any:
    with torch.no_grad():
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        width = model.features(model.initial_state((), device)).shape[-1]
    return gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32)


def _check_spaces(observation: Any, action: Any, model: WorldModel) -> None:
    for name, got, want in (
        ("observation", observation, space_from_spec(model.observation_spec)),
        ("action", action, space_from_spec(model.action_spec)),
    ):
        if _outline(got) != _outline(want):
            raise SpaceError(
                f"the environment's {name} space is {got}, and the model was trained on {want}: use the environment that "
                f"the model was trained on, with the same wrappers."
            )


def _outline(space: Any) -> Any:
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _outline(entry) for key, entry in space.items()}
    if isinstance(space, gymnasium.spaces.Discrete):
        return ("Discrete", int(space.n))
    return tuple(space.shape or ())


def _row(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]


def _merge(mask: np.ndarray, new: State, old: State) -> State:
    rows = torch.as_tensor(mask)
    return {
        key: torch.where(rows.to(value.device).view(-1, *(1,) * (value.ndim - 1)), new[key], value)
        for key, value in old.items()
    }


def _with_final_rows(observation: Any, final: Any, done: np.ndarray) -> Any:
    if isinstance(observation, dict):
        return {key: _with_final_rows(value, final[key], done) for key, value in observation.items()}
    rows = np.array(observation, copy=True)
    for i in np.flatnonzero(done):
        rows[i] = final[i]
    return rows


def _bare(observation: dict[str, Tensor]) -> Any:
    if len(observation) == 1 and next(iter(observation)) in BARE_KEYS:
        return next(iter(observation.values()))
    return observation


def _checked_render_mode(mode: str | None, metadata: dict[str, Any]) -> str | None:
    if mode is not None and mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode is None or one of {metadata['render_modes']}; got {mode!r}.")
    return mode
