"""Two rooms, a wall between them with a door: a small world of goals, drawn from above."""

from typing import Any, NamedTuple

import numpy as np

from wmcomponents._arguments import whole
from wmcomponents._extras import require

gymnasium = require("gymnasium", extra="gym")

from gymnasium import spaces  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

SIDE = 64
"""Pixels a side, which are its units of length."""

WALL, DOOR, BORDER, DOT = 3.0, 8.0, 2.0, 2.0
"""Thickness of the wall, width of the door, thickness of the outer walls, radius of the dot."""

PUBLISHED_DOOR = 12.0
"""Width of a door that leaves the dot's middle as much room as PLDM's and eb_jepa's tasks do, 8 pixels: there the dot
is drawn, and has no size where it meets a wall."""

BY_DOOR = 8.0
"""Distance from the wall's middle within which an episode begins that begins by the door."""

LONGEST_STEP = 2.45
"""The longest move; shorter than the wall is thick, so that none leads through it."""

NEAR = 4.5
"""A goal is reached within this distance."""


class Rooms(NamedTuple):
    """N worlds, each with its own wall.

    Attributes:
        position: of the dot, x and y in pixels, float64 ``[N, 2]``.
        goal: where it is to go, ``[N, 2]``.
        wall: x of the wall's middle, ``[N]``.
        door: y of the door's middle, ``[N]``.
        width: of the door, ``[N]``, or ``[]`` for all.
    """

    position: np.ndarray
    goal: np.ndarray
    wall: np.ndarray
    door: np.ndarray
    width: np.ndarray = np.array(DOOR)


def drawn_rooms(
    rows: int,
    generator: np.random.Generator,
    *,
    random_wall: bool = True,
    door_width: float = DOOR,
    door_starts: float = 0.0,
) -> Rooms:
    """Worlds at random: walls, doors, the dot and its goal, which lie in different rooms.

    Args:
        rows: N.
        generator: the source.
        random_wall: draw wall and door; both stand in the middle otherwise.
        door_width: of the door.
        door_starts: chance that the dot is by the door or in it.
    """
    middle = np.full(rows, (SIDE - 1) / 2)
    wall, door = middle, middle
    if random_wall:
        wall, door = generator.uniform(SIDE * 0.3, SIDE * 0.7, rows), generator.uniform(SIDE * 0.2, SIDE * 0.8, rows)
    is_left = generator.random(rows) < 0.5
    near, far = BORDER + DOT, SIDE - 1 - BORDER - DOT
    reach = WALL / 2 + DOT

    def somewhere(left: np.ndarray) -> np.ndarray:
        x = np.where(left, generator.uniform(near, wall - reach), generator.uniform(wall + reach, far))
        return np.stack([x, generator.uniform(near, far, rows)], -1)

    start = somewhere(is_left)
    if door_starts:
        gap = generator.uniform(0.0, BY_DOOR, rows)
        aside = np.where(gap < reach, door_width / 2 - DOT, BY_DOOR) * generator.uniform(-1.0, 1.0, rows)
        by_door = np.stack([wall + np.where(is_left, -gap, gap), np.clip(door + aside, near, far)], -1)
        start = np.where(generator.random((rows, 1)) < door_starts, by_door, start)
    return Rooms(start, somewhere(~is_left), wall, door, np.full(rows, door_width))


def moved(rooms: Rooms, action: np.ndarray) -> Rooms:
    """The worlds after a move: it stops at walls, and leads through the door alone.

    Args:
        rooms: before.
        action: the move in pixels, ``[N, 2]``; one longer than :data:`LONGEST_STEP` is shortened to it.
    """
    length = np.linalg.norm(action, axis=-1, keepdims=True)
    action = action * np.minimum(1.0, LONGEST_STEP / np.maximum(length, 1e-9))
    x, y = rooms.position.T
    near, far = BORDER + DOT, SIDE - 1 - BORDER - DOT
    reach, open_to = WALL / 2 + DOT, rooms.width / 2 - DOT
    within = (np.abs(x - rooms.wall) < reach) & (np.abs(y - rooms.door) <= open_to)  # in the doorway
    new_y = np.clip(y + action[:, 1], near, far)
    new_y = np.where(within, np.clip(new_y, rooms.door - open_to, rooms.door + open_to), new_y)
    new_x = np.clip(x + action[:, 0], near, far)
    blocked = (np.abs(new_x - rooms.wall) < reach) & (np.abs(new_y - rooms.door) > open_to)
    new_x = np.where(blocked, rooms.wall + np.where(x < rooms.wall, -reach, reach), new_x)
    return rooms._replace(position=np.stack([new_x, new_y], -1))


def picture(rooms: Rooms, position: np.ndarray | None = None) -> np.ndarray:
    """The worlds from above, uint8 ``[N, SIDE, SIDE, 3]``: the dot in the first channel, the walls in the second.

    Args:
        rooms: the worlds.
        position: where the dot is drawn, ``[N, 2]``; where it is if not given.
    """
    at = rooms.position if position is None else position
    line = np.arange(SIDE)
    gap = np.hypot(line[None, None, :] - at[:, 0, None, None], line[None, :, None] - at[:, 1, None, None])
    dot = np.clip(DOT + 0.5 - gap, 0.0, 1.0)
    is_wall = np.abs(line[None, None, :] - rooms.wall[:, None, None]) <= WALL / 2
    half = np.broadcast_to(rooms.width, rooms.door.shape)[:, None, None] / 2
    is_door = np.abs(line[None, :, None] - rooms.door[:, None, None]) <= half
    outer = (line < BORDER) | (line > SIDE - 1 - BORDER)
    walls = (is_wall & ~is_door) | outer[None, None, :] | outer[None, :, None]
    return (np.stack([dot, walls, np.zeros_like(dot)], -1) * 255).round().astype(np.uint8)


def _observation_space(goal: bool) -> spaces.Space:
    image = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    return spaces.Dict({"pixels": image, "desired_goal": image}) if goal else image


def _observed(rooms: Rooms, goal: bool) -> Any:
    seen = picture(rooms)
    return {"pixels": seen, "desired_goal": picture(rooms, rooms.goal)} if goal else seen


def _outcome(rooms: Rooms) -> tuple[np.ndarray, np.ndarray]:
    """Rewards, minus the distance over the side, and whether goals are reached."""
    distance = np.linalg.norm(rooms.position - rooms.goal, axis=-1)
    return -distance / SIDE, distance < NEAR


def _check(render_mode: str | None, door_width: float, door_starts: float) -> None:
    """Refuse what cannot be.

    Raises:
        ValueError: for another render mode, a door that the dot does not fit through, or a chance outside [0, 1].
    """
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode is None or 'rgb_array'; got {render_mode!r}.")
    if not 2 * DOT < door_width < SIDE:
        raise ValueError(
            f"door_width is more than the dot's {2 * DOT:g} pixels and less than the side's {SIDE}; got {door_width}."
        )
    if not 0.0 <= door_starts <= 1.0:
        raise ValueError(f"door_starts is a chance in [0, 1]; got {door_starts}.")


class TwoRooms(gymnasium.Env):
    """A dot in two rooms with a door between them, seen from above; its goal lies in the other room.

    The action is the dot's move in pixels. The reward is minus the distance to the goal in sides of the picture, and
    the episode ends where the goal is nearer than 4.5 pixels. ``info`` tells ``position``, ``goal`` and ``is_success``.

    Args:
        goal: show the picture of the goal reached, as ``desired_goal`` beside the ``pixels``.
        random_wall: draw wall and door anew in every episode; both stand in the middle otherwise.
        render_mode: ``None`` or ``"rgb_array"``.
        door_width: of the door in pixels, more than the dot's 4; :data:`PUBLISHED_DOOR` for the room that the dot has
            in the paper's task.
        door_starts: chance that an episode begins with the dot within 8 pixels of the door or in it, for random walks
            that tell of doors: from anywhere, 7 % of walks of 20 steps lead through one. PLDM's data sets that share
            as well.

    Raises:
        ValueError: for another render mode, or a door that the dot does not fit through.

    Reference: after the two-rooms task of Sobal et al., Learning from Reward-Free Offline Data (PLDM, 2025).

    Example:
        >>> env = TwoRooms(goal=True)
        >>> observation, info = env.reset(seed=0)
        >>> sorted(observation), observation["pixels"].shape
        (['desired_goal', 'pixels'], (64, 64, 3))
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        *,
        goal: bool = False,
        random_wall: bool = True,
        render_mode: str | None = None,
        door_width: float = DOOR,
        door_starts: float = 0.0,
    ) -> None:
        _check(render_mode, door_width, door_starts)
        self._drawn = {"random_wall": random_wall, "door_width": door_width, "door_starts": door_starts}
        self.render_mode, self._goal = render_mode, goal
        self.observation_space = _observation_space(goal)
        self.action_space = spaces.Box(-LONGEST_STEP, LONGEST_STEP, (2,), np.float32)
        self.rooms: Rooms | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw walls, start and goal.

        Args:
            seed: of this episode and those that follow.
            options: ignored.
        """
        super().reset(seed=seed)
        self.rooms = drawn_rooms(1, self.np_random, **self._drawn)
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self.rooms is None:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        self.rooms = moved(self.rooms, np.asarray(action, dtype=np.float64).reshape(1, 2))
        reward, reached = _outcome(self.rooms)
        seen, info = self._seen()
        return seen, float(reward[0]), bool(reached[0]), False, info

    def render(self) -> np.ndarray | None:
        """The picture, uint8 ``(SIDE, SIDE, 3)``, with the goal in blue; ``None`` without a render mode."""
        return None if self.render_mode is None or self.rooms is None else shown(self.rooms)[0]

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        assert self.rooms is not None
        rooms, seen = self.rooms, _observed(self.rooms, self._goal)
        info = {"position": rooms.position[0].copy(), "goal": rooms.goal[0].copy()}
        info["is_success"] = bool(_outcome(rooms)[1][0])
        return ({key: value[0] for key, value in seen.items()} if self._goal else seen[0]), info


class TwoRoomsVector(VectorEnv):
    """Many :class:`TwoRooms` at once, in arrays; a finished row restarts at the step after.

    Args:
        num_envs: N.
        goal: see :class:`TwoRooms`.
        random_wall: see there.
        max_episode_steps: steps after which an episode is truncated; never if not given.
        render_mode: ``None`` or ``"rgb_array"``.
        door_width: see there.
        door_starts: see there.

    Raises:
        ValueError: as there.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        goal: bool = False,
        random_wall: bool = True,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        door_width: float = DOOR,
        door_starts: float = 0.0,
    ) -> None:
        _check(render_mode, door_width, door_starts)
        self._drawn = {"random_wall": random_wall, "door_width": door_width, "door_starts": door_starts}
        self.num_envs = whole("num_envs", num_envs, 1, "the number of rows, at least one row")
        self.metadata = {**TwoRooms.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode, self._goal, self._limit = render_mode, goal, max_episode_steps
        self.single_observation_space = _observation_space(goal)
        self.single_action_space = spaces.Box(-LONGEST_STEP, LONGEST_STEP, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._done, self._age = np.zeros(num_envs, bool), np.zeros(num_envs, int)
        self.rooms: Rooms | None = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw walls, starts and goals, of the rows of ``options["reset_mask"]`` if there is one.

        Args:
            seed: of all rows, an integer.
            options: may hold ``reset_mask``, bool ``[N]``.
        """
        super().reset(seed=seed)
        mask = (options or {}).get("reset_mask")
        self._begin(np.ones(self.num_envs, bool) if mask is None or self.rooms is None else np.asarray(mask, bool))
        return self._seen()

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move every row; those that were done begin anew instead.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self.rooms is None:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        begun = self._done.copy()
        self.rooms = moved(self.rooms, np.asarray(actions, dtype=np.float64))
        self._age += 1
        self._begin(begun)
        reward, reached = _outcome(self.rooms)
        reached = reached & ~begun
        cut = np.zeros_like(reached) if self._limit is None else (self._age >= self._limit) & ~reached
        self._done = reached | cut
        seen, info = self._seen()
        return seen, np.where(begun, 0.0, reward), reached, cut, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The pictures of all rows; ``None`` without a render mode."""
        return None if self.render_mode is None or self.rooms is None else tuple(shown(self.rooms))

    def _begin(self, rows: np.ndarray) -> None:
        if rows.any():
            new = drawn_rooms(self.num_envs, self.np_random, **self._drawn)
            old = new if self.rooms is None else self.rooms
            mixed = (np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True))
            self.rooms = Rooms(*mixed)
        self._done, self._age = self._done & ~rows, np.where(rows, 0, self._age)

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        assert self.rooms is not None
        all_rows = np.ones(self.num_envs, bool)
        facts = {
            "position": self.rooms.position.copy(),
            "goal": self.rooms.goal.copy(),
            "is_success": _outcome(self.rooms)[1],
        }
        info: dict[str, Any] = {}
        for name, value in facts.items():
            info[name], info[f"_{name}"] = value, all_rows.copy()
        return _observed(self.rooms, self._goal), info


def shown(rooms: Rooms) -> np.ndarray:
    """Pictures for people, ``[N, SIDE, SIDE, 3]``: the goal stands in blue.

    Args:
        rooms: the worlds.
    """
    frames = picture(rooms)
    frames[..., 2] = picture(rooms, rooms.goal)[..., 0]
    return frames


def register() -> None:
    """Make ``wmcomponents/TwoRooms-v0`` known to Gymnasium: episodes of 200 steps."""
    if "wmcomponents/TwoRooms-v0" not in gymnasium.registry:
        gymnasium.register(
            "wmcomponents/TwoRooms-v0",
            entry_point="wmcomponents.data.two_rooms:TwoRooms",
            vector_entry_point="wmcomponents.data.two_rooms:TwoRoomsVector",
            max_episode_steps=200,
        )


register()
