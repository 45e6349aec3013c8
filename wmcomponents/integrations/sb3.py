"""Dreams as Stable-Baselines3 ``VecEnv``s, any Gymnasium ``VectorEnv`` as one, SB3 policies as TensorDict modules."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec

from wmcomponents._extras import require
from wmcomponents.dream.simulator import Model, RewardFunction, Termination, View, make_simulator
from wmcomponents.dream.starts import Starts

require("stable_baselines3", extra="sb3")

from gymnasium.spaces import Dict, Space  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402
from stable_baselines3.common.preprocessing import is_image_space  # noqa: E402
from stable_baselines3.common.vec_env import VecEnv  # noqa: E402

from wmcomponents.evaluation.frames import simulator_frames  # noqa: E402
from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    HostWriter,
    ObservationWriter,
    SpaceError,
    outline,
    row_of,
)


class _AttributeVecEnv(VecEnv):
    """The attribute machinery of a ``VecEnv`` whose rows are not separate Python objects: all rows are alike."""

    num_envs: int

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once for each row asked for."""
        return [getattr(self, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all rows; setting it for some only is impossible, since the rows share one model."""
        if len(self._rows(indices)) != self.num_envs:
            raise ValueError(f"the rows share one model: set {attr_name!r} for all {self.num_envs} rows or for none.")
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method once, and give its result for each row asked for."""
        return [getattr(self, method_name)(*args, **kwargs)] * len(self._rows(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False] * len(self._rows(indices))

    def _rows(self, indices: Any) -> Sequence[int]:
        if indices is None:
            return range(self.num_envs)
        return [int(indices)] if isinstance(indices, (int, np.integer)) else list(indices)


class DreamVecEnv(_AttributeVecEnv):
    """A world model as an SB3 ``VecEnv``: train any SB3 agent inside it.

    Finished rows restart in the same step; ``terminal_observation`` and ``TimeLimit.truncated`` are exact, so that
    value targets bootstrap at the horizon and not at a predicted end. Wrap it in ``VecMonitor`` for episode statistics.

    Args:
        model: a world model, or the path of a saved one.
        num_envs: number of rows.
        starts: where dreams begin; by default the start states saved with the model, else its own prior.
        horizon: steps after which a row is truncated; ``None`` never truncates.
        view: ``"decoded"``, ``"latent"`` or ``"both"`` (a ``Dict``: use ``"MultiInputPolicy"``).
        termination: ``"sample"``, ``"threshold"`` or ``"off"``.
        reward: replaces the model's reward.
        penalty: subtracted from the reward.
        seed: of the rows' common generator.
        render_mode: ``None`` or ``"rgb_array"``.
        compile: compile the model's step.

    Raises:
        CapabilityError: if the model lacks what these choices need.
        BadModelError: if the path holds no valid saved model.
    """

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
        seed: int = 0,
        render_mode: str | None = None,
        compile: bool = False,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is None or 'rgb_array'; got {render_mode!r}.")
        self.simulator = make_simulator(
            model,
            starts,
            batch_size=num_envs,
            horizon=horizon,
            view=view,
            termination=termination,
            reward=reward,
            penalty=penalty,
            seed=seed,
            compile=compile,
        )
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._host = HostWriter(self.simulator)
        self._actions: Any = None
        # VecEnv's constructor asks get_attr for the render mode.
        self.num_envs, self.render_mode, self.spec = num_envs, render_mode, None
        super().__init__(num_envs, self._host.space, self._read.space)
        self.metadata = {"render_modes": ["rgb_array"]}

    def reset(self) -> Any:
        """Begin an episode in every row; a seed given by :meth:`seed` is used here, once."""
        given = [seed for seed in self._seeds if seed is not None]
        if given:
            self.simulator.seed(given[0])
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self._host.observation(self.simulator.reset())

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Dream the step.

        Raises:
            SpaceError: if the actions do not fit ``action_space``.
        """
        simulator = self.simulator
        step = simulator.step(self._read(self._actions, self.num_envs))
        seen, rewards, ends, cuts = self._host.step(step)
        dones = ends | cuts
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if not simulator.all_running and dones.any():
            for i in np.flatnonzero(dones):
                _add_end(infos[i], row_of(seen, int(i)), truncated=not ends[i])
            seen = self._host.observation(simulator.reset(simulator.done))
        return seen, rewards, dones, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_images(self) -> list[np.ndarray | None]:
        """The rows' current frames, uint8 ``(H, W, 3)``."""
        return cast("list[np.ndarray | None]", simulator_frames(self.simulator))


class GymnasiumVecEnv(_AttributeVecEnv):
    """Any ``gymnasium.vector.VectorEnv`` as an SB3 ``VecEnv``, whatever its autoreset mode.

    SB3 wants the first observation of a new episode in the step that ends the old one. ``SAME_STEP`` gives it. With
    ``DISABLED`` and ``NEXT_STEP`` the finished rows are reset at once by ``reset(options={"reset_mask": ...})``, which
    Gymnasium's own vector environments and :class:`DreamVectorEnv` honour in both modes (``AsyncVectorEnv`` with
    ``shared_memory=True``).

    Args:
        env: the vector environment.

    Raises:
        ValueError: at the end of an episode, if a ``NEXT_STEP`` environment has reset rows that were not asked for.
    """

    def __init__(self, env: VectorEnv) -> None:
        self.env = env
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._actions: Any = None
        self.num_envs, self.render_mode, self.spec = env.num_envs, env.render_mode, env.spec
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> Any:
        """Reset every row; seeds and options given before are used here, once."""
        # SB3 counts up from the first seed, as Gymnasium does with a single one.
        observation, info = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [_row_info(info, i) for i in range(self.num_envs)]
        return _copied(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every row, restarting those that finish."""
        observation, rewards, ends, cuts, info = self.env.step(self._actions)
        ends = np.array(ends, dtype=bool)
        dones = ends | np.asarray(cuts, dtype=bool)
        observation = _copied(observation)
        infos = [_row_info(info, i) for i in range(self.num_envs)]
        if dones.any():
            same_step = self._mode is AutoresetMode.SAME_STEP
            final = info["final_obs"] if same_step else observation
            for i in np.flatnonzero(dones):
                if same_step:
                    # The infos tell of the episode that begins, and under `final_info` of the one that ended.
                    self.reset_infos[i] = infos[i]
                    infos[i] = {**infos[i], **_row_info(info.get("final_info", {}), int(i))}
                _add_end(infos[i], row_of(final, int(i)), truncated=not ends[i])
            if not same_step:
                observation = self._restarted(observation, dones)
        return observation, np.array(rewards, dtype=np.float32), dones, infos

    def _restarted(self, observation: Any, dones: np.ndarray) -> Any:
        """The observations after the rows that are done were reset, and no other."""
        fresh, info = self.env.reset(options={"reset_mask": dones.copy()})
        fresh = _copied(fresh)
        if self._mode is AutoresetMode.NEXT_STEP and not _same_rows(fresh, observation, ~dones):
            raise ValueError(
                "the vector environment ignores reset_mask: it reset rows whose episodes go on. Build it with "
                "autoreset_mode=AutoresetMode.SAME_STEP (gymnasium.make_vec with vectorization_mode='sync' and "
                "vector_kwargs={'autoreset_mode': ...})."
            )
        for i in np.flatnonzero(dones):
            self.reset_infos[i] = _row_info(info, int(i))
        return fresh

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> list[np.ndarray | None]:
        """The rows' frames."""
        frames = self.env.render()
        return [None] * self.num_envs if frames is None else list(cast(Any, frames))


class SB3Policy(TensorDictModuleBase):
    """An SB3 agent as a TensorDict policy, for collectors and rollouts on real TorchRL environments.

    Args:
        agent: the agent. Whether it samples from its own policy follows ``deterministic``, not TorchRL's exploration
            type.
        observation_spec: spec of one real observation; for an agent trained on latents, ``Composite(latent=...)``.
        action_spec: spec of one real action.
        deterministic: take the agent's mode instead of sampling.

    Raises:
        SpaceError: if the agent was trained on other spaces.
    """

    def __init__(
        self, agent: BaseAlgorithm, observation_spec: Composite, action_spec: TensorSpec, *, deterministic: bool = False
    ) -> None:
        super().__init__()
        self.in_keys = list(observation_spec.keys())
        self.out_keys = ["action"]
        self.agent = agent
        self.deterministic = deterministic
        self._shapes = {str(key): leaf.shape for key, leaf in observation_spec.items()}
        self._read = ActionReader(action_spec, torch.device("cpu"))
        self._write = ObservationWriter(observation_spec)
        for name, given, wanted in (
            ("observes", agent.observation_space, self._write.space),
            ("acts in", agent.action_space, self._read.space),
        ):
            if _as_sb3_sees(given) != _as_sb3_sees(wanted):
                raise SpaceError(f"the agent {name} {given}, and the environment has {wanted}.")

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action``."""
        batch = tensordict.batch_size
        rows = batch.numel()
        tensors = {key: cast(Tensor, tensordict[key]) for key in self._shapes}
        arrays = {key: value.detach().reshape(rows, *self._shapes[key]).cpu().numpy() for key, value in tensors.items()}
        actions, _ = self.agent.predict(self._write(arrays), deterministic=self.deterministic)
        action = self._read(actions, rows)
        device = next(iter(tensors.values())).device
        return tensordict.set("action", action.reshape(*batch, *action.shape[1:]).to(device))


def _as_sb3_sees(space: Space) -> Any:
    """The outline of a space, blind to the order of an image's axes, which SB3 changes on its own."""
    if isinstance(space, Dict):
        return {key: _as_sb3_sees(entry) for key, entry in space.items()}
    if is_image_space(space):
        return ("image", sorted(cast(Any, space).shape))
    return outline(space)


def _add_end(info: dict[str, Any], final: Any, *, truncated: bool) -> None:
    """What SB3 reads of a finished row: its last observation, and whether the clock alone ended it."""
    info["terminal_observation"] = final
    info["TimeLimit.truncated"] = truncated


def _row_info(info: dict[str, Any], index: int) -> dict[str, Any]:
    """One row's entries of a Gymnasium vector info."""
    row = {}
    for key, value in info.items():
        mask = info.get(f"_{key}")
        if key in ("final_obs", "final_info") or mask is None or not mask[index]:
            continue
        row[key] = _row_info(value, index) if isinstance(value, dict) else value[index]
    return row


def _same_rows(new: Any, old: Any, rows: np.ndarray) -> bool:
    if isinstance(new, dict):
        return all(_same_rows(new[key], old[key], rows) for key in new)
    return bool(np.array_equal(new[rows], old[rows], equal_nan=new.dtype.kind == "f"))


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(value) for key, value in observation.items()}
    return np.array(observation)
