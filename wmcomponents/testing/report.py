"""What a conformance check says: which clauses held, which broke and how to mend them, which could not be checked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Failure:
    """One broken clause.

    Attributes:
        clause: the clause's stable id, such as ``"state-is-a-value/no-mutation"``.
        where: the verb, key or step in which it broke.
        expected: what the clause asks for.
        got: what came instead.
        remedy: what to do about it.
    """

    clause: str
    where: str
    expected: str
    got: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"[{self.clause}] {self.where}\n"
            f"    expected: {self.expected}\n    got:      {self.got}\n    remedy:   {self.remedy}"
        )


@dataclass(frozen=True)
class Conformance:
    """The result of a check that found nothing wrong.

    Attributes:
        held: ids of the clauses that were checked and hold.
        skipped: ids of the clauses that do not apply or could not be checked, each with the reason.
    """

    held: tuple[str, ...]
    skipped: dict[str, str]


class ConformanceError(AssertionError):
    """A model or a dream breaks its contract; lists every broken clause with what to do about it.

    Args:
        subject: what was checked, for the first line.
        failures: the broken clauses.
        skipped: ids of clauses that could not be checked, each with the reason.
    """

    def __init__(self, subject: str, failures: Sequence[Failure], skipped: dict[str, str]) -> None:
        self.failures = tuple(failures)
        self.clauses = frozenset(failure.clause for failure in failures)
        self.skipped = dict(skipped)
        lines = [
            f"{subject} breaks {len(self.clauses)} clause(s) of its contract: {', '.join(sorted(self.clauses))}",
            "",
        ]
        lines += [str(failure) for failure in failures]
        for reason in dict.fromkeys(skipped.values()):
            clauses = [clause for clause, why in skipped.items() if why == reason]
            lines += ["", f"not checked, {reason}: {', '.join(clauses)}"]
        super().__init__("\n".join(lines))


class Skip(Exception):
    """Raised by a clause that does not apply; the message says why."""


@dataclass(frozen=True)
class Clause(Generic[Subject]):
    """One promise of a contract, and how it is checked.

    Attributes:
        ids: ids of the failures that the check can find; an error inside the check counts under the first.
        check: takes what is checked and yields failures.
        foundation: whether clauses that come later mean nothing when this one is broken.
    """

    ids: tuple[str, ...]
    check: Callable[[Subject], Iterable[Failure]]
    foundation: bool = False


def examine(subject: Subject, name: str, clauses: Sequence[Clause[Subject]]) -> Conformance:
    """Check every clause and report all failures together.

    Args:
        subject: what the clauses look at.
        name: what to call it in the error.
        clauses: in order; after a broken foundation the rest is not checked.

    Raises:
        ConformanceError: if any clause is broken.
    """
    failures: list[Failure] = []
    held: dict[str, None] = {}
    skipped: dict[str, str] = {}
    broken_foundation = ""
    for clause in clauses:
        if broken_foundation:
            skipped.update(dict.fromkeys(clause.ids, f"until {broken_foundation} is mended"))
            continue
        try:
            found = list(clause.check(subject))
        except Skip as reason:
            skipped.update(dict.fromkeys(clause.ids, str(reason)))
            continue
        except Exception as error:  # noqa: BLE001  whatever a foreign model raises is a finding, and it is reported
            found = [raised(clause.ids[0], error)]
        found = _first_of_each(found)
        failures += found
        held.update(dict.fromkeys(clause.ids))
        if clause.foundation and found:
            broken_foundation = ", ".join(sorted({failure.clause for failure in found}))
    if failures:
        raise ConformanceError(name, failures, skipped)
    return Conformance(tuple(held), skipped)


def raised(clause: str, error: Exception) -> Failure:
    """An error as a finding, with the line that raised it."""
    frames: Any = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    place = "" if frames is None else f" ({frames.tb_frame.f_code.co_filename}:{frames.tb_lineno})"
    return Failure(
        clause,
        "an error was raised while this clause was checked",
        "no error on inputs that fit the specs",
        f"{type(error).__name__}: {error}{place}",
        "mend the error; run the check again to see whether the clause holds.",
    )


def _first_of_each(failures: Iterable[Failure]) -> list[Failure]:
    """One failure for each clause and place: the same fault at every batch size is one fault."""
    kept: dict[tuple[str, str], Failure] = {}
    for failure in failures:
        kept.setdefault((failure.clause, failure.where), failure)
    return list(kept.values())
