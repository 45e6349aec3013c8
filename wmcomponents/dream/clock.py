"""The ages of a dream's rows."""

import warnings

import torch
from torch import Tensor

ENDLESS = 10_000
"""Steps without an end after which a dream without a horizon says so."""


class Clock:
    """Counts the steps that each row has taken since it began.

    A row's age is the common time less its time of birth: a step then moves one number and no tensor, and no row can
    reach the horizon before the oldest does.

    Args:
        rows: N.
        horizon: the age at which a row is truncated; ``None`` for no limit.
        device: where the ages are.
        ends: whether a row can end before the horizon.

    Attributes:
        now: steps taken since the dream was built.
    """

    def __init__(self, rows: int, horizon: int | None, device: torch.device, *, ends: bool) -> None:
        self.now = self._oldest = 0
        self._horizon, self._ends, self._patience = horizon, ends, ENDLESS
        self._born = torch.zeros(rows, 1, dtype=torch.int64, device=device)

    @property
    def elapsed(self) -> Tensor:
        """Ages, int64 ``[N, 1]``."""
        return self.now - self._born

    def tick(self) -> bool:
        """One step more. Whether a row may have reached the horizon."""
        self.now += 1
        age = self.now - self._oldest
        if self._horizon is not None:
            return age >= self._horizon
        if age >= self._patience:
            self._tell_endless()
        return False

    def reached(self) -> Tensor:
        """The rows that have reached the horizon, bool ``[N, 1]``; asked where :meth:`tick` says that there may be."""
        assert self._horizon is not None
        return self._born <= self.now - self._horizon

    def hold(self, rows: Tensor) -> None:
        """Rows, bool ``[N, 1]``, that took no part in the step."""
        self._born = self._born + rows

    def begin(self) -> None:
        """Every row begins now."""
        self._born = torch.full_like(self._born, self.now)
        self._oldest, self._patience = self.now, ENDLESS

    def restart(self, rows: Tensor) -> None:
        """These rows, bool ``[N, 1]``, begin now."""
        self._born = self._born.masked_fill(rows, self.now)

    def set(self, elapsed: Tensor) -> None:
        """Rows have these ages, int64 ``[N, 1]``."""
        self._born = self.now - elapsed
        self._oldest, self._patience = int(self._born.min()), ENDLESS

    def repeated(self, copies: int) -> "Clock":
        """A clock of which each row is repeated: row i's for rows i*copies to (i+1)*copies - 1."""
        twin = Clock(len(self._born) * copies, self._horizon, self._born.device, ends=self._ends)
        twin.now, twin._oldest, twin._patience = self.now, self._oldest, self._patience
        twin._born = self._born.repeat_interleave(copies, 0)
        return twin

    def _tell_endless(self) -> None:
        """Say once that a dream without a horizon does not end, for whoever waits until it does."""
        if self._born.device.type == "cpu":
            longest = int(self.elapsed.max())
            if longest < ENDLESS:  # rows began anew since all did
                self._patience = self.now - self._oldest + ENDLESS - longest
                return
        elif self._ends:
            return
        self._patience = 2**62
        rule = "the model foretells no end" if self._ends else "terminations are off"
        warnings.warn(
            f"this dream has no horizon, {rule}, and a row has gone on for {ENDLESS} steps: whoever waits for "
            f"the end of an episode waits for ever. Pass horizon=.",
            stacklevel=5,
        )
