"""An environment of any library, played row by row: what every kind has in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from wmcomponents.testing.report import Clause, Failure, Skip
from wmcomponents.testing.sampling import global_generators, moved_generators

Rows = dict[str, np.ndarray]
"""An observation of all rows, flat: ``[rows, ...]`` for each entry."""


class Played(NamedTuple):
    """One step of all rows.

    Attributes:
        observation: what the next action is chosen from; where an episode ended and another began, its first.
        reward: float ``[rows]``.
        terminated: bool ``[rows]``; the episode's end, where the library only has one flag.
        truncated: bool ``[rows]``.
        began: bool ``[rows]``: where ``observation`` is the first of its episode.
    """

    observation: Rows
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    began: np.ndarray

    @property
    def done(self) -> np.ndarray:
        """Bool ``[rows]``."""
        return self.terminated | self.truncated


@dataclass
class Trace:
    """What happened: the first observation, and each step."""

    first: Rows
    steps: list[Played] = field(default_factory=list)

    @property
    def ended(self) -> int:
        """How many episodes ended, over all rows."""
        return sum(int(step.done.sum()) for step in self.steps)


class Player(ABC):
    """Plays an environment and notes what breaks its contract on the way.

    Attributes:
        env: the environment.
        rows: how many episodes run side by side.
        findings: what was noted.
    """

    library = ""
    env: Any
    rows: int

    def __init__(self) -> None:
        self.findings: list[Failure] = []
        self._handed: list[tuple[str, Any, Any]] = []
        self.keeps_handed = False

    @abstractmethod
    def seed(self, seed: int | None) -> None:
        """Have the next reset take a seed; ``None`` for a reset without one."""

    @abstractmethod
    def reset(self) -> Rows:
        """Begin every row."""

    @abstractmethod
    def step(self, action: Any) -> Played:
        """Step every row, and begin those anew that ended, as the library would."""

    @abstractmethod
    def actions(self, count: int, seed: int) -> list[Any]:
        """Random actions of all rows for ``count`` steps."""

    @abstractmethod
    def altered(self, action: Any, other: Any, row: int) -> Any:
        """An action with one row taken from another action."""

    def clauses(self) -> tuple[Clause["DreamProbe"], ...]:
        """What the library's contract adds."""
        return ()

    def note(self, clause: str, where: str, expected: str, got: str, remedy: str) -> None:
        """Keep a finding."""
        self.findings.append(Failure(clause, where, expected, got, remedy))

    def hand(self, where: str, value: Any) -> None:
        """Remember an array or tensor that the environment handed out, to see later whether it was overwritten."""
        if not self.keeps_handed or len(self._handed) > 2000:
            return
        if isinstance(value, Mapping):
            for entry in value.values():
                self.hand(where, entry)
        elif isinstance(value, torch.Tensor):
            self._handed.append((where, value, value.clone()))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._handed.append((where, value, value.copy()))

    def overwritten(self) -> list[str]:
        """Where something came from that has changed since it was handed out."""
        places = []
        for where, value, copy in self._handed:
            same = torch.equal(value, copy) if isinstance(value, torch.Tensor) else np.array_equal(value, copy)
            if not same and not _has_nan(copy):
                places.append(where)
        return list(dict.fromkeys(places))


class DreamProbe:
    """An environment under examination.

    Args:
        player: plays it.
        seed: of the first dream and of all actions.
        steps: how many steps the long look takes.
    """

    def __init__(self, player: Player, seed: int, steps: int) -> None:
        self.player = player
        self.seed = seed
        self.steps = steps
        self.moved: list[str] = []

    @cached_property
    def trace(self) -> Trace:
        """A long look, while everything handed out is kept and the global generators are watched."""
        self.player.keeps_handed = True
        self.player.seed(self.seed)
        before = global_generators()
        trace = self._played(self.player.actions(self.steps, self.seed))
        self.moved = moved_generators(before)
        self.player.keeps_handed = False
        return trace

    def play(self, actions: Sequence[Any], seed: int | None) -> Trace:
        """A dream under given actions."""
        self.player.seed(seed)
        return self._played(actions)

    def ended(self) -> None:
        """Skip the clause that asks if no episode has ended."""
        if not self.trace.ended:
            raise Skip(f"no episode ended in {self.steps} steps: give the dream a horizon, or pass more steps")

    def found(self, *clauses: str) -> list[Failure]:
        """What was noted while playing, of these clauses."""
        _ = self.trace
        return [failure for failure in self.player.findings if failure.clause in clauses]

    def _played(self, actions: Sequence[Any]) -> Trace:
        trace = Trace(copied(self.player.reset()))
        for action in actions:
            step = self.player.step(action)
            trace.steps.append(Played(copied(step.observation), *(np.array(part) for part in step[1:])))
        return trace


def copied(rows: Rows) -> Rows:
    """The same values in other memory."""
    return {key: np.array(value) for key, value in rows.items()}


def same(a: Rows, b: Rows, rows: Any = slice(None)) -> bool:
    """Whether two observations are equal in the rows named, NaN equal to NaN."""
    return all(_equal(a[key][rows], b[key][rows]) for key in a)


def array(value: Any) -> np.ndarray:
    """A NumPy array of an array or of a tensor on any device."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def flat_rows(value: Any, name: str = "observation") -> Rows:
    """Nested dicts and tuples of arrays as one flat dict."""
    if isinstance(value, Mapping):
        return {key: row for entry in value for key, row in flat_rows(value[entry], f"{name}[{entry!r}]").items()}
    if isinstance(value, tuple):
        parts = (flat_rows(entry, f"{name}[{i}]") for i, entry in enumerate(value))
        return {key: row for part in parts for key, row in part.items()}
    return {name: array(value)}


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")


def _has_nan(value: Any) -> bool:
    values = array(value)
    return values.dtype.kind == "f" and bool(np.isnan(values).any())
