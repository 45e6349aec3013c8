"""Attention with many heads over the last positions of a sequence, and the KV cache that spares reading them again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.functional.masks import visible
from wmcomponents.nn.attention.attention_function import AttentionFunction, dot_product_attention
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.attention.positions import InterleavedRoPE, RoPE
from wmcomponents.nn.attention.sequence_mask import SequenceMask


class MultiHeadAttention(nn.Module):
    r"""Self-attention with several heads.

    .. math:: softmax(q k^T / \sqrt{d}) v

    The three input maps lie in one matrix, so that one product computes them all: rows ``[0, D)`` are the query's,
    ``[D, 2D)`` the key's, ``[2D, 3D)`` the value's. :attr:`query`, :attr:`key` and :attr:`value` show each by itself.

    Args:
        dim: D, size of inputs and outputs.
        heads: number of heads; divides ``dim``, unless a head's size is given.
        bias: whether the maps have biases.
        dropout: share of attention weights, and of outputs, that is dropped in training.
        rope: turns queries and keys by their positions; the input tells positions itself if not given.
        head_dim: size of a head, where it is not ``dim / heads``.
        out_bias: whether the output's map has a bias; as the others if not given.
        qk_norm: makes the norm of each head's queries, and that of its keys, from a head's size, such as
            ``nn.LayerNorm``; none if not given.

    Attributes:
        attend: how queries look at keys and values, of whole sequences: :func:`~wmcomponents.nn.dot_product_attention`,
            unless another is put in its place (:func:`~wmcomponents.nn.use_attention_`).

    Raises:
        ValueError: if the heads do not divide the size.

    Reference: Vaswani et al., Attention Is All You Need (2017), section 3.2; Dehghani et al., Scaling Vision
    Transformers to 22 Billion Parameters (2023), section 2, for the norms.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        rope: RoPE | InterleavedRoPE | AxialRoPE | None = None,
        head_dim: int | None = None,
        out_bias: bool | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or (head_dim is None and dim % heads):
            raise ValueError(f"heads divide the size among them: {dim} features cannot be shared by {heads} heads.")
        head_dim = dim // heads if head_dim is None else head_dim
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=bias)
        self.proj = nn.Linear(heads * head_dim, dim, bias=bias if out_bias is None else out_bias)
        self.out_dropout = nn.Dropout(dropout)
        self.rope = rope
        self.q_norm, self.k_norm = (nn.Identity() if qk_norm is None else qk_norm(head_dim) for _ in range(2))
        self.attend: AttentionFunction = dot_product_attention

    @property
    def query(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the queries' map, views of the common ones."""
        return self._map(0)

    @property
    def key(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the keys' map, views of the common ones."""
        return self._map(1)

    @property
    def value(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the values' map, views of the common ones."""
        return self._map(2)

    def _map(self, number: int) -> tuple[Tensor, Tensor | None]:
        bias = self.qkv.bias
        return self.qkv.weight.chunk(3)[number], None if bias is None else bias.chunk(3)[number]

    def forward(
        self,
        x: Float[Tensor, "*batch t dim"],
        mask: Tensor | SequenceMask | None = None,
        position: Tensor | None = None,
    ) -> Float[Tensor, "*batch t dim"]:
        """Every position looks at all that its mask shows.

        Args:
            x: ``[*B, T, D]``.
            mask: bool ``[T, T]`` or ``[*B, 1, T, T]``, true where one may look; or numbers to add to the logits; or
                rules. All see all if not given.
            position: for ``rope``, ``[T]`` or ``[*B, T]``, with a last dimension of axes where it has axes; 0 to T - 1
                if not given.
        """
        q, k, v = self.project(x, position)
        drop = self.dropout if self.training else 0.0
        return self.merge(self.attend(q, k, v, mask, drop))

    def project(
        self, x: Float[Tensor, "*batch t dim"], position: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each head, ``[*B, heads, T, d]``, as they are compared.

        Args:
            x: ``[*B, T, D]``.
            position: see :meth:`forward`.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rope is not None:
            position = torch.arange(x.shape[-2], device=x.device) if position is None else position
            q, k = self.rope(q, position), self.rope(k, position)
        return q, k, v

    @torch.no_grad()
    def decode_step(
        self, x: Float[Tensor, "nt dim"], layer: "LayerKVCache", cache_position: "CachePosition"
    ) -> Float[Tensor, "nt dim"]:
        """The same for positions that follow on others, whose keys and values are kept; without gradients.

        The keys and values of the new positions are written into the KV cache IN PLACE.

        Args:
            x: inputs of the new positions, ``[N * T, D]``; rows and positions in one dimension spare reshaping around
                each map.
            layer: this layer's part of the KV cache, out of :meth:`CachePosition.layers`.
            cache_position: where the new positions stand, ``[N, T]``, and what they see.

        Returns:
            Outputs of the new positions, ``[N * T, D]``.
        """
        rows, count = cache_position.position.shape
        new = self.qkv(x).view(rows, count, 3, self.heads, -1)
        if not isinstance(self.q_norm, nn.Identity):
            q, k, v = new.unbind(2)
            new = torch.stack([self.q_norm(q), self.k_norm(k), v], 2)
        if self.rope is not None:
            turned = self.rope(new[:, :, :2].permute(0, 2, 3, 1, 4), cache_position.position.unsqueeze(1)).permute(
                0, 3, 1, 2, 4
            )
            new = torch.cat([turned, new[:, :, 2:]], 2)
        cache_position.write(layer, new[:, :, 1:])
        q = new[:, :, 0].transpose(1, 2)
        y = F.scaled_dot_product_attention(q, layer.keys, layer.values, attn_mask=cache_position.mask)
        return self.out_dropout(self.proj(y.transpose(1, 2).reshape(x.shape[0], -1)))

    def merge(self, heads: Float[Tensor, "*batch heads t d"]) -> Float[Tensor, "*batch t dim"]:
        """What the heads found, ``[*B, heads, T, d]``, as one output."""
        return self.out_dropout(self.proj(heads.transpose(-2, -3).flatten(-2)))


class LayerKVCache(NamedTuple):
    """One layer's part of a KV cache.

    Attributes:
        target: where new keys and values are written: ``[N, 2, heads, T, d]`` if all rows write to the same T
            positions, the whole ``[N, 2, heads, S, d]`` if not.
        keys: keys that are read, ``[N, heads, reach, d]``.
        values: values that are read, ``[N, heads, reach, d]``.
    """

    target: Tensor
    keys: Tensor
    values: Tensor


class CachePosition:
    """Where new positions of some rows stand in their sequences; worked out once for all layers.

    Args:
        position: of each new one, int64 ``[N, T]``, rising by one along T.
        length: how many positions the KV cache has room for.
        block: positions in a block, which see each other as soon as they are there; 1 is causal.
        uniform: the position of the first new one where it is the same in all rows and known without looking at a
            tensor: what is not in use yet is then not read, and a single new position needs no mask.
        reach: how many positions of the KV cache are read at most; all of them if not given.
        present: how many positions of each row mean anything once the new ones are written, int64 ``[N, 1]``; up to the
            last new one if not given. Only blocks whose positions see ahead need it.

    Attributes:
        position: position of each new entry in its sequence, int64 ``[N, T]``.
        reach: how many positions of the KV cache are read.
        mask: numbers to add to the logits, ``[N, 1, T, reach]`` or ``[T, reach]``, or None where all is seen.
    """

    def __init__(
        self,
        position: Int[Tensor, "n t"],
        length: int,
        *,
        block: int = 1,
        uniform: int | None = None,
        reach: int | None = None,
        present: Int[Tensor, "n 1"] | None = None,
    ) -> None:
        uniform = uniform if present is None else None
        self.position, self.uniform = position, uniform
        self.count = position.shape[1]
        self.mask: Tensor | None = None
        if uniform is not None:
            self.reach = uniform + self.count
            if self.count > 1:
                steps = torch.arange(uniform, self.reach, device=position.device)
                self.mask = _added(visible(steps, self.reach, block))
            return
        self.reach = length if reach is None else min(reach, length)
        self._rows = torch.arange(position.shape[0], device=position.device).unsqueeze(1)
        seen = visible(position, self.reach, block)
        if block > 1:  # what the KV cache holds beyond the new positions is not there yet
            present = position[:, -1:] + 1 if present is None else present
            seen = seen & (torch.arange(self.reach, device=position.device) < present.unsqueeze(-1))
        self.mask = _added(seen).unsqueeze(1)

    def layers(self, kv_cache: Float[Tensor, "n layers two heads s d"]) -> list[LayerKVCache]:
        """A KV cache, layer by layer, as attention reads and writes it here; nothing is copied.

        Args:
            kv_cache: ``[N, layers, 2, heads, S, d]``.
        """
        keys, values = kv_cache[..., : self.reach, :].unbind(2)
        target = kv_cache if self.uniform is None else kv_cache[..., self.uniform : self.reach, :]
        return [LayerKVCache(*one) for one in zip(target.unbind(1), keys.unbind(1), values.unbind(1), strict=True)]

    def write(self, layer: LayerKVCache, new: Float[Tensor, "n t two heads d"]) -> None:
        """Put keys and values into a layer's part of the KV cache, in place.

        Args:
            layer: one of :meth:`layers`.
            new: keys and values of the new positions, ``[N, T, 2, heads, d]``.
        """
        if self.uniform is not None:
            layer.target.copy_(new.permute(0, 2, 3, 1, 4))
        else:
            layer.target[self._rows, :, :, self.position] = new.to(layer.target.dtype)


def _added(seen: Tensor) -> Tensor:
    """A mask as numbers to add, which attention on a CPU would make of it in every layer."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, float("-inf"))


def empty_kv_cache(
    batch_size: Sequence[int],
    layers: int,
    heads: int,
    length: int,
    dim: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*batch layers two heads length d"]:
    """Room for the keys and values of all layers, of a fixed size: it is written in place and never grows.

    Args:
        batch_size: ``*B``.
        layers: number of layers.
        heads: number of heads.
        length: most positions.
        dim: size of all heads together.
        device: of the tensor.
        dtype: of the tensor.

    Returns:
        Zeros ``[*B, layers, 2, heads, length, dim // heads]``.
    """
    return torch.zeros(*batch_size, layers, 2, heads, length, dim // heads, device=device, dtype=dtype)
