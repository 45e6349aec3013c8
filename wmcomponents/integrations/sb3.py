"""Dreams as Stable-Baselines3 ``VecEnv``s, any Gymnasium ``VectorEnv`` as one, SB3 policies as TensorDict modules."""

import contextlib
import warnings
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import InteractionType, TensorDictModuleBase
from tensordict.nn.probabilistic import interaction_type
from torch import Tensor
from torchrl.data import Composite, TensorSpec
from typing_extensions import Unpack

from wmcomponents._extras import require
from wmcomponents.data.episodes import derived_seed
from wmcomponents.dream.make import Model, make_simulator
from wmcomponents.dream.options import DreamOptions, refuse_unknown
from wmcomponents.dream.uncertainty import UNCERTAINTY
from wmcomponents.nn.mode import EvalMode

require("stable_baselines3", extra="sb3")

from gymnasium.spaces import Dict, Space  # noqa: E402
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402
from stable_baselines3.common.preprocessing import is_image_space  # noqa: E402

from wmcomponents.integrations.gymnasium.goal_dreams import goal_rewards  # noqa: E402
from wmcomponents.integrations.sb3_state import arrays_drawn_apart  # noqa: E402
from wmcomponents.integrations.sb3_vector import AttributeVecEnv, add_end  # noqa: E402
from wmcomponents.integrations.sb3_vector import GymnasiumVecEnv as GymnasiumVecEnv  # noqa: E402
from wmcomponents.integrations.spaces import (  # noqa: E402
    ActionReader,
    HostWriter,
    ObservationWriter,
    SpaceError,
    outline,
    row_of,
)
from wmcomponents.rendering.frames import simulator_frames  # noqa: E402


class DreamVecEnv(AttributeVecEnv):
    """A world model as an SB3 ``VecEnv``: train any SB3 agent inside it.

    Finished rows restart in the same step; ``terminal_observation`` and ``TimeLimit.truncated`` are exact, so that
    value targets bootstrap at the horizon and not at a predicted end. Wrap it in ``VecMonitor`` for episode statistics.

    What clients ask of an environment beyond that is a method of a subclass: ``action_masks()``, the masks of all rows
    ``[num_envs, n]`` (``MaskablePPO``), or ``compute_reward(achieved_goal, desired_goal, infos)`` (hindsight replay).

    Args:
        model: a world model, or the path of a saved one.
        num_envs: number of rows.
        seed: of the rows' common generator; fresh entropy if not given.
        render_mode: ``None`` or ``"rgb_array"``.
        compile: compile the model's step.
        **options: where dreams begin and how they go on, as :class:`~wmcomponents.dream.DreamOptions` says: starts,
            horizon, view (``"both"`` needs SB3's ``"MultiInputPolicy"``), termination, reward, penalty, noise (given
            noise is of ``num_envs`` rows, and begins again after each :meth:`seed`) and uncertainty (told in each row's
            info).

    Attributes:
        simulator: the dream, in tensors.
        reader: turns SB3's actions, arrays or tensors, into the model's.
        writer: turns the dream's observations into SB3's.

    Raises:
        CapabilityError: if the model lacks what these options need.
        TypeError: if an option is unknown.
        BadModelError: if the path holds no valid saved model.
    """

    def __init__(
        self,
        model: Model,
        num_envs: int = 1,
        *,
        seed: int | None = None,
        render_mode: str | None = None,
        compile: bool = False,
        **options: Unpack[DreamOptions],
    ) -> None:
        refuse_unknown(options, type(self))
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is None or 'rgb_array'; got {render_mode!r}.")
        self.simulator = make_simulator(model, batch_size=num_envs, seed=seed, compile=compile, **options)
        if self.simulator.horizon is None and self.simulator.termination == "off":
            warnings.warn(
                "no episode of this dream ever ends, since it has no horizon and terminations are off: "
                "evaluate_policy, VecMonitor and off-policy agents wait for ends. Pass horizon=.",
                stacklevel=2,
            )
        self.reader = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self.writer = HostWriter(self.simulator)
        self._actions: Any = None
        # VecEnv's constructor asks get_attr for the render mode.
        self.num_envs, self.render_mode, self.spec = num_envs, render_mode, None
        super().__init__(num_envs, self.writer.space, self.reader.space)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def set_options(self, options: Any = None) -> None:
        """Take no options: where a dream begins is said by ``starts``.

        Raises:
            ValueError: if there are any.
        """
        if any(options if isinstance(options, (list, tuple)) else [options]):
            raise ValueError(f"a dream has no options for its reset; its starts say where it begins. Got {options}.")

    def reset(self) -> Any:
        """Begin an episode in every row; a seed given by :meth:`seed` is used here, once."""
        given = [seed for seed in self._seeds if seed is not None]
        if given:
            self.simulator.seed(given[0])
        self._reset_seeds()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self.writer.observation(self.simulator.reset())

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Dream the step.

        Raises:
            SpaceError: if the actions do not fit ``action_space``.
            NotFiniteError: if the model shows a NaN or an infinity.
        """
        simulator = self.simulator
        step = simulator.step(self.reader(self._actions, self.num_envs), lend=True)
        seen, rewards, ends, cuts = self.writer.step(step)
        dones = ends | cuts
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if simulator.uncertainty is not None:
            infos = [{UNCERTAINTY: value} for value in simulator.uncertainty.flatten().tolist()]
        if not simulator.all_running and dones.any():
            for i in np.flatnonzero(dones):
                add_end(infos[i], row_of(seen, int(i), self.observation_space), truncated=not ends[i])
            seen = self.writer.observation(simulator.reset(simulator.done))
        return seen, rewards, dones, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_images(self) -> list[np.ndarray | None]:
        """The rows' current frames, uint8 ``(H, W, 3)``."""
        return cast("list[np.ndarray | None]", simulator_frames(self.simulator))


class GoalDreamVecEnv(DreamVecEnv):
    """A dream with goals as an SB3 ``VecEnv``: hindsight replay (``HerReplayBuffer``) runs on it, many rows at once.

    It shows ``observation`` (the model's features), ``achieved_goal`` and ``desired_goal``; policies are
    ``"MultiInputPolicy"``.

    Args:
        model: a world model with goals, :class:`~wmcomponents.dream.GoalWorldModel`.
        num_envs: number of rows.
        **options: of :class:`DreamVecEnv`; ``starts`` say which goals there are (``GoalStarts``).

    Raises:
        CapabilityError: if the model knows no goals.
    """

    def __init__(self, model: Model, num_envs: int = 1, **options: Any) -> None:
        given: Any = {"view": "goal", **options}
        super().__init__(model, num_envs, **given)
        self.simulator.model.require("goal", driver="GoalDreamVecEnv", remedy="wrap the model: GoalWorldModel(model).")

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """What would be paid for having achieved this where that was desired, float32 ``[K]`` of ``[K, G]``."""
        return goal_rewards(self.simulator.model, achieved_goal, desired_goal)


class SB3Policy(TensorDictModuleBase):
    """An SB3 agent as a TensorDict policy, for collectors and rollouts on real TorchRL environments.

    An agent that was trained in a ``VecNormalize`` sees observations normalised as it last did there.

    Args:
        agent: the agent; its networks are left in the mode that they are in.
        observation_spec: spec of one real observation; for an agent trained on latents, ``Composite(latent=...)``.
        action_spec: spec of one real action.
        deterministic: take the agent's mode instead of sampling from its policy; ``None`` follows TorchRL's exploration
            type and samples where that is ``RANDOM``.
        seed: of what the agent draws outside torch when it samples (DQN's random actions, from NumPy's global generator
            and that of its action space); they are drawn from there if not given.

    Attributes:
        drawn: how many times it has sampled by the seed; what comes next follows from both.

    Raises:
        SpaceError: if the agent was trained on other spaces.
        TypeError: on call, if the agent is recurrent.
    """

    def __init__(
        self,
        agent: BaseAlgorithm,
        observation_spec: Composite,
        action_spec: TensorSpec,
        *,
        deterministic: bool | None = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.seed, self.drawn = seed, 0
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
        """Write ``action``, ``[*B, ...]``, for the observations ``[*B, ...]`` that the agent reads."""
        batch = tensordict.batch_size
        rows = batch.numel()
        tensors = {key: cast(Tensor, tensordict[key]) for key in self._shapes}
        arrays = {key: value.detach().reshape(rows, *self._shapes[key]).cpu().numpy() for key, value in tensors.items()}
        seen = self._write(arrays)
        normalizer = self.agent.get_vec_normalize_env()
        if normalizer is not None:
            seen = normalizer.normalize_obs(seen)
        settled = self.deterministic
        if settled is None:
            settled = interaction_type() is not InteractionType.RANDOM
        with EvalMode(self.agent.policy), contextlib.nullcontext() if settled else self._drawing():
            actions, memory = self.agent.predict(seen, deterministic=settled)
        if memory is not None:
            raise TypeError(
                f"{type(self.agent).__name__} carries a memory from step to step, and a TensorDict policy made of it "
                f"would forget it: act with agent.predict(observation, state=..., episode_start=...)."
            )
        action = self._read(actions, rows)
        device = next(iter(tensors.values())).device
        return tensordict.set("action", action.reshape(*batch, *action.shape[1:]).to(device))

    def _drawing(self) -> contextlib.AbstractContextManager[None]:
        """Let what is drawn outside torch follow from the seed and the number of draws before."""
        if self.seed is None:
            return contextlib.nullcontext()
        self.drawn += 1
        number = derived_seed(self.seed, self.drawn)
        self.agent.action_space.seed(number)
        return arrays_drawn_apart(number)


def _as_sb3_sees(space: Space) -> Any:
    """The outline of a space, blind to the order of an image's axes, which SB3 changes on its own."""
    if isinstance(space, Dict):
        return {key: _as_sb3_sees(entry) for key, entry in space.items()}
    if is_image_space(space):
        return ("image", sorted(cast(Any, space).shape))
    return outline(space)
