"""What transformers over blocks of a frame and an action share: slots, heads, memory, writing token by token."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.functional.distributions.categorical import inverse_cdf_index, softmax
from wmcomponents.functional.masks import block_causal_mask, slot_positions
from wmcomponents.nn import CachePosition, LearnedPositions, Transformer, empty_kv_cache, gpt_init_


class FrameLogits(NamedTuple):
    """What a token transformer says along a sequence.

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
        length: positions of the memory in use now, int64 ``[N, 1]``.
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
        speaking: slots whose outputs tell a token.
        acting: the slot of the action, whose output tells reward and end.
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
        speaking: Sequence[int],
        acting: int,
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
        self._speaking, self._acting = tuple(speaking), (acting,)
        self.positions = LearnedPositions(self.max_positions, dim)
        self.action_embedding = nn.Embedding(actions, dim)
        self.token_embedding = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(layers, dim, heads, dropout=dropout)
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
        """Outputs along embedded entries, from position 0, without memory.

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

    def said(self, hidden: Float[Tensor, "n l dim"], start: int) -> FrameLogits:
        """What the heads read from outputs whose first one stands at position ``start``."""
        words = hidden[:, self._slots(start, hidden, self._speaking)]
        ends = hidden[:, self._slots(start, hidden, self._acting)]
        return FrameLogits(self.token_head(words), self.reward_head(ends), self.terminated_head(ends), hidden)

    # -- from memory ---------------------------------------------------------------------------------------------------

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """Of one row's keys and values: layers, 2, heads, positions, size of a head."""
        return (self.layers, 2, self.heads, self.max_positions, self.dim // self.heads)

    def empty_kv_cache(self, batch_size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """Memory in which nothing is in use, ``[*B, *memory_shape]``."""
        return empty_kv_cache(batch_size, self.layers, self.heads, self.max_positions, self.dim, device=device)

    @torch.no_grad()
    def extend(
        self,
        x: Float[Tensor, "n t dim"],
        memory: Tensor,
        length: Tensor,
        window: "CacheBounds",
        present: Tensor | None = None,
    ) -> Tensor:
        """Read embedded entries on top of what the memory holds, which is written IN PLACE; outputs ``[N, T, dim]``.

        Args:
            x: embedded entries without positions.
            memory: ``[N, *memory_shape]``.
            length: positions in use, int64 ``[N, 1]``; the entries follow on them.
            window: what is known of the lengths without looking.
            present: see :class:`~wmcomponents.nn.CachePosition`.
        """
        count = x.shape[1]
        position = length + torch.arange(count, device=x.device)
        place = CachePosition(
            position,
            self.max_positions,
            block=self.mask_block,
            uniform=window.uniform,
            reach=None if window.longest is None else window.longest + count,
            present=present,
        )
        return self.transformer.extend(x + self.positions(position), memory, place)

    @torch.no_grad()
    def write(
        self,
        hidden: Float[Tensor, "n dim"],
        memory: Tensor,
        position: Int[Tensor, "n 1"],
        window: "CacheBounds",
        noise: Float[Tensor, "n k"] | None,
        count: int,
        kept: int,
    ) -> Int[Tensor, "n k"]:
        """Tokens one after the other, each drawn from what the output at the one before tells.

        Args:
            hidden: the output that the first is drawn from.
            memory: written IN PLACE.
            position: where the first token will stand.
            window: what is known of those positions.
            noise: uniform in [0, 1), one number a token; the most likely token each time if not given.
            count: how many tokens.
            kept: how many of them are read into the memory, at least all but the last.
        """
        written: list[Tensor] = []
        for number in range(count):
            written.append(_chosen(self.token_head(hidden), None if noise is None else noise[:, number]))
            if number < kept:
                x = self.token_embedding(written[-1]).unsqueeze(1)
                hidden = self.extend(x, memory, position + number, window.moved(number))[:, 0]
        return torch.stack(written, 1)

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
        """Look, which costs nothing on a CPU."""
        shortest, longest = (int(value) for value in length.aminmax())
        return cls(longest if shortest == longest else None, longest)

    def moved(self, steps: int) -> "CacheBounds":
        """After so many further positions."""
        return CacheBounds(*(None if value is None else value + steps for value in self))


def is_free_to_look(length: Tensor) -> bool:
    """Whether a look at a tensor's numbers costs nothing: on a CPU, where nothing is compiled."""
    return length.device.type == "cpu" and not torch.compiler.is_compiling()


def _chosen(logits: Tensor, noise: Tensor | None) -> Tensor:
    return logits.argmax(-1) if noise is None else inverse_cdf_index(softmax(logits), noise)
