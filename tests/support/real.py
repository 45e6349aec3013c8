"""Small real environments for the adapters' tests: they count, so that every observation can be told."""

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH = 3


class Counts(gymnasium.Env):
    """Shows [row, episode, step] (as a Dict beside an image, if asked); an episode lasts ``length`` steps."""

    def __init__(self, row=0, length=LENGTH, as_dict=False, ends=False):
        self.row, self.length, self.as_dict, self.ends = row, length, as_dict, ends
        vector = spaces.Box(-100, 100, (3,), np.float32)
        camera = spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.observation_space = spaces.Dict(camera=camera, position=vector) if as_dict else vector
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.episode = 0

    def _shown(self):
        vector = np.array([self.row, self.episode, self.clock], np.float32)
        if not self.as_dict:
            return vector
        return {"camera": np.full((16, 16, 3), self.clock, np.uint8), "position": vector}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.clock = 0
        return self._shown(), {"begun": self.episode}

    def step(self, action):
        self.clock += 1
        over = self.clock == self.length
        info = {"clock": self.clock, "force": float(action[0])}
        return self._shown(), float(self.clock), over and self.ends, over and not self.ends, info
