"""A real environment of TorchRL, as Gymnasium's, for algorithms that know nothing else."""

from typing import Any

import gymnasium
import torch
from torchrl.envs import EnvBase

from wmcomponents.codecs import EntryCodec, action_spec, observation_spec
from wmcomponents.codecs.spaces import space_from_spec


class RealGym(gymnasium.Env):
    """What ``make_env`` made, entry by entry.

    Args:
        env: without batch dimension.
    """

    def __init__(self, env: EnvBase) -> None:
        self.env, spec = env, observation_spec(env)
        self.observation_space = space_from_spec(spec)
        self._action = EntryCodec(action_spec(env))
        self.action_space = self._action.space
        self._entries = {str(key): EntryCodec(leaf) for key, leaf in spec.items()}
        self._now: Any = None

    def _seen(self, step: Any) -> Any:
        entries = {key: codec.write(step[key]).numpy() for key, codec in self._entries.items()}
        return entries if isinstance(self.observation_space, gymnasium.spaces.Dict) else next(iter(entries.values()))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        if seed is not None:
            self.env.set_seed(seed)
        self._now = self.env.reset()
        return self._seen(self._now), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step."""
        self._now["action"] = self._action.read(torch.as_tensor(action)[None])[0]
        self._now = self.env.step(self._now)["next"]
        ended, cut = bool(self._now["terminated"]), bool(self._now["truncated"])
        return self._seen(self._now), float(self._now["reward"]), ended, cut, {}
