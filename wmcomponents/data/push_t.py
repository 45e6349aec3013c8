"""PushT: a round pusher brings a T-shaped block to where it should lie, seen from above."""

import warnings
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents.data.goal_states import IMAGE, GoalStates

gymnasium = require("gymnasium", extra="goals")

REACH = 100.0
"""How far the longest move leads, in the world's own units, of which a side has 512."""

NEAR, NEAR_ANGLE = 20.0, np.pi / 9
"""A goal is reached where pusher and block are this near, together, and the block is turned no further than this."""

PUSHES, HELD = 5, 5
"""A drawn goal is what so many pushes lead to, of so many steps each."""


class PushT(GoalStates):
    """The block and the pusher of gym-pusht, each episode with another arrangement to reach.

    A state is ``[7]``: the pusher's x and y, the block's x and y and its angle, the pusher's velocity. The action moves
    the pusher's target from where the pusher is, by up to 100 along each axis at 1. What the agent feels are its
    position and velocity. A drawn goal is what five pushes towards the block lead to. The distance is that of pusher
    and block, together; the green shape in the image means nothing here.

    Args:
        **options: ``goal``, ``proprioception``, ``pixels``, ``pairs`` and ``render_mode``, see :class:`GoalStates`.

    Reference: Chi et al., Diffusion Policy (2023); the goals as in Zhou et al., DINO-WM (2025).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32), 7, 4, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what pygame imports
            require("gym_pusht", extra="goals")
            pushing: Any = require("gym_pusht.envs", extra="goals")
        self._world: Any = pushing.PushTEnv(obs_type="state", observation_width=IMAGE, observation_height=IMAGE)
        self._world._setup()

    @property
    def state(self) -> np.ndarray:
        """Where pusher and block are, ``[7]``."""
        pusher, block = self._world.agent, self._world.block
        return np.array([*pusher.position, *block.position, block.angle % (2 * np.pi), *pusher.velocity])

    def place(self, state: np.ndarray) -> None:
        """Put both there, the block at rest."""
        world, numbers = self._world, [float(number) for number in state]
        world._setup()  # a new space: nothing of the contacts before is left
        world._last_action = None
        world.agent.position, world.agent.velocity = tuple(numbers[:2]), tuple(numbers[5:7])
        world.block.angle = numbers[4]  # first, as it turns the block around its centre of mass
        world.block.position = tuple(numbers[2:4])
        for body in (world.agent, world.block):
            world.space.reindex_shapes_for_body(body)

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Both anywhere, and where pushes lead from there."""
        draw = self.np_random
        start = np.zeros(7)
        start[:2], start[2:4] = draw.uniform(50, 450, 2), draw.uniform(100, 400, 2)
        start[4] = draw.uniform(0, 2 * np.pi)
        self.place(start)
        self.move(np.zeros(2))  # where they lay in each other they part
        start = self.state
        for _ in range(PUSHES):
            aim = self.state[2:4] + draw.normal(0.0, 60.0, 2)
            for _ in range(HELD):
                self.move((aim - self.state[:2]) / REACH)
        return start, self.state

    def move(self, action: np.ndarray) -> None:
        """A tenth of a second: ten steps of the physics, towards the target."""
        pusher = np.array(self._world.agent.position)
        self._world.step(np.clip(pusher + REACH * np.clip(action, -1.0, 1.0), 0.0, 512.0))

    def picture(self) -> np.ndarray:
        """From above."""
        return self._world._render()

    def felt(self, state: np.ndarray) -> np.ndarray:
        """The pusher's position and velocity, ``[4]``."""
        return state[[0, 1, 5, 6]]

    def distance(self, state: np.ndarray, goal: np.ndarray) -> float:
        """Of pusher and block, together."""
        return float(np.linalg.norm(state[:4] - goal[:4]))

    def near(self, state: np.ndarray, goal: np.ndarray) -> bool:
        """Within 20, and turned by less than a ninth of half a turn."""
        turned = np.abs((state[4] - goal[4] + np.pi) % (2 * np.pi) - np.pi)
        return self.distance(state, goal) < NEAR and bool(turned < NEAR_ANGLE)


def register() -> None:
    """Make ``wmcomponents/PushT-v0`` known to Gymnasium: episodes of 300 steps."""
    if "wmcomponents/PushT-v0" not in gymnasium.registry:
        gymnasium.register("wmcomponents/PushT-v0", entry_point="wmcomponents.data.push_t:PushT", max_episode_steps=300)


register()
