"""Dreams as Gymnasium environments, single and vectorised; and the way back, the filter on a real environment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wmcomponents._extras import require
from wmcomponents.dream.simulator import DreamStep, Model, RewardFunction, Termination, View, make_simulator
from wmcomponents.dream.starts import Starts, model_device, where_rows
from wmcomponents.evaluation.frames import simulator_frames
from wmcomponents.saving import load
from wmcomponents.world_model import State, WorldModel

gymnasium = require("gymnasium", extra="gym")

from gymnasium.utils import RecordConstructorArgs  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    HostWriter,
    ObservationReader,
    SpaceError,
    outline,
    row_of,
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
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._host = HostWriter(self.simulator)
        self.observation_space = self._host.space
        self.action_space = self._read.space

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
        return row_of(self._host.observation(self.simulator.reset()), 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one step.

        Raises:
            StepAfterDoneError: if the episode is over or was never begun.
            SpaceError: if the action does not fit ``action_space``.
        """
        if bool(self.simulator.done):
            raise StepAfterDoneError("the episode is over (or was never begun): call reset() before step().")
        step = self.simulator.step(self._read(np.asarray(action)[None], 1))
        seen, rewards, ends, cuts = self._host.step(step)
        return row_of(seen, 0), float(rewards[0]), bool(ends[0]), bool(cuts[0]), {}

    def render(self) -> np.ndarray | None:
        """The current decoded observation as a frame, uint8 ``(H, W, 3)``; ``None`` without a render mode."""
        return None if self.render_mode is None else simulator_frames(self.simulator)[0]


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
        autoreset_mode: what happens to finished rows. ``NEXT_STEP`` (Gymnasium's default) restarts them at the next
            step, ``SAME_STEP`` at once (with ``final_obs`` in the infos), ``DISABLED`` waits for
            ``reset(options={"reset_mask": ...})``.
        output: ``"numpy"``, or ``"torch"`` to leave observations, rewards and flags on the model's device. On an
            accelerator a step then never waits for it: ``SAME_STEP`` gives ``final_obs`` at every step, with its mask.
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
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._host = HostWriter(self.simulator)
        self._numpy = output == "numpy"
        self.single_observation_space = self._host.space
        self.single_action_space = self._read.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

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
        mask = self._mask((options or {}).get("reset_mask"))
        if seed is not None and not isinstance(seed, (int, np.integer)):
            seed = _combined_seed(seed, self.num_envs)
        first = self._np_random is None
        super().reset(seed=None if seed is None else int(seed))
        if seed is not None or first:
            self.simulator.seed(int(self.np_random.integers(2**31)))
        return self._seen(self.simulator.reset(mask)), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Dream one step in every row.

        Raises:
            StepAfterDoneError: before the first reset; with ``DISABLED``, if a finished row was not reset (on an
                accelerator this is looked at with ``output="numpy"`` only, since looking waits for the device).
            SpaceError: if the actions do not fit ``action_space``.
        """
        simulator, mode = self.simulator, self.autoreset_mode
        if not simulator.state:
            raise StepAfterDoneError("no episode was begun: call reset() before step().")
        restart = None
        if mode is not AutoresetMode.SAME_STEP and self._done(unseen=mode is AutoresetMode.NEXT_STEP):
            if mode is AutoresetMode.DISABLED:
                rows = simulator.done.flatten().nonzero().flatten().tolist()
                raise StepAfterDoneError(f"rows {rows} are finished: reset(options={{'reset_mask': mask}}) them first.")
            restart = simulator.done
        step = self._out(simulator.step(self._read(actions, self.num_envs), restart=restart))
        if mode is not AutoresetMode.SAME_STEP or not self._done(unseen=True):
            return *step, {}
        final, reward, terminated, truncated = step
        infos = self._final_infos(final, simulator.done)
        return self._seen(simulator.reset(simulator.done)), reward, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current decoded observations, one uint8 frame ``(H, W, 3)`` for each row."""
        return None if self.render_mode is None else tuple(simulator_frames(self.simulator))

    def _done(self, *, unseen: bool) -> bool:
        """Whether a row is done; ``unseen`` where the answer would make a host wait that otherwise would not."""
        if self.simulator.all_running:
            return False
        if self.simulator.device.type != "cpu" and not self._numpy:
            return unseen
        return bool(self.simulator.done.any())

    def _final_infos(self, final: Any, done: Tensor) -> dict[str, Any]:
        """What ended with the episodes: arrays of objects in Gymnasium's layout, or stacked tensors."""
        if not self._numpy:
            mask = done.squeeze(-1)
            return {"final_obs": final, "_final_obs": mask, "final_info": {}, "_final_info": mask.clone()}
        mask = done.squeeze(-1).cpu().numpy()
        rows = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(mask):
            rows[i] = row_of(final, int(i))
        return {"final_obs": rows, "_final_obs": mask, "final_info": {}, "_final_info": mask.copy()}

    def _seen(self, observation: dict[str, Tensor]) -> Any:
        return self._host.observation(observation) if self._numpy else self._host.write(observation)

    def _out(self, step: DreamStep) -> tuple[Any, Any, Any, Any]:
        if self._numpy:
            return self._host.step(step)
        observation, reward, terminated, truncated = step
        return self._host.write(observation), reward.squeeze(-1), terminated.squeeze(-1), truncated.squeeze(-1)

    def _mask(self, mask: Any) -> Tensor | None:
        if mask is None:
            return None
        tensor = mask if isinstance(mask, Tensor) else torch.as_tensor(np.asarray(mask))
        if tensor.dtype is not torch.bool or tuple(tensor.shape) != (self.num_envs,):
            raise ValueError(
                f"reset_mask is a bool array of shape ({self.num_envs},); got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if not self.simulator.state:
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


class EpisodeStatistics(gymnasium.vector.VectorWrapper, RecordConstructorArgs):
    """Returns and lengths of finished episodes, exact in all three autoreset modes.

    Where a row is done, ``infos["episode"]`` holds its return ``"r"`` and length ``"l"``, with the mask
    ``infos["_episode"]``. (Gymnasium's ``RecordEpisodeStatistics`` loses the first step of each episode but the first
    in ``SAME_STEP``.) NumPy only.

    Args:
        env: the vector environment.
    """

    def __init__(self, env: VectorEnv) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.vector.VectorWrapper.__init__(self, env)
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._done = np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, and the counts of the rows that begin anew."""
        mask = (options or {}).get("reset_mask")
        begun = np.ones(self.num_envs, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        self._forget(begun)
        self._done = self._done & ~begun
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environment and tell of the episodes that end."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if self._mode is AutoresetMode.NEXT_STEP:
            self._forget(self._done)  # such a row has only been reset: its step counts for neither episode
            moved = ~self._done
        else:
            moved = np.ones(self.num_envs, dtype=bool)
        self._returns += np.where(moved, reward, 0.0)
        self._lengths += moved
        done = np.asarray(terminated) | np.asarray(truncated)
        if done.any():
            episode = {"r": np.where(done, self._returns, 0.0), "l": np.where(done, self._lengths, 0)}
            info = {**info, "episode": episode, "_episode": done.copy()}
        if self._mode is AutoresetMode.SAME_STEP:
            self._forget(done)
        self._done = done
        return observation, reward, terminated, truncated, info

    def _forget(self, rows: np.ndarray) -> None:
        self._returns[rows], self._lengths[rows] = 0.0, 0


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


def _combined_seed(seeds: Sequence[int | None], rows: int) -> int | None:
    """One seed out of one for each row; rows share a generator."""
    if len(seeds) != rows:
        raise ValueError(f"a list of seeds has one for each of the {rows} rows; got {len(seeds)}.")
    known = [seed for seed in seeds if seed is not None]
    return int(np.random.SeedSequence(known).generate_state(1)[0]) if known else None


def _checked_render_mode(mode: str | None, metadata: dict[str, Any]) -> str | None:
    if mode is not None and mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode is None or one of {metadata['render_modes']}; got {mode!r}.")
    return mode
