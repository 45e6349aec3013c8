"""Ring attention: exact attention over a sequence that several processes hold together."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from wmcomponents.functional.precision import at_least_float32, full_precision
from wmcomponents.nn.attention.online_softmax import Carry, absorb, kept_factors, merged, part_gradients
from wmcomponents.nn.attention.sequence_layout import ContiguousLayout, SequenceLayout
from wmcomponents.nn.attention.sequence_mask import SequenceMask

KEYS, GRADIENTS = 0, 1
"""Tags of what goes round the ring."""


class RingAttention:
    r"""Attention of which each process computes its own queries, while keys and values go round a ring.

    Rank i holds the queries, keys and values of its share of the sequence. In N steps it sees the keys and values of
    rank i, i - 1, ..., i - N + 1, each while the next are on their way, and keeps a running softmax. The output is that
    of one process that holds all, and so are the gradients: they are worked out in a second round, in which those of
    keys and values travel with them and come home. Of the scores no more than one chunk of queries times one chunk of
    keys exists at a time, so memory is that of the share: 1/N of the sequence's.

    A function in the sense of :class:`~wmcomponents.nn.AttentionFunction`: any
    :class:`~wmcomponents.nn.MultiHeadAttention` takes it, and :func:`~wmcomponents.nn.sequence_parallel_` hands it to
    a whole transformer. A mask is told for the WHOLE sequence, in its own order, to every process: rules
    (:class:`~wmcomponents.nn.SequenceMask`), of which each process works out its part, or a tensor whose last
    dimension, and last but one unless it is 1, is the whole length. A query that sees no key gives 0, as torch's does.

    All processes call it together, with shares of one shape. On a CPU they speak by Gloo. Alone it is blockwise
    attention. Gradients of gradients do not exist, and a mask of numbers gets none.

    Args:
        layout: which positions each process holds; pieces in a row if not given. Under a causal mask
            :class:`~wmcomponents.nn.StripedLayout` and :class:`~wmcomponents.nn.ZigzagLayout` share the work evenly.
        group: the processes; torch's default group if not given, or this process alone where there is none.
        query_chunk: queries at a time.
        key_chunk: keys at a time.

    Raises:
        ValueError: for chunks without positions; on call, if the processes cannot share the sequence, or a mask is
            about another length.

    Reference: Liu, Zaharia and Abbeel, Ring Attention with Blockwise Transformers for Near-Infinite Context (2023).

    Example:
        >>> from wmcomponents.nn import SequenceMask, dot_product_attention
        >>> (q, k, v), causal = torch.randn(3, 1, 2, 8, 4), SequenceMask(block=1)
        >>> ring = RingAttention(query_chunk=4, key_chunk=2)
        >>> torch.allclose(ring(q, k, v, causal), dot_product_attention(q, k, v, causal), atol=1e-6)
        True
    """

    def __init__(
        self,
        layout: SequenceLayout | None = None,
        group: dist.ProcessGroup | None = None,
        *,
        query_chunk: int = 1024,
        key_chunk: int = 1024,
    ) -> None:
        if min(query_chunk, key_chunk) < 1:
            raise ValueError(f"a chunk has at least one position; got {query_chunk} queries and {key_chunk} keys.")
        self.layout = ContiguousLayout() if layout is None else layout
        self.group = group
        self.query_chunk, self.key_chunk = query_chunk, key_chunk

    def __deepcopy__(self, memo: dict[int, Any]) -> "RingAttention":
        return self  # a group of processes cannot be copied, and nothing here changes

    @property
    def rank(self) -> int:
        """Number of this process in the ring."""
        return dist.get_rank(self.group) if _is_joined() else 0

    @property
    def ranks(self) -> int:
        """N, number of processes."""
        return dist.get_world_size(self.group) if _is_joined() else 1

    def held(self, rank: int, length: int) -> tuple[range, ...]:
        """Which positions of a sequence a rank holds.

        Args:
            rank: number of the process.
            length: of the whole sequence.

        Raises:
            ValueError: if the processes cannot share it evenly.
        """
        return self.layout.ranges(rank, self.ranks, length)

    def __call__(
        self,
        q: Float[Tensor, "*batch heads t d"],
        k: Float[Tensor, "*batch heads t d"],
        v: Float[Tensor, "*batch heads t e"],
        mask: Tensor | SequenceMask | None = None,
        dropout: float = 0.0,
    ) -> Float[Tensor, "*batch heads t e"]:
        """Outputs of this process's share, in the dtype of the values.

        Args:
            q: queries of this process's share, in the layout's order.
            k: their keys.
            v: their values.
            mask: of the whole sequence; all see all if not given.
            dropout: share of attention weights that is dropped, drawn by torch's default generator.

        Raises:
            ValueError: if the processes cannot share such a sequence, or the mask is about another length.
        """
        length = q.shape[-2] * self.ranks
        if k.shape[-2] != q.shape[-2]:
            raise ValueError(
                f"a process holds queries and keys of the same positions; got {q.shape[-2]} queries and {k.shape[-2]} "
                f"keys: single queries over a shared cache are RingAttention.decode's."
            )
        self.held(self.rank, length)
        _check_mask(mask, length)
        seed = int(torch.randint(2**40, ())) if dropout else 0
        return _Ring.apply(q, k, v, _Call(self, mask, length, dropout, seed))  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def decode(
        self,
        q: Float[Tensor, "*batch heads q d"],
        keys: Float[Tensor, "*batch heads s d"],
        values: Float[Tensor, "*batch heads s e"],
        mask: Tensor | SequenceMask | None = None,
        *,
        position: int | None = None,
    ) -> Float[Tensor, "*batch heads q e"]:
        """A few queries, known to every process, over keys and values of which each holds its share; no gradient.

        Each process looks at its own share; what the queries then know is put together in one exchange.

        Args:
            q: queries, the same in all processes; usually one.
            keys: this process's share of the keys.
            values: this process's share of the values.
            mask: of the whole cache: bool or numbers ``[..., Q, S]``, or rules.
            position: of the first query, where rules are given.

        Returns:
            Outputs, the same in all processes.

        Raises:
            ValueError: for rules without a position, or a mask of another length.
        """
        length = keys.shape[-2] * self.ranks
        _check_mask(mask, length)
        if isinstance(mask, SequenceMask) and position is None:
            raise ValueError("rules say what a position sees: give the position of the first query, position=...")
        queries = range(position or 0, (position or 0) + q.shape[-2])
        carry = Carry.empty(q, values.shape[-1])
        with full_precision(q):
            for local, seen in _chunks(self.held(self.rank, length), self.key_chunk):
                if isinstance(mask, SequenceMask) and mask.hides_all(queries, seen):
                    continue
                shown = _columns(mask, queries, seen, q.device)
                carry = absorb(
                    carry, q, keys[..., local, :], values[..., local, :], scale=_scale(q), mask=shown, kept=None
                )
        return self._together(carry).output().to(values.dtype)

    @torch.no_grad()
    def write(
        self, cache: Float[Tensor, "*batch s d"], new: Float[Tensor, "*batch t d"], position: int, length: int
    ) -> None:
        """Put keys or values of new positions where they belong: into the share of the process that holds them.

        Args:
            cache: this process's share, written IN PLACE.
            new: of the new positions, the same in all processes.
            position: of the first new one.
            length: of the whole cache.

        Raises:
            ValueError: if the new positions do not fit into the cache.
        """
        if position < 0 or position + new.shape[-2] > length:
            raise ValueError(
                f"the cache has the positions 0 to {length - 1}; got {new.shape[-2]} new ones from {position} on."
            )
        place = 0
        for held in self.held(self.rank, length):
            for number in range(new.shape[-2]):
                if position + number in held:
                    cache[..., place + held.index(position + number), :] = new[..., number, :]
            place += len(held)

    def _together(self, carry: Carry) -> Carry:
        """What all processes know of the same queries."""
        if self.ranks == 1:
            return carry
        packed = torch.cat([carry.numerator, carry.denominator.unsqueeze(-1), carry.maximum.unsqueeze(-1)], -1)
        parts = [torch.empty_like(packed) for _ in range(self.ranks)]
        dist.all_gather(parts, packed.contiguous(), group=self.group)
        of_all = torch.stack(parts)
        return merged(Carry(of_all[..., :-2], of_all[..., -2], of_all[..., -1]))


class _Call(NamedTuple):
    """What both passes of one call know."""

    ring: RingAttention
    mask: Tensor | SequenceMask | None
    length: int
    dropout: float
    seed: int

    def pairs(self, source: int, number: int) -> Iterator[tuple[slice, slice, range, range]]:
        """Of a rank's keys those chunks that one chunk of queries may see.

        Args:
            source: rank whose keys are here.
            number: of the chunk of queries.
        """
        local, queries = self.queries[number]
        for place, keys in _chunks(self.ring.held(source, self.length), self.ring.key_chunk):
            if not (isinstance(self.mask, SequenceMask) and self.mask.hides_all(queries, keys)):
                yield local, place, queries, keys

    @property
    def queries(self) -> list[tuple[slice, range]]:
        """The chunks of this process's queries: where they lie here, and in the sequence."""
        return _chunks(self.ring.held(self.ring.rank, self.length), self.ring.query_chunk)

    def weights(self, q: Tensor, k: Tensor, queries: range, keys: range) -> dict[str, Any]:
        """Mask, scale and dropout of the weights of a chunk of queries and one of keys."""
        kept = None
        if self.dropout:
            shape = torch.Size((*q.shape[:-1], k.shape[-2]))
            # A number of its own for each chunk of pairs, the same in both passes.
            seed = self.seed + queries.start * self.length + keys.start
            kept = kept_factors(shape, self.dropout, seed, q.device)
        return {"scale": _scale(q), "mask": _rows(self.mask, queries, keys, q.device), "kept": kept}

    def absorbed(self, carry: Carry, number: int, q: Tensor, source: int, keys: Tensor, values: Tensor) -> Carry:
        """What one chunk of queries knows once it has seen a rank's keys.

        Args:
            carry: what it knows.
            number: of the chunk.
            q: all queries of this process.
            source: rank whose keys are here.
            keys: of that rank.
            values: of that rank.
        """
        for local, place, asked, seen in self.pairs(source, number):
            one, other = q[..., local, :], keys[..., place, :]
            how = self.weights(one, other, asked, seen)
            carry = absorb(carry, one, other, values[..., place, :], **how)
        return carry

    def add_gradients(
        self,
        of_q: Tensor,
        of_kv: Sequence[Tensor],
        known: tuple[Tensor, Tensor, Tensor, Tensor],
        source: int,
        keys: Tensor,
        values: Tensor,
    ) -> None:
        """Add what a rank's keys contribute to the gradients, IN PLACE.

        Args:
            of_q: gradients of this process's queries.
            of_kv: those of the rank's keys and of its values.
            known: of the queries: themselves, the output's gradient, logarithm of the sum of exp(score), D.
            source: the rank.
            keys: of that rank.
            values: of that rank.
        """
        q, gradient, log_sum_exp, inner = known
        of_k, of_v = of_kv
        for number in range(len(self.queries)):
            for local, place, asked, seen in self.pairs(source, number):
                one, other = q[..., local, :], keys[..., place, :]
                found = part_gradients(
                    one,
                    other,
                    values[..., place, :],
                    gradient[..., local, :],
                    log_sum_exp[..., local],
                    inner[..., local],
                    **self.weights(one, other, asked, seen),
                )
                of_q[..., local, :] += found.q
                of_k[..., place, :] += found.k
                of_v[..., place, :] += found.v


class _Ring(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, call: _Call) -> Tensor:
        ring = call.ring
        carries = [Carry.empty(q[..., local, :], v.shape[-1]) for local, _ in call.queries]
        with full_precision(q):
            for source, keys, values in _visits(ring, k, v):
                carries = [
                    call.absorbed(carry, number, q, source, keys, values) for number, carry in enumerate(carries)
                ]
                del keys, values  # or they stay until the next are here
        out = torch.cat([carry.output() for carry in carries], -2).to(v.dtype)
        ctx.save_for_backward(q, k, v, out, torch.cat([carry.log_sum_exp() for carry in carries], -1))
        ctx.call = call
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, log_sum_exp = ctx.saved_tensors
        call: _Call = ctx.call
        inner = (at_least_float32(gradient) * at_least_float32(out)).sum(-1)
        of_q = torch.zeros_like(at_least_float32(q))
        split = [k.shape[-1], v.shape[-1]]
        of_kv = at_least_float32(k).new_zeros(*k.shape[:-1], sum(split))
        with full_precision(q):
            for source, keys, values in _visits(call.ring, k, v):
                call.add_gradients(
                    of_q, of_kv.split(split, -1), (q, gradient, log_sum_exp, inner), source, keys, values
                )
                del keys, values
                # To the next rank, which will see the same keys; what comes is of the keys that are seen here next.
                travelling = _pass_on(call.ring, of_kv, GRADIENTS)
                of_kv = of_kv if travelling is None else travelling.received()
                del travelling
        of_k, of_v = of_kv.split(split, -1)
        return of_q.to(q.dtype), of_k.to(k.dtype), of_v.to(v.dtype), None


class _Sent(NamedTuple):
    """Something on its way to the next rank, and what comes from the one before."""

    sent: Tensor
    incoming: Tensor
    works: list[Any]

    def received(self) -> Tensor:
        """What came, once it is here."""
        for work in self.works:
            work.wait()
        return self.incoming


def _pass_on(ring: RingAttention, x: Tensor, tag: int) -> _Sent | None:
    """Send a contiguous tensor to the next rank and receive that of the one before; nothing where one is alone."""
    if ring.ranks == 1:
        return None
    following, before = (_global_rank(ring, (ring.rank + step) % ring.ranks) for step in (1, -1))
    incoming = torch.empty_like(x)
    works = dist.batch_isend_irecv(
        [
            dist.P2POp(dist.isend, x, following, ring.group, tag),
            dist.P2POp(dist.irecv, incoming, before, ring.group, tag),
        ]
    )
    return _Sent(x, incoming, works)


def _visits(ring: RingAttention, k: Tensor, v: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Keys and values of all ranks, each with its rank, this one's first; the next are on their way meanwhile."""
    both = torch.cat([k, v], -1) if ring.ranks > 1 else None
    for step in range(ring.ranks):
        if both is not None:
            k, v = both.split([k.shape[-1], v.shape[-1]], -1)
        is_last = step == ring.ranks - 1
        sent = None if both is None or is_last else _pass_on(ring, both, KEYS)
        yield (ring.rank - step) % ring.ranks, k, v
        both = None if sent is None else sent.received()
        del sent


def _chunks(held: tuple[range, ...], size: int) -> list[tuple[slice, range]]:
    """Pieces of at most so many positions: where they lie in what is held, and in the sequence."""
    found, place = [], 0
    for piece in held:
        for start in range(0, len(piece), size):
            part = piece[start : start + size]
            found.append((slice(place, place + len(part)), part))
            place += len(part)
    return found


def _rows(mask: Tensor | SequenceMask | None, queries: range, keys: range, device: torch.device) -> Tensor | None:
    """A mask of the whole sequence, for some queries and keys."""
    if isinstance(mask, Tensor) and mask.shape[-2] != 1:
        mask = mask[..., queries.start : queries.stop : queries.step, :]
    return _columns(mask, queries, keys, device)


def _columns(mask: Tensor | SequenceMask | None, queries: range, keys: range, device: torch.device) -> Tensor | None:
    """A mask whose rows are those of some queries, for some keys."""
    if isinstance(mask, SequenceMask):
        return mask.between(queries, keys, device)
    return None if mask is None else mask[..., keys.start : keys.stop : keys.step]


def _check_mask(mask: Tensor | SequenceMask | None, length: int) -> None:
    """Refuse a mask of another sequence.

    Raises:
        ValueError: if it is one.
    """
    if isinstance(mask, SequenceMask):
        mask.check(length)
    elif mask is not None and mask.shape[-1] != length:
        raise ValueError(
            f"a mask is told for the whole sequence, {length} keys, to every process; got {[*mask.shape]}."
        )


def _scale(q: Tensor) -> float:
    return 1.0 / math.sqrt(q.shape[-1])


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _global_rank(ring: RingAttention, rank: int) -> int:
    return rank if ring.group is None else dist.get_global_rank(ring.group, rank)
