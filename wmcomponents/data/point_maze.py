"""PointMaze: a ball that is pushed through a maze to a place, seen from above."""

import contextlib
import os
import weakref
from typing import Any

import numpy as np

from wmcomponents._arguments import whole
from wmcomponents._extras import require
from wmcomponents.data.goal_states import IMAGE, GoalStates
from wmcomponents.data.suites import robotics

gymnasium = require("gymnasium", extra="goals")

NEAR = 0.5
"""A goal is reached within this distance; a cell of the maze is 1 wide."""

SPREAD = 0.25
"""How far from the middle of a cell starts and goals lie at most, along each axis."""


class PointMaze(GoalStates):
    """The ball and the maze of Gymnasium-Robotics, each episode with another place to reach.

    A state is ``[4]``: position and velocity. The action is the force, which lasts for some steps of the physics. All
    of the state is felt. A drawn goal lies in another cell than the start; its velocity is 0, and does not count.

    Args:
        maze: the name of a map of Gymnasium-Robotics: ``"U_MAZE"``, ``"OPEN"``, ``"MEDIUM_MAZE"``, ``"LARGE_MAZE"``.
        held: steps of the physics that an action lasts, of 0.01 s each; DINO-WM takes 5. Between them nothing is drawn.
        **options: ``goal``, ``proprioception``, ``pixels``, ``pairs`` and ``render_mode``, see :class:`GoalStates`.

    Raises:
        ValueError: if there is no such map.

    Reference: Fu et al., D4RL (2020); the goals as in Zhou et al., DINO-WM (2025).
    """

    def __init__(self, *, maze: str = "U_MAZE", held: int = 5, **options: Any) -> None:
        super().__init__(gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32), 4, 4, **options)
        self._held = whole("held", held, 1, "steps of the physics that an action lasts, at least 1")
        robotics()
        maps = require("gymnasium_robotics.envs.maze.maps", extra="goals")
        mazes: Any = require("gymnasium_robotics.envs.maze.point_maze", extra="goals")
        known = [name for name in dir(maps) if isinstance(getattr(maps, name), list)]
        if maze not in known:
            raise ValueError(f"maze is one of {known}; got {maze!r}.")
        layout = getattr(maps, maze)
        self._world: Any = mazes.PointMazeEnv(layout, render_mode="rgb_array", width=IMAGE, height=IMAGE)
        os.unlink(self._world.tmp_xml_file_path)  # the map as MuJoCo has read it
        cells = [
            self._world.maze.cell_rowcol_to_xy(np.array([row, column]))
            for row, line in enumerate(layout)
            for column, what in enumerate(line)
            if what != 1
        ]
        self._cells = np.array(cells)
        self._look_from_above(layout)

    @property
    def state(self) -> np.ndarray:
        """Position and velocity, ``[4]``."""
        data = self._world.point_env.data
        return np.concatenate([data.qpos, data.qvel])

    def place(self, state: np.ndarray) -> None:
        """Put the ball there."""
        self._world.point_env.set_state(np.array(state[:2]), np.array(state[2:]))

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """At rest in two different cells."""
        chosen = self._cells[self.np_random.choice(len(self._cells), 2, replace=False)]
        places = chosen + self.np_random.uniform(-SPREAD, SPREAD, (2, 2))
        start, goal = np.concatenate([places, np.zeros((2, 2))], -1)
        return start, goal

    def move(self, action: np.ndarray) -> None:
        """A push, held."""
        for _ in range(self._held):
            self._world.point_env.step(action)

    def picture(self) -> np.ndarray:
        """From above, all of the maze within its outer walls."""
        return self._world.point_env.render()

    def felt(self, state: np.ndarray) -> np.ndarray:
        """All of it."""
        return state

    def distance(self, state: np.ndarray, goal: np.ndarray) -> float:
        """Of the places."""
        return float(np.linalg.norm(state[:2] - goal[:2]))

    def near(self, state: np.ndarray, goal: np.ndarray) -> bool:
        """Within half a cell."""
        return self.distance(state, goal) < NEAR

    def close(self) -> None:
        """Let go of the renderer."""
        self._closed()

    def _look_from_above(self, layout: list[list[Any]]) -> None:
        world = self._world
        world.model.site_rgba[world.target_site_id, 3] = 0.0  # the goal that the world draws for itself
        widest = max(len(layout), *(len(line) for line in layout))
        renderer = world.point_env.mujoco_renderer
        above = {"azimuth": 90.0, "elevation": -90.0, "lookat": np.zeros(3), "distance": 1.3 * (widest - 1)}
        renderer.default_cam_config = above
        # Before the interpreter takes the graphics library down, which a renderer left open would complain about.
        self._closed = weakref.finalize(self, _close, renderer)


def _close(renderer: Any) -> None:
    with contextlib.suppress(Exception):
        renderer.close()


def register() -> None:
    """Make ``wmcomponents/PointMaze-v0`` known to Gymnasium: episodes of 200 steps."""
    if "wmcomponents/PointMaze-v0" not in gymnasium.registry:
        gymnasium.register(
            "wmcomponents/PointMaze-v0", entry_point="wmcomponents.data.point_maze:PointMaze", max_episode_steps=200
        )


register()
