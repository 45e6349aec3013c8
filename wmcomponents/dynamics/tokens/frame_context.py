"""A context of frames and actions by turns: it begins with a frame, and begins anew where it is full."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wmcomponents.dynamics.tokens.block_transformer import CacheBounds, is_free_to_look
from wmcomponents.functional.broadcast import aligned


class FrameContext(ABC):
    """How a transformer's KV cache takes in frames and actions: frame, action, frame, action ...

    Attributes:
        block: positions of an action and a frame.
        frame_positions: positions of a frame.
        max_positions: that the cache has.
        mask_block: positions that see each other; 1 is causal.
    """

    block: int
    frame_positions: int
    max_positions: int
    mask_block: int

    @abstractmethod
    def embed_frame(self, tokens: Int[Tensor, "n k"]) -> Float[Tensor, "n p dim"]:
        """The entries of a frame, without positions: ``[N, frame_positions, dim]``."""

    @abstractmethod
    def embed_action(self, action: Int[Tensor, " n"]) -> Float[Tensor, "n one dim"]:
        """The entry of an action, without a position: ``[N, 1, dim]``."""

    @abstractmethod
    def decode_step(
        self,
        x: Float[Tensor, "n t dim"],
        kv_cache: Tensor,
        length: Tensor,
        bounds: CacheBounds,
        present: Tensor | None = None,
    ) -> Tensor:
        """Read embedded entries that follow on those in the KV cache; see :meth:`BlockTransformer.decode_step`."""

    @torch.no_grad()
    def begin(self, tokens: Int[Tensor, "n k"], kv_cache: Tensor) -> None:
        """Let a frame be the first and only one, at the first positions.

        Args:
            tokens: of the frame, int64 ``[N, K]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]`` or of fewer positions, written IN PLACE.
        """
        start = torch.zeros(tokens.shape[0], 1, dtype=torch.int64, device=tokens.device)
        self.decode_step(self.embed_frame(tokens), kv_cache, start, CacheBounds(0, 0))

    @torch.no_grad()
    def evict_if_full(
        self, tokens: Int[Tensor, "n k"], kv_cache: Tensor, length: Tensor, begins: Tensor | None = None
    ) -> tuple[Tensor, CacheBounds]:
        """See to it that a whole block fits: rows without room for it forget all but their current frame.

        Rows that know nothing yet begin with their frame too. No row waits for the device: on an accelerator every row
        is read anew and the ones that were due are kept, on a CPU only those that are due are read.

        Args:
            tokens: the current frame, int64 ``[N, K]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE.
            length: positions in use, int64 ``[N, 1]``.
            begins: bool ``[N, 1]``, rows that are left alone, since they have no current frame.

        Returns:
            The new lengths ``[N, 1]``, and what is known of them.
        """
        due = (length + self.block > self.max_positions) | (length == 0)
        due = due if begins is None else due & ~begins
        if is_free_to_look(length):
            rows = due.squeeze(-1).nonzero().squeeze(-1)
            if rows.numel() == length.shape[0]:
                self.begin(tokens, kv_cache)
                length = torch.full_like(length, self.frame_positions)
            elif rows.numel():
                anew = kv_cache[rows]
                self.begin(tokens[rows], anew)
                kv_cache[rows] = anew
                length = torch.where(due, self.frame_positions, length)
            return length, CacheBounds.of(length)
        # The beginning alone is read anew, with a KV cache of its own that is as long as a frame.
        short = kv_cache[..., : self.frame_positions, :].clone()
        self.begin(tokens, short)
        held = kv_cache[..., : self.frame_positions, :]
        held.copy_(torch.where(aligned(due, held), short, held))
        return torch.where(due, self.frame_positions, length), CacheBounds()

    @torch.no_grad()
    def observe(
        self, tokens: Tensor, kv_cache: Tensor, length: Tensor, action: Tensor, seen: Tensor, is_init: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read an action and the real frame that followed; where ``is_init``, the frame alone.

        Args:
            tokens: the frame before, int64 ``[N, K]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE; whatever it held is gone where
                ``is_init``.
            length: positions in use, int64 ``[N, 1]``.
            action: int64 ``[N]``.
            seen: tokens of the new frame, ``[N, K]``.
            is_init: bool ``[N, 1]``.

        Returns:
            The new lengths ``[N, 1]``, and the output at the action ``[N, dim]``, zero where ``is_init``.
        """
        entries, act = self.embed_frame(seen), self.embed_action(action)
        room, bounds = self.evict_if_full(tokens, kv_cache, torch.where(is_init, 0, length), is_init)
        begun = is_init.unsqueeze(-1)
        # A row that begins has its frame first. What its last place is filled with is wiped out below.
        x = torch.where(begun, torch.cat([entries, act], 1), torch.cat([act, entries], 1))
        after = room + torch.where(is_init, self.frame_positions, self.block)
        hidden = self.decode_step(x, kv_cache, room, bounds, None if self.mask_block == 1 else after)
        self._wipe(kv_cache, is_init)
        return after, hidden[:, 0].masked_fill(is_init, 0.0)

    def _wipe(self, kv_cache: Tensor, is_init: Tensor) -> None:
        """Empty everything behind the first frame where an episode begins."""
        behind = kv_cache[..., self.frame_positions :, :]
        behind.masked_fill_(aligned(is_init, behind), 0.0)
