"""Sampling of sequences by priority, on TorchRL's sampler interface."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchrl.data.replay_buffers import Storage

from wmcomponents.data.sequences import SequenceSampler
from wmcomponents.data.sum_tree import SumTree

LEAST = 1e-6
"""Of a priority, so that nothing is never drawn."""


@dataclass(frozen=True)
class Priorities:
    """How much a priority counts in sampling.

    Attributes:
        alpha: power of a priority; 0 draws all alike.
        beta: of the correction at first, in [0, 1]; 0 corrects nothing.
        annealing: draws of a batch over which beta rises to 1; 0 leaves it.

    Raises:
        ValueError: if a number is out of range.
    """

    alpha: float = 0.6
    beta: float = 0.4
    annealing: int = 0

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not 0 <= self.beta <= 1 or self.annealing < 0:
            raise ValueError(f"alpha and annealing are at least 0, beta is in [0, 1]; got {self}.")

    def beta_at(self, draws: int) -> float:
        """Beta after so many draws of a batch."""
        if not self.annealing:
            return self.beta
        return min(1.0, self.beta + (1.0 - self.beta) * draws / self.annealing)


class PrioritizedSequenceSampler(SequenceSampler):
    r"""Draws ``[B, T]`` sequences in proportion to a power of their priority, as R2D2 does.

    .. math:: P(i) = \frac{p_i^\alpha}{\sum_k p_k^\alpha}, \qquad w_i \propto (N\,P(i))^{-\beta}

    The priority of a sequence is the mean of those of its steps, when it was last drawn and ``update_priority`` told
    them; a sequence that was never drawn has the highest priority that there was. What is sampled has its correction
    ``priority_weight`` ``[B, T]``, at most 1, which all losses of ours read. For everything else see
    :class:`SequenceSampler`.

    It is a sampler of its own because the compiled tree of TorchRL's ``PrioritizedSampler`` does not load everywhere;
    its sums are kept in a tensor, and a draw costs logarithmic time.

    Args:
        sequence_length: T, at least 1.
        rows: of the storage.
        streams: of the storage.
        priorities: how much they count.

    Reference: Schaul et al., Prioritized experience replay (2016); Kapturowski et al., R2D2 (2019).
    """

    def __init__(self, sequence_length: int, rows: int, streams: int = 1, priorities: Priorities | None = None) -> None:
        super().__init__(sequence_length)
        self.rows, self.streams = rows, streams
        self.priorities = Priorities() if priorities is None else priorities
        self.tree = SumTree(rows * streams)
        self.highest, self.draws, self._count = 1.0, 0, 0

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor | tuple[Tensor, ...], dict]:
        """Indices of ``batch_size`` sequences, and their ``priority_weight``; see :class:`SequenceSampler`."""
        self._check_written(storage)
        generator = self._rng
        mass = torch.rand(batch_size, generator=generator, dtype=torch.float64) * self.tree.total
        start = self.tree.find(mass)
        weight = (self.tree[start] / self.tree.total).clamp(min=1e-300) ** -self.priorities.beta_at(self.draws)
        self.draws += 1
        row, stream = start // self.streams, start % self.streams
        rows = (row[:, None] + torch.arange(self.sequence_length)) % self.rows
        weight = (weight / weight.max()).float()[:, None].expand_as(rows).contiguous()
        index = rows if self.streams == 1 else (rows, stream[:, None].expand_as(rows))
        return index, {"priority_weight": weight}

    def update_priority(self, index: Any, priority: Any, *, storage: Any = None) -> None:
        """What the steps of drawn sequences are worth now.

        Args:
            index: of the steps, as the sample has it under ``"index"``: ``[B, T]``, of several streams ``[B, T, 2]``.
            priority: of the steps, at least 0, ``[B, T]``.
            storage: not read.

        Raises:
            ValueError: if a priority is negative or no number.
        """
        p = torch.as_tensor(priority).to("cpu", torch.float64).reshape(-1, self.sequence_length).mean(1)
        if not bool(((p >= 0) & p.isfinite()).all()):
            raise ValueError("a priority is a finite number, at least 0.")
        place = torch.as_tensor(index).to("cpu")
        first = place.reshape(len(p), self.sequence_length, -1)[:, 0]
        start = first[:, 0] if self.streams == 1 else first[:, 0] * self.streams + first[:, 1]
        # A sequence of which a step was overwritten meanwhile is none any more.
        is_there = self.tree[start] > 0
        self.highest = max(self.highest, float(p.max()))
        self.tree.set(start[is_there], self._powered(p[is_there]))

    def _powered(self, priority: Tensor) -> Tensor:
        return priority.clamp(min=LEAST) ** self.priorities.alpha

    def add(self, index: int | Tensor) -> None:
        """Told by the buffer that one row was written."""
        super().add(index)
        self._written_to(1)

    def extend(self, index: Tensor) -> None:
        """Told by the buffer that rows were written."""
        index, before = torch.as_tensor(index), self._cursor
        super().extend(index)
        steps = len(index) if index.ndim == 1 else index.reshape(-1, index.shape[-1])[:, 0].unique_consecutive().numel()
        self._written_to(min(steps, self.rows) if steps else (self._cursor - before) % self.rows)

    def _written_to(self, count: int) -> None:
        """The last ``count`` rows are new: no sequence begins there yet, and some that end there are whole now."""
        self._count = min(self._count + count, self.rows)
        new = torch.arange(self._cursor - count, self._cursor)
        self._set(new % self.rows, torch.zeros((), dtype=torch.float64))
        whole = new - self.sequence_length + 1
        whole = whole[whole > self._cursor - 1 - self._count] % self.rows
        self._set(whole, self._powered(torch.tensor(self.highest, dtype=torch.float64)))

    def _set(self, rows: Tensor, value: Tensor) -> None:
        self.tree.set((rows[:, None] * self.streams + torch.arange(self.streams)).flatten(), value)

    def state_dict(self) -> dict[str, Any]:
        """The cursor, all priorities, and how many batches were drawn."""
        known = {"priorities": self.tree.values.clone(), "highest": self.highest, "draws": self.draws}
        return {**super().state_dict(), **known, "count": self._count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        super().load_state_dict(dict(state_dict))
        values = torch.as_tensor(state_dict["priorities"], dtype=torch.float64)
        if values.shape != self.tree.values.shape:
            raise ValueError(f"they are of {len(values)} steps, and the buffer has room for {self.tree.size}")
        self.tree.set(torch.arange(self.tree.size), values)
        self.highest, self.draws = float(state_dict["highest"]), int(state_dict["draws"])
        self._count = int(state_dict["count"])

    def _empty(self) -> None:
        super()._empty()
        self.tree = SumTree(self.rows * self.streams)
        self._count = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sequence_length={self.sequence_length}, {self.priorities})"
