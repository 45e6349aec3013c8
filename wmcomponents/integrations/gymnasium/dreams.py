"""Dreams as Gymnasium environments, single and vectorised."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wmcomponents._extras import require
from wmcomponents.dream.simulator import DreamStep, Model, RewardFunction, Termination, View, make_simulator
from wmcomponents.dream.starts import Starts
from wmcomponents.evaluation.frames import simulator_frames

gymnasium = require("gymnasium", extra="gym")

from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    HostWriter,
    row_of,
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
