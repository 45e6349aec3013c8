"""An environment of any spaces."""

import copy

import gymnasium
import numpy as np
from gymnasium import spaces

VECTOR = spaces.Box(-1, 1, (3,), np.float32)


class Shows(gymnasium.Env):
    """Members of an observation space at random; takes members of an action space, and nothing else."""

    def __init__(self, observation=None, action=None, render_mode=None):
        self.observation_space = copy.deepcopy(VECTOR if observation is None else observation)
        self.action_space = copy.deepcopy(spaces.Discrete(2) if action is None else action)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        if isinstance(self.action_space, spaces.Box):
            action = np.asarray(action)  # Gymnasium's vector environments hand out single numbers without an array
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.t += 1
        return self.observation_space.sample(), 0.0, False, self.t == 5, {}
