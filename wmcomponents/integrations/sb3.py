"""Dreams as Stable-Baselines3 ``VecEnv``s, any Gymnasium ``VectorEnv`` as one, and SB3 policies as TensorDict modules."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import Composite, TensorSpec

from wmcomponents._extras import require
from wmcomponents.dream.simulator import Model, RewardFunction, Termination, View, make_simulator
from wmcomponents.dream.starts import Starts

require("stable_baselines3", extra="sb3")

from gymnasium.spaces import Box  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402
from stable_baselines3.common.vec_env import VecEnv  # noqa: E402

from wmcomponents.evaluation.frames import simulator_frames  # noqa: E402
from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    HostCopy,
    SpaceError,
    observation_arrays,
    space_from_spec,
)


class _AttributeVecEnv(VecEnv):
    """The attribute machinery of a ``VecEnv`` whose rows are not separate Python objects: all rows are alike."""

    _attributes: dict[str, Any]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once for each row asked for."""
        if attr_name in self._attributes:
            return [self._attributes[attr_name]] * len(self._rows(indices))
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
        return [indices] if isinstance(indices, (int, np.integer)) else list(indices)


class DreamVecEnv(_AttributeVecEnv):
    """A world model as an SB3 ``VecEnv``: train any SB3 agent inside it.

    Finished rows restart in the same step; ``terminal_observation`` and ``TimeLimit.truncated`` are exact, so that value
    targets bootstrap at the horizon and not at a predicted end. Wrap it in ``VecMonitor`` for episode statistics.

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
        self._attributes = {"render_mode": render_mode, "spec": None}
        self.num_envs = num_envs
        self._spec = self.simulator.observation_spec.cpu()
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._to_host = HostCopy()
        self._actions: Any = None
        super().__init__(num_envs, space_from_spec(self._spec), self._read.space)
        self.metadata = {"render_modes": ["rgb_array"]}

    def reset(self) -> Any:
        """Begin an episode in every row; a seed given by :meth:`seed` is used here, once."""
        given = [seed for seed in self._seeds if seed is not None]
        if given:
            self.simulator.seed(given[0])
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        observation = self.simulator.reset()
        keys, tensors = list(observation), list(observation.values())
        return self._seen(keys, self._to_host(tensors))

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Dream the step.

        Raises:
            SpaceError: if the actions do not fit ``action_space``.
        """
        simulator = self.simulator
        observation, reward, terminated, truncated = simulator.step(self._read(self._actions, self.num_envs))
        keys = list(observation)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        arrays = self._to_host([*observation.values(), reward, terminated, truncated])
        seen = self._seen(keys, arrays)
        rewards, ends, cuts = (array[:, 0] for array in arrays[-3:])
        dones = ends | cuts
        if dones.any():
            for i in np.flatnonzero(dones):
                infos[i]["terminal_observation"] = _row(seen, i)
                infos[i]["TimeLimit.truncated"] = bool(cuts[i] and not ends[i])
            fresh = simulator.reset(torch.as_tensor(dones, device=simulator.device))
            seen = self._seen(keys, self._to_host(list(fresh.values())))
        return seen, rewards, dones, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_images(self) -> list[np.ndarray | None]:
        """The rows' current frames, uint8 ``(H, W, 3)``."""
        return cast("list[np.ndarray | None]", simulator_frames(self.simulator))

    def _seen(self, keys: list[str], arrays: list[np.ndarray]) -> Any:
        return observation_arrays(dict(zip(keys, arrays, strict=False)), self._spec)


class GymnasiumVecEnv(_AttributeVecEnv):
    """Any ``gymnasium.vector.VectorEnv`` as an SB3 ``VecEnv``, whatever its autoreset mode.

    Args:
        env: the vector environment. With ``NEXT_STEP`` a finished row is restarted by one extra step of the whole batch,
            which the other rows would have to sit out; that is impossible, so this mode is refused.
            Use ``SAME_STEP`` or ``DISABLED``.

    Raises:
        ValueError: if the autoreset mode is ``NEXT_STEP``.
    """

    def __init__(self, env: VectorEnv) -> None:
        mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if mode is AutoresetMode.NEXT_STEP:
            raise ValueError(
                "SB3 returns the first observation of a new episode in the step that ends the old one, which NEXT_STEP "
                "cannot give: build the vector env with autoreset_mode=AutoresetMode.SAME_STEP (make_vec: "
                "vector_kwargs={'autoreset_mode': ...}) or DISABLED."
            )
        self.env = env
        self._mode = mode
        self._attributes = {"render_mode": env.render_mode, "spec": env.spec}
        self.num_envs = env.num_envs
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Reset every row; seeds and options given before are used here, once."""
        given = [seed for seed in self._seeds if seed is not None]
        observation, _ = self.env.reset(seed=given[0] if given else None, options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return _copied(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every row, restarting those that finish."""
        observation, rewards, ends, cuts, info = self.env.step(self._actions)
        ends, cuts = np.asarray(ends, dtype=bool), np.asarray(cuts, dtype=bool)
        dones = ends | cuts
        observation = _copied(observation)
        infos = [_row_info(info, i) for i in range(self.num_envs)]
        if dones.any():
            final = observation if self._mode is AutoresetMode.DISABLED else info["final_obs"]
            for i in np.flatnonzero(dones):
                infos[i]["terminal_observation"] = _row(final, i)
                infos[i]["TimeLimit.truncated"] = bool(cuts[i] and not ends[i])
            if self._mode is AutoresetMode.DISABLED:
                fresh, _ = self.env.reset(options={"reset_mask": dones})
                observation = _copied(fresh)
        return observation, np.asarray(rewards, dtype=np.float32), dones, infos

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
        agent: anything with SB3's ``predict`` and ``observation_space``.
        observation_spec: spec of one real observation.
        action_spec: spec of one real action.
        deterministic: take the agent's mode instead of sampling.
    """

    def __init__(
        self, agent: BaseAlgorithm, observation_spec: Composite, action_spec: TensorSpec, *, deterministic: bool = False
    ) -> None:
        super().__init__()
        self.in_keys = list(observation_spec.keys())
        self.out_keys = ["action"]
        self.agent = agent
        self.deterministic = deterministic
        self._observation_spec = observation_spec
        self._read = ActionReader(action_spec, torch.device("cpu"))
        wanted, given = space_from_spec(observation_spec), agent.observation_space
        if isinstance(wanted, Box) and len(cast(tuple, wanted.shape)) == 1 and wanted.shape != given.shape:
            raise SpaceError(f"the agent observes {given}, and the environment shows {wanted}.")

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action``."""
        batch = tensordict.batch_size
        rows = batch.numel()
        arrays = {
            key: tensordict[key].reshape(rows, *leaf.shape).cpu().numpy() for key, leaf in self._observation_spec.items()
        }
        actions, _ = self.agent.predict(
            cast(Any, observation_arrays(arrays, self._observation_spec)), deterministic=self.deterministic
        )
        action = self._read(actions, rows)
        return tensordict.set("action", action.reshape(*batch, *action.shape[1:]))


def _row(observation: Any, index: int) -> Any:
    if isinstance(observation, dict):
        return {key: value[index] for key, value in observation.items() if not key.startswith("_")}
    return observation[index]


def _row_info(info: dict[str, Any], index: int) -> dict[str, Any]:
    """One row's entries of a Gymnasium vector info."""
    row = {}
    for key, value in info.items():
        mask = info.get(f"_{key}")
        if key.startswith("_") or key in ("final_obs", "final_info") or mask is None or not mask[index]:
            continue
        row[key] = _row_info(value, index) if isinstance(value, dict) else value[index]
    return row


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(value) for key, value in observation.items()}
    return np.array(observation)
