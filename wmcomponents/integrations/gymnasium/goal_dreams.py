"""Dreams with goals as Gymnasium's goal environments, and the way back to a real environment that shows its goals."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor
from typing_extensions import Unpack

from wmcomponents.dream.make import Model
from wmcomponents.dream.options import DreamOptions
from wmcomponents.dream.starts import model_device
from wmcomponents.integrations.gymnasium.dreams import DreamEnv
from wmcomponents.integrations.gymnasium.latent_wrappers import LatentObservation
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import WorldModel


def goal_rewards(model: WorldModel, achieved_goal: Any, desired_goal: Any) -> Any:
    """What a world model with goals pays, as Gymnasium's ``compute_reward`` gives it.

    Args:
        model: the world model.
        achieved_goal: what was achieved, ``[G]`` or ``[N, G]``.
        desired_goal: what is desired, likewise.

    Returns:
        A number, or float32 ``[N]``.
    """
    device = model_device(model)
    achieved, desired = (torch.as_tensor(np.asarray(one), device=device) for one in (achieved_goal, desired_goal))
    with torch.no_grad(), EvalMode(model):
        paid = model.goal_reward(achieved, desired)[..., 0].to("cpu", torch.float32)
    return float(paid) if paid.ndim == 0 else paid.numpy()


class GoalDreamEnv(DreamEnv):
    """A dream with goals as a goal environment of Gymnasium: hindsight replay (SB3's HER) runs on it.

    It shows ``observation`` (the model's features), ``achieved_goal`` and ``desired_goal``.

    Args:
        model: a world model with goals, :class:`~wmcomponents.dream.GoalWorldModel`.
        render_mode: ``None`` or ``"rgb_array"``.
        **options: of :class:`DreamEnv`; ``starts`` say which goals there are (``GoalStarts``).

    Raises:
        CapabilityError: if the model knows no goals.

    Example:
        >>> import torch
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.dream import GoalStarts, GoalWorldModel
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = GoalWorldModel(ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2)))
        >>> env = GoalDreamEnv(model, starts=GoalStarts(model, {"observation": torch.randn(8, 3)}), horizon=20)
        >>> sorted(env.reset(seed=0)[0])
        ['achieved_goal', 'desired_goal', 'observation']
    """

    def __init__(self, model: Model, *, render_mode: str | None = None, **options: Unpack[DreamOptions]) -> None:
        given: Any = {"view": "goal", **options}
        super().__init__(model, render_mode=render_mode, **given)
        self.simulator.model.require("goal", driver="GoalDreamEnv", remedy="wrap the model: GoalWorldModel(model).")

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """What would be paid for having achieved this where that was desired.

        Args:
            achieved_goal: ``[G]`` or ``[N, G]``.
            desired_goal: likewise.
            info: not read.

        Returns:
            A number, or float32 ``[N]``.
        """
        return goal_rewards(self.simulator.model, achieved_goal, desired_goal)


class GoalObservation(LatentObservation):
    """A real environment that shows its goals, seen as :class:`GoalDreamEnv` shows a dream.

    For agents that were trained there. The environment shows what the world model observes, and ``desired_goal``.

    Args:
        env: the real environment.
        model: the world model with goals.
        sample: draw the filter's z instead of taking the mode.
        seed: of the drawn z; fresh entropy if not given.

    Raises:
        CapabilityError: if the model knows no goals.
        SpaceError: if the environment's spaces are not those of the model.
    """

    def __init__(
        self, env: Any, model: WorldModel | str | Path, *, sample: bool = False, seed: int | None = None
    ) -> None:
        super().__init__(env, model, sample=sample, seed=seed)
        self._filter.model.require("goal", driver="GoalObservation", remedy="wrap the model: GoalWorldModel(model).")
        shown = self._shown()
        self.observation_space = Dict({key: Box(-np.inf, np.inf, one.shape, np.float32) for key, one in shown.items()})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Reset the environment and the filter."""
        _, info = super().reset(seed=seed, options=options)
        return self._shown(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and filter what it shows."""
        _, reward, terminated, truncated, info = super().step(action)
        return self._shown(), reward, terminated, truncated, info

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """As in the dream: :meth:`GoalDreamEnv.compute_reward`."""
        return goal_rewards(self._filter.model, achieved_goal, desired_goal)

    def _shown(self) -> dict[str, np.ndarray]:
        model, state = self._filter.model, self._filter.state
        with torch.no_grad(), EvalMode(model):
            entries: dict[str, Tensor] = {
                "observation": model.goal_free_features(state),
                "achieved_goal": model.achieved_goal(state),
                "desired_goal": model.desired_goal(state),
            }
        return {key: value[0].to("cpu", torch.float32, copy=True).numpy() for key, value in entries.items()}
