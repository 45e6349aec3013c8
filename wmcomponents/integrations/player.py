"""An agent as Stable-Baselines3 knows one: ``predict`` on Gymnasium's observations, its memory handed around."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents.codecs import EntryCodec
from wmcomponents.integrations.spaces import ObservationReader
from wmcomponents.world_model import items_of
from wmcomponents.world_model.filter import FILTERED, PAST_KNOWN

Memory = dict[str, Tensor]
"""What a policy carries from step to step, ``[N, ...]`` each."""


class Player:
    """Any agent in real environments of Gymnasium or Stable-Baselines3: observations in, actions out.

    So ``evaluate_policy(Player(agent), env)`` of Stable-Baselines3 runs, and a loop of five lines::

        observation, _ = env.reset()
        state, begins, over = None, np.ones(1, bool), False
        while not over:
            action, state = player.predict(observation, state, begins)
            observation, reward, terminated, truncated, _ = env.step(action)
            begins, over = np.zeros(1, bool), terminated or truncated

    Args:
        agent: has a ``real_policy`` and a ``model`` (``agents.Agent``).

    Attributes:
        observation_space: of one observation.
        action_space: of one action.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self._policy = agent.real_policy
        self._device = next((p.device for p in agent.model.parameters()), torch.device("cpu"))
        self._read = ObservationReader(agent.model.observation_spec, self._device)
        self._actions = EntryCodec(agent.model.action_spec)
        self.observation_space, self.action_space = self._read.space, self._actions.space
        primer = getattr(self._policy, "make_tensordict_primer", None)
        self._carried = [] if primer is None else items_of(primer().primers)

    def predict(
        self,
        observation: Any,
        state: Memory | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Memory]:
        """The next action.

        Args:
            observation: of one environment, or of N stacked.
            state: what the last call returned; ``None`` before the first.
            episode_start: bool ``[N]``, where the observation is the first of its episode; without, only where
                ``state`` is ``None``.
            deterministic: take the policy's mode in place of drawing.

        Returns:
            The action, or N of them, as the action space has them, and the memory to hand in with the next observation.

        Raises:
            SpaceError: if the observation is not one of the space.
        """
        rows, stacked = self._stacked(observation)
        entries = self._read(stacked, 1 if rows is None else rows)
        count = 1 if rows is None else rows
        begins = np.full(count, state is None) if episode_start is None else np.asarray(episode_start, dtype=bool)
        is_init = torch.as_tensor(begins.reshape(count, 1), device=self._device)
        kind = ExplorationType.DETERMINISTIC if deterministic else ExplorationType.RANDOM
        with torch.no_grad(), set_exploration_type(kind):
            action, kept = self.act(entries, state, is_init)
        written = self._actions.write(action.cpu().numpy())
        return (written[0] if rows is None else written), kept

    def act(self, entries: Mapping[str, Tensor], state: Memory | None, is_init: Tensor) -> tuple[Tensor, Memory]:
        """The next action as the world model knows it, of observations as it knows them.

        Args:
            entries: of the model's observations, ``[N, ...]`` each.
            state: what the last call returned; ``None`` before the first.
            is_init: bool ``[N, 1]``, where the observation is the first of its episode.

        Returns:
            The action ``[N, ...]``, and the memory to hand in with the next observations.
        """
        rows = is_init.shape[0]
        out = self._policy(TensorDict({**entries, **self._memory(state, is_init, rows), "is_init": is_init}, [rows]))
        action = cast(Tensor, out.get("action"))
        kept = {key: out.get(key) for key, _ in self._carried}
        if "prev_action" in kept:
            kept["prev_action"] = action
        if FILTERED in kept:
            kept[PAST_KNOWN], kept[FILTERED] = kept[FILTERED], torch.zeros_like(kept[FILTERED])
        return action, kept

    def _memory(self, state: Memory | None, is_init: Tensor, rows: int) -> Memory:
        """The memory, emptied where an episode begins."""
        memory: Memory = {}
        for key, leaf in self._carried:
            empty = torch.zeros(rows, *leaf.shape, dtype=leaf.dtype, device=self._device)
            flags = is_init.reshape(rows, *[1] * len(leaf.shape))
            memory[key] = empty if state is None else torch.where(flags, empty, state[key])
        return memory

    def _stacked(self, observation: Any) -> tuple[int | None, Any]:
        """How many rows there are (``None``: a single observation), and the observation with a dimension of rows."""
        space: Any = self.observation_space
        if isinstance(observation, dict):
            name = next(iter(observation))
            value, ndim = np.asarray(observation[name]), len(space[name].shape)
        else:
            value, ndim = np.asarray(observation), len(space.shape)
        if value.ndim > ndim:
            return len(value), observation
        if isinstance(observation, dict):
            return None, {key: np.asarray(entry)[None] for key, entry in observation.items()}
        return None, value[None]
