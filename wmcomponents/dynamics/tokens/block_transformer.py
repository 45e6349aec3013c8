"""What transformers over blocks of a frame and an action share: slots, heads, KV cache, token by token."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.functional.masks import block_causal_mask, slot_positions
from wmcomponents.functional.top_k import drawn_class
from wmcomponents.nn import CachedTransformer, CachePosition, LearnedPositions, empty_kv_cache, gpt_init_


class FrameLogits(NamedTuple):
    """What the heads of a token transformer give along a sequence.

    Attributes:
        tokens: of the next token, ``[*B, N, vocabulary]``: one for each slot that a token of a frame follows, in order.
            Of whole blocks, N = T * K: the K - 1 first tokens of a frame tell the token behind them, the action tells
            the first token of the next frame.
        reward: of the reward's classes, ``[*B, T, classes]``, read at the action.
        terminated: of "goes on" and "terminates", ``[*B, T, 2]``, read at the action.
        hidden: outputs of all slots, ``[*B, L, dim]``.
    """

    tokens: Tensor
    reward: Tensor
    terminated: Tensor
    hidden: Tensor


class Generated(NamedTuple):
    """One generated step of N rows.

    Attributes:
        tokens: of the next frame, int64 ``[N, K]``.
        length: positions of the KV cache in use now, int64 ``[N, 1]``.
        reward: logits of the reward's classes, ``[N, classes]``.
        terminated: logits of "goes on" and "terminates", ``[N, 2]``.
        hidden: the output at the action, which all of these were read from, ``[N, dim]``.
    """

    tokens: Tensor
    length: Tensor
    reward: Tensor
    terminated: Tensor
    hidden: Tensor


class BlockTransformer(Component, ABC):
    """A transformer over blocks of equal length, whose slots have fixed meanings; certain slots feed certain heads.

    Args:
        vocabulary: number of tokens.
        actions: number of actions.
        block: slots of a block.
        blocks: that fit into the context.
        token_slots: slots whose outputs the token head reads.
        action_slot: slot of the action, whose output the heads of reward and end read.
        layers: transformer blocks.
        heads: attention heads.
        dim: size of the embeddings.
        dropout: in training, of embeddings, attention and residuals.
        mask_block: positions that see each other; 1 is causal.
        rewards: size of the reward's logits.
        in_keys: keys read.
        out_keys: keys written.
    """

    mask: Tensor

    def __init__(
        self,
        vocabulary: int,
        actions: int,
        *,
        block: int,
        blocks: int,
        token_slots: Sequence[int],
        action_slot: int,
        layers: int,
        heads: int,
        dim: int,
        dropout: float,
        mask_block: int,
        rewards: int,
        in_keys: Sequence[NestedKey],
        out_keys: Sequence[NestedKey],
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.vocabulary, self.actions = vocabulary, actions
        self.block, self.blocks, self.max_positions, self.mask_block = block, blocks, block * blocks, mask_block
        self.layers, self.heads, self.dim = layers, heads, dim
        self.token_slots, self.action_slot = tuple(token_slots), action_slot
        self.positions = LearnedPositions(self.max_positions, dim)
        self.action_embedding = nn.Embedding(actions, dim)
        self.token_embedding = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(dropout)
        self.transformer = CachedTransformer(layers, dim, heads, dropout=dropout)
        self.token_head, self.reward_head, self.terminated_head = (
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, size)) for size in (vocabulary, rewards, 2)
        )
        self.apply(gpt_init_)
        self.register_buffer("mask", block_causal_mask(self.max_positions, mask_block), persistent=False)

    # -- whole sequences -----------------------------------------------------------------------------------------------

    @abstractmethod
    def compute(self, *tensors: Any) -> tuple[Tensor, ...]:
        """Logits along sequences of whole blocks."""

    def outputs(self, x: Float[Tensor, "n l dim"]) -> Float[Tensor, "n l dim"]:
        """Outputs along embedded entries, from position 0, without a KV cache.

        Args:
            x: embedded entries without positions, ``[N, L, dim]``.

        Raises:
            ValueError: if there are more than the context holds.
        """
        length = x.shape[1]
        if length > self.max_positions:
            raise ValueError(
                f"the context has {self.max_positions} positions, {self.blocks} frames with their actions; got "
                f"{length}: cut the sequence, or build the transformer with a longer context."
            )
        return self.transformer(self.dropout(x + self.positions.weight[:length]), self.mask[:length, :length])

    def logits(self, hidden: Float[Tensor, "n l dim"], start: int) -> FrameLogits:
        """What the heads read from outputs of a piece of a sequence.

        Args:
            hidden: outputs, ``[N, L, dim]``.
            start: position in the sequence of the first one.
        """
        at_tokens = hidden[:, self._slots(start, hidden, self.token_slots)]
        at_action = hidden[:, self._slots(start, hidden, (self.action_slot,))]
        return FrameLogits(
            self.token_head(at_tokens), self.reward_head(at_action), self.terminated_head(at_action), hidden
        )

    # -- with a KV cache -----------------------------------------------------------------------------------------------

    @property
    def kv_cache_shape(self) -> tuple[int, ...]:
        """Of one row's keys and values: layers, 2, heads, positions, size of a head."""
        return (self.layers, 2, self.heads, self.max_positions, self.dim // self.heads)

    def empty_kv_cache(self, batch_size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """A KV cache in which nothing is in use, ``[*B, *kv_cache_shape]``."""
        return empty_kv_cache(batch_size, self.layers, self.heads, self.max_positions, self.dim, device=device)

    @torch.no_grad()
    def decode_step(
        self,
        x: Float[Tensor, "n t dim"],
        kv_cache: Tensor,
        length: Tensor,
        bounds: "CacheBounds",
        present: Tensor | None = None,
    ) -> Tensor:
        """Read embedded entries that follow on those in the KV cache, which is written IN PLACE.

        Args:
            x: embedded entries without positions, ``[N, T, dim]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``.
            length: positions in use, int64 ``[N, 1]``; the entries follow on them.
            bounds: what is known of the lengths without looking.
            present: how many positions of each row mean anything once the entries are read, int64 ``[N, 1]``; up to
                the last entry if not given.

        Returns:
            Outputs ``[N, T, dim]``.
        """
        count = x.shape[1]
        position = length + torch.arange(count, device=x.device)
        cache_position = CachePosition(
            position,
            self.max_positions,
            block=self.mask_block,
            uniform=bounds.uniform,
            reach=None if bounds.longest is None else bounds.longest + count,
            present=present,
        )
        return self.transformer.decode_step(x + self.positions(position), kv_cache, cache_position)

    @torch.no_grad()
    def generate(
        self,
        hidden: Float[Tensor, "n dim"],
        kv_cache: Tensor,
        position: Int[Tensor, "n 1"],
        bounds: "CacheBounds",
        noise: Float[Tensor, "n k"] | None,
        count: int,
        kept: int,
    ) -> Int[Tensor, "n k"]:
        """Tokens one after the other, each drawn from what the output at the one before tells.

        Args:
            hidden: the output that the first is drawn from, ``[N, dim]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE.
            position: where the first token will stand, int64 ``[N, 1]``.
            bounds: what is known of those positions.
            noise: uniform in [0, 1), one number a token, ``[N, count]``; the most likely token each time if not given.
            count: how many tokens.
            kept: how many of them are read into the KV cache, at least all but the last.

        Returns:
            The tokens, int64 ``[N, count]``.
        """
        tokens: list[Tensor] = []
        for number in range(count):
            tokens.append(drawn_class(self.token_head(hidden), None if noise is None else noise[:, number]))
            if number < kept:
                x = self.token_embedding(tokens[-1]).unsqueeze(1)
                hidden = self.decode_step(x, kv_cache, position + number, bounds.moved(number))[:, 0]
        return torch.stack(tokens, 1)

    def _slots(self, start: int, hidden: Tensor, slots: tuple[int, ...]) -> Tensor:
        found = slot_positions(start, hidden.shape[1], self.block, slots)
        return torch.tensor(found, dtype=torch.int64, device=hidden.device)


class CacheBounds(NamedTuple):
    """What is known of the rows' lengths without looking at a tensor; nothing on an accelerator.

    Attributes:
        uniform: the length, where all rows have the same.
        longest: the longest.
    """

    uniform: int | None = None
    longest: int | None = None

    @classmethod
    def of(cls, length: Tensor) -> "CacheBounds":
        """Look at lengths, int64 ``[N, 1]``, which costs nothing on a CPU."""
        shortest, longest = (int(value) for value in length.aminmax())
        return cls(longest if shortest == longest else None, longest)

    def moved(self, steps: int) -> "CacheBounds":
        """After so many further positions."""
        return CacheBounds(*(None if value is None else value + steps for value in self))


def is_free_to_look(length: Tensor) -> bool:
    """Whether a look at lengths ``[N, 1]`` costs nothing: on a CPU, where nothing is compiled."""
    return length.device.type == "cpu" and not torch.compiler.is_compiling()
