"""A transformer over a sequence that several processes hold together: each works through its own share."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from wmcomponents.nn.attention.attention import MultiHeadAttention
from wmcomponents.nn.attention.attention_function import AttentionFunction, dot_product_attention
from wmcomponents.nn.attention.ring_attention import RingAttention


def use_attention_(module: nn.Module, attention: AttentionFunction = dot_product_attention) -> None:
    """Let every :class:`~wmcomponents.nn.MultiHeadAttention` of a module look at whole sequences in another way.

    Parameters and their names stay. Steps with a KV cache (``decode_step``) are as before.

    Args:
        module: a transformer, or anything that holds one.
        attention: the way; torch's own kernels if not given.

    Raises:
        ValueError: if the module has no such attention.
    """
    found = [part for part in module.modules() if isinstance(part, MultiHeadAttention)]
    if not found:
        raise ValueError(
            f"{type(module).__name__} holds no MultiHeadAttention, whose way of looking could be exchanged: give the "
            f"transformer, or a module that holds it."
        )
    for part in found:
        part.attend = attention


def sequence_parallel_(transformer: nn.Module, attention: RingAttention) -> Callable[[], None]:
    """Let the processes of a ring share a transformer's sequences, so that each holds 1/N of the activations.

    Outside, nothing changes: all processes give the same whole sequences, get whole outputs, compute the same loss,
    and after ``backward`` have the gradients that one process alone has, of all parameters. Inside, each goes through
    its own share: behind the transformer's entrance the others' positions are dropped, at its exit all outputs are
    collected, and gradients of its parameters are added up over the processes. Names of parameters stay, so weights
    load and save as before.

    Seed all processes alike: what is drawn outside (a batch, dropout of embeddings) must be the same in all.

    Args:
        transformer: called with inputs ``[*B, T, D]``, and perhaps a mask of the whole sequence and positions ``[T]``
            or ``[*B, T]``, as :class:`~wmcomponents.nn.CachedTransformer` is; its attention is
            :class:`~wmcomponents.nn.MultiHeadAttention`. The ``dynamics.transformer`` of a world model of tokens.
        attention: the ring, whose layout says who holds which positions.

    Returns:
        A function that takes it back.

    Raises:
        ValueError: if the module has no such attention; on call, if the processes cannot share the sequence.

    Reference: Li et al., Sequence Parallelism (2021); Liu, Zaharia and Abbeel, Ring Attention (2023).

    Example:
        >>> import torch
        >>> from wmcomponents.nn import CachedTransformer, SequenceMask
        >>> net, x = CachedTransformer(1, dim=8, heads=2), torch.randn(1, 4, 8)
        >>> plain = net(x, SequenceMask(block=1))
        >>> undo = sequence_parallel_(net, RingAttention())  # alone: a ring of one
        >>> torch.allclose(net(x, SequenceMask(block=1)), plain, atol=1e-6)
        True
        >>> undo()
    """
    use_attention_(transformer, attention)
    handles: list[Any] = [
        transformer.register_forward_pre_hook(_entrance(attention), with_kwargs=True),
        transformer.register_forward_hook(_exit(attention)),
    ]
    if attention.ranks > 1:
        handles += [p.register_hook(_summed(attention)) for p in transformer.parameters() if p.requires_grad]

    def undo() -> None:
        for handle in handles:
            handle.remove()
        use_attention_(transformer)

    return undo


def _entrance(ring: RingAttention) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    def keep_own(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        x, mask, position = _arguments(*given, **named)
        own = ring.layout.positions(ring.rank, ring.ranks, x.shape[-2], x.device)
        position = own if position is None else position[..., own]
        return (_Split.apply(x, ring), mask, position), {}

    return keep_own


def _exit(ring: RingAttention) -> Callable[..., Tensor]:
    def collect(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
        return _Join.apply(out, ring)  # pyright: ignore[reportReturnType]

    return collect


def _arguments(x: Tensor, mask: Any = None, position: Tensor | None = None) -> tuple[Tensor, Any, Tensor | None]:
    """What a transformer is called with, by place or by name."""
    return x, mask, position


def _summed(ring: RingAttention) -> Callable[[Tensor], Tensor]:
    def over_processes(gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=ring.group)
        return total

    return over_processes


class _Split(Function):
    """This process's share of a sequence that all have; backwards, the gradients of all shares."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ring: RingAttention) -> Tensor:
        ctx.ring = ring
        return _own(x, ring)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _whole(gradient, ctx.ring), None


class _Join(Function):
    """The whole sequence out of the shares; backwards, this share's gradient, since all compute the same loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ring: RingAttention) -> Tensor:
        ctx.ring = ring
        return _whole(x, ring)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _own(gradient, ctx.ring), None


def _own(x: Tensor, ring: RingAttention) -> Tensor:
    return x[..., ring.layout.positions(ring.rank, ring.ranks, x.shape[-2], x.device), :]


def _whole(x: Tensor, ring: RingAttention) -> Tensor:
    if ring.ranks == 1:
        parts = [x]
    else:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(ring.ranks)]
        dist.all_gather(parts, x, group=ring.group)
    together = torch.cat(parts, -2)
    return together[..., ring.layout.inverse(ring.ranks, together.shape[-2], x.device), :]
