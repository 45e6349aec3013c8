"""The real environment beside a dream: the same actions, and back to any step of it."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchrl.envs.utils import step_mdp

from wmcomponents.data import make_env
from wmcomponents.world_model import WorldModel


class RealStep(NamedTuple):
    """What the real environment showed.

    Attributes:
        observation: arrays by key.
        reward: of the step that led here.
        total: the rewards so far.
        terminated: whether the episode ended here by itself.
        truncated: whether it was cut here.
        repeats: whether the environment did what it had done before, as far as that is known.
        mark: unlike that of any other step.
    """

    observation: dict[str, np.ndarray]
    reward: float = 0.0
    total: float = 0.0
    terminated: bool = False
    truncated: bool = False
    repeats: bool = True
    mark: int = 0

    @property
    def over(self) -> bool:
        """Whether no step follows."""
        return self.terminated or self.truncated


class Reality:
    """A real environment that can be put back to any step it has taken: it is begun again from its seed.

    Args:
        env_id: its id.
        options: how it is built (``data.make_env``).
        model: whose actions it takes and whose observations it shows.

    Raises:
        ValueError: if it shows or takes something else than the model.
    """

    def __init__(self, env_id: str, options: dict[str, Any], model: WorldModel) -> None:
        if model.infers_actions:
            raise ValueError(f"a {type(model).__name__} is played by codes, which are no actions of {env_id}.")
        self.env_id, self.options = env_id, options
        self._env: Any = make_env(env_id, **options)
        self._keys = [str(key) for key in model.observation_spec.keys()]
        self._where = 0
        self._marks = itertools.count(1)
        self._now: Any = None
        seen = self._env.observation_spec_unbatched
        for key in self._keys:
            if key not in seen.keys() or seen[key].shape != model.observation_spec[key].shape:
                raise ValueError(f"{env_id} does not show what the model observes under {key!r}.")
        if self._env.action_spec_unbatched.shape != model.action_spec.shape:
            raise ValueError(f"{env_id} does not take the model's actions.")

    @property
    def env(self) -> Any:
        """The environment."""
        return self._env

    def begin(self, seed: int) -> RealStep:
        """The first observation of the episode of a seed."""
        self._env.set_seed(seed)
        self._now = self._env.reset()
        self._where = next(self._marks)
        return RealStep(self._shown(self._now), mark=self._where)

    def step(self, line: Sequence[RealStep], actions: Sequence[Tensor], seed: int, action: Tensor) -> RealStep:
        """One step from the end of a line of steps.

        Where the environment stands elsewhere, it is begun again and led along the line first.

        Args:
            line: what was shown so far, the first observation included.
            actions: ``[*shape]`` each, one fewer; what led along it.
            seed: of the episode.
            action: ``[*shape]``.
        """
        here = line[-1]
        if here.over:
            return here
        repeats = here.repeats
        if self._where != here.mark:
            last = self.begin(seed)
            for each in actions:
                last = self._taken(each)
                if last.over:
                    break
            same = all(np.array_equal(last.observation[k], here.observation[k], equal_nan=True) for k in self._keys)
            repeats = repeats and same
            if last.over:  # it ended where it had not: nothing can follow
                return here._replace(truncated=True, repeats=False)
        after = self._taken(action)
        after = after._replace(total=here.total + after.reward, repeats=repeats)
        self._where = after.mark
        return after

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _taken(self, action: Tensor) -> RealStep:
        self._now["action"] = action.cpu()
        after = self._env.step(self._now)
        following = after["next"]
        step = RealStep(
            self._shown(following),
            float(following["reward"].sum()),
            terminated=bool(following["terminated"]),
            truncated=bool(following["truncated"]),
            mark=next(self._marks),
        )
        self._now = step_mdp(after, exclude_reward=True)
        return step

    def _shown(self, tensordict: Any) -> dict[str, np.ndarray]:
        return {key: tensordict[key].detach().cpu().numpy().copy() for key in self._keys}


def first_state(model: WorldModel, observation: dict[str, np.ndarray], device: torch.device, seed: int) -> Any:
    """The filter's state after one real observation, ``[1, ...]``.

    Args:
        model: the world model, in eval mode.
        observation: arrays by key.
        device: where the model stands.
        seed: of the filter's noise.
    """
    source = model.noise_source("observe")
    noise = {} if source.empty else source((1,), torch.Generator(device).manual_seed(seed), device)
    seen = {key: torch.as_tensor(value[None]).to(device) for key, value in observation.items()}
    with torch.no_grad():
        return model.observe(
            model.initial_state((1,), device),
            model.null_action((1,), device),
            seen,
            torch.ones(1, 1, dtype=torch.bool, device=device),
            noise,
        )
