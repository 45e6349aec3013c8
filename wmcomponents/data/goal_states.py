"""Worlds seen in images whose states can be set: each episode has a state to reach, and shows what it looks like."""

from abc import abstractmethod
from typing import Any

import numpy as np

from wmcomponents._extras import require

gymnasium = require("gymnasium", extra="gym")

from gymnasium import spaces  # noqa: E402

IMAGE = 64
"""Pixels a side."""


class GoalStates(gymnasium.Env):
    """An environment with states that can be set, seen in images, and a goal that is a state too.

    An observation is ``pixels``, the image, and ``proprioception``, what the agent feels of itself, or one of them;
    with ``goal`` the same of the goal state stands beside it, by the names of a
    :class:`~wmcomponents.dream.GoalWorldModel`: ``desired_goal`` of one, or ``desired_pixels`` and
    ``desired_proprioception``. The reward is minus the distance to the goal, and the episode ends where it is reached.
    ``info`` tells ``state``, ``goal``, ``distance`` and ``is_success``.

    Args:
        action_space: of the moves.
        state_size: S, numbers of a state.
        proprioception_size: P, how many of them are felt.
        goal: show what the goal looks like.
        proprioception: show what the agent feels.
        pixels: show the image; drawing it costs more than the physics.
        pairs: starts and goals ``[M, 2, S]``, such as states of recorded episodes some steps apart; every episode draws
            one. Without them the world draws its own.
        render_mode: ``None`` or ``"rgb_array"``.

    Raises:
        ValueError: if nothing is shown, or the pairs are not shaped so, or not finite.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        action_space: spaces.Box,
        state_size: int,
        proprioception_size: int,
        *,
        goal: bool = False,
        proprioception: bool = False,
        pixels: bool = True,
        pairs: Any = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is None or 'rgb_array'; got {render_mode!r}.")
        self.render_mode, self.action_space, self.state_size = render_mode, action_space, state_size
        self._pairs = None if pairs is None else self._checked("pairs", pairs, (-1, 2, state_size))
        if not (pixels or proprioception):
            raise ValueError(f"{type(self).__name__} shows pixels, proprioception or both: one of them is True.")
        self._shows_goal, self._draws, self._feels = goal, pixels, proprioception
        felt = spaces.Box(-np.inf, np.inf, (proprioception_size,), np.float32)
        seen: dict[str, spaces.Space] = {"pixels": spaces.Box(0, 255, (IMAGE, IMAGE, 3), np.uint8)} if pixels else {}
        seen.update({"proprioception": felt} if proprioception else {})
        names = {key: "desired_goal" if len(seen) == 1 else f"desired_{key}" for key in seen}
        self._names = names if goal else {}
        shown = {**seen, **{name: seen[key] for key, name in self._names.items()}}
        self._is_image = list(shown) == ["pixels"]
        self.observation_space = seen["pixels"] if self._is_image else spaces.Dict(shown)
        self.goal: np.ndarray | None = None
        self._wanted: dict[str, np.ndarray] = {}

    # -- of each world -------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def state(self) -> np.ndarray:
        """Where the world is, float64 ``[S]``."""

    @abstractmethod
    def place(self, state: np.ndarray) -> None:
        """Put the world into a state ``[S]``."""

    @abstractmethod
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """A start and a goal at random, ``[S]`` each."""

    @abstractmethod
    def move(self, action: np.ndarray) -> None:
        """One step of the world."""

    @abstractmethod
    def picture(self) -> np.ndarray:
        """The world as it is, uint8 ``[IMAGE, IMAGE, 3]``."""

    @abstractmethod
    def felt(self, state: np.ndarray) -> np.ndarray:
        """What the agent feels of itself in a state, ``[P]``."""

    @abstractmethod
    def distance(self, state: np.ndarray, goal: np.ndarray) -> float:
        """Between two states, in the world's own units."""

    @abstractmethod
    def near(self, state: np.ndarray, goal: np.ndarray) -> bool:
        """Whether a goal counts as reached."""

    # -- Gymnasium -----------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of this episode and those that follow.
            options: may hold ``state`` and ``goal``, ``[S]`` each, in place of what is drawn.

        Raises:
            ValueError: if they are not shaped so, or not finite.
        """
        super().reset(seed=seed)
        given = {name: (options or {}).get(name) for name in ("state", "goal")}
        start, goal = self.drawn() if self._pairs is None else self._pairs[self.np_random.integers(len(self._pairs))]
        start = start if given["state"] is None else self._checked("state", given["state"], (self.state_size,))
        goal = goal if given["goal"] is None else self._checked("goal", given["goal"], (self.state_size,))
        self.goal = goal
        if self._shows_goal:
            self.place(goal)
            self._wanted = {self._names[key]: value for key, value in self._seen().items()}
        self.place(start)
        return self._observed()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self.goal is None:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        self.move(np.asarray(action, dtype=np.float64))
        observation, info = self._observed()
        return observation, -info["distance"], info["is_success"], False, info

    def render(self) -> np.ndarray | None:
        """The image; ``None`` without a render mode."""
        return None if self.render_mode is None or self.goal is None else self.picture()

    def _seen(self) -> dict[str, np.ndarray]:
        felt = {"proprioception": self.felt(self.state).astype(np.float32)} if self._feels else {}
        return {**({"pixels": self.picture()} if self._draws else {}), **felt}

    def _observed(self) -> tuple[Any, dict[str, Any]]:
        assert self.goal is not None
        state, seen = self.state, {**self._seen(), **self._wanted}
        facts = {"distance": float(self.distance(state, self.goal)), "is_success": bool(self.near(state, self.goal))}
        return (seen["pixels"] if self._is_image else seen), {"state": state, "goal": self.goal.copy(), **facts}

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        array = np.asarray(value, dtype=np.float64)
        fits = array.ndim == len(shape) and all(size in (-1, own) for size, own in zip(shape, array.shape, strict=True))
        if not fits or not array.size or not np.isfinite(array).all():
            wanted = ", ".join("M" if size == -1 else str(size) for size in shape)
            raise ValueError(f"{name} of {type(self).__name__} are finite numbers [{wanted}]; got {list(array.shape)}.")
        return array


def pairs_of(states: Any, apart: int) -> np.ndarray:
    """Starts and goals out of one recorded episode: all its states that lie some steps apart.

    Args:
        states: of the episode in order, ``[T, S]``.
        apart: steps from a start to its goal; DINO-WM's evaluation takes 25.

    Returns:
        ``[T - apart, 2, S]``.

    Raises:
        ValueError: if the episode is not longer than that.

    Example:
        >>> pairs_of([[0.0], [1.0], [2.0], [3.0]], apart=2)[..., 0].tolist()
        [[0.0, 2.0], [1.0, 3.0]]
    """
    array = np.asarray(states, dtype=np.float64)
    if array.ndim != 2 or not 0 < apart < len(array):
        raise ValueError(f"an episode of states [T, S] that is longer than {apart} steps is split; got {array.shape}.")
    return np.stack([array[:-apart], array[apart:]], 1)
