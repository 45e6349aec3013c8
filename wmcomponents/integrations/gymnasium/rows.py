"""The separate environments behind a vector environment: reaching their attributes, and what their resets leave."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from wmcomponents._extras import require

gymnasium = require("gymnasium", extra="gym")

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper  # noqa: E402


def layers(env: VectorEnv) -> list[VectorEnv]:
    """A vector environment and everything that it wraps, the outermost first."""
    found = [env]
    while isinstance(found[-1], VectorWrapper):
        found.append(found[-1].env)
    return found


def keeps_autoreset_through_reset(env: VectorEnv) -> bool:
    """Whether a row that finished is reset at the next step even if it was reset in between (``NEXT_STEP``).

    So do Gymnasium's workers that share no memory: they forget the mark of a finished row only with shared memory.
    """
    base = env.unwrapped
    return isinstance(base, AsyncVectorEnv) and not base.shared_memory


class Rows(ABC):
    """The environments behind a vector environment, one for each row.

    Args:
        env: the vector environment, wrapped or not.
    """

    def __init__(self, env: VectorEnv) -> None:
        self.env: Any = env.unwrapped

    @staticmethod
    def of(env: VectorEnv) -> "Rows | None":
        """How the rows of a vector environment are reached; ``None`` where they are no objects of their own."""
        base = env.unwrapped
        if isinstance(base, SyncVectorEnv):
            return LocalRows(env)
        return WorkerRows(env) if isinstance(base, AsyncVectorEnv) else None

    @abstractmethod
    def call(self, rows: Sequence[int], name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call a method of each of these rows."""

    @abstractmethod
    def wrapped(self, rows: Sequence[int], wrapper: type) -> list[bool]:
        """Whether each of these rows is wrapped by such a wrapper."""

    def has(self, name: str) -> bool:
        """Whether every row has an attribute."""
        return all(self.call(range(self.env.num_envs), "has_wrapper_attr", name))


class LocalRows(Rows):
    """The environments of a ``SyncVectorEnv``, which stand in this process."""

    def call(self, rows: Sequence[int], name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call a method of each of these rows."""
        return [self.env.envs[row].get_wrapper_attr(name)(*args, **kwargs) for row in rows]

    def wrapped(self, rows: Sequence[int], wrapper: type) -> list[bool]:
        """Whether each of these rows is wrapped by such a wrapper, or by a subclass of it."""
        return [_wrapped(self.env.envs[row], wrapper) for row in rows]


class WorkerRows(Rows):
    """The environments of an ``AsyncVectorEnv``, each in a process of its own."""

    def call(self, rows: Sequence[int], name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call a method of each of these rows, all at once; the others are not disturbed.

        Raises:
            ValueError: for what a worker does on commands of their own, and does not survive when it is called.
        """
        if name in ("reset", "step", "close"):
            raise ValueError(f"{name}() of a worker is called through the vector environment's own {name}().")
        if list(rows) == list(range(self.env.num_envs)):
            return list(self.env.call(name, *args, **kwargs))
        # AsyncVectorEnv.call has no rows to choose; this is what it does, with the pipes of some.
        self.env._assert_is_running()
        for row in rows:
            self.env.parent_pipes[row].send(("_call", (name, args, kwargs)))
        answers = {row: self.env.parent_pipes[row].recv() for row in rows}
        self.env._raise_if_errors([answers[row][1] if row in answers else True for row in range(self.env.num_envs)])
        return [answers[row][0] for row in rows]

    def wrapped(self, rows: Sequence[int], wrapper: type) -> list[bool]:
        """Whether each of these rows is wrapped by a wrapper of that name, which is all that a worker tells."""
        return [f"<{wrapper.__name__}<" in text for text in self.call(rows, "__str__")]


def _wrapped(env: Any, wrapper: type) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, wrapper):
            return True
        env = env.env
    return False
