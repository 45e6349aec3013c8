"""What the doctor says."""

from dataclasses import asdict, dataclass, field
from typing import Any


class UnusableDataError(ValueError):
    """There is nothing to examine: no steps, or too few, or entries that every step needs are missing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in words.

    Attributes:
        fault: its name, one of :data:`~wmcomponents.data.doctor.CHECKS`.
        where: the entry that it is found in.
        says: what is seen, with the figure.
        remedy: what to do.
        numbers: the figures themselves.
    """

    fault: str
    where: str
    says: str
    remedy: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)
