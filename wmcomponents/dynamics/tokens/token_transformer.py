"""A world in tokens: a transformer that reads frames and actions as tokens, and generates the next frame in tokens."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.dynamics.tokens.block_transformer import (
    BlockTransformer,
    CacheBounds,
    FrameLogits,
    Generated,
    is_free_to_look,
)
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.masks import slot_positions

Causality = Literal["causal", "block_causal"]


class TokenTransformer(BlockTransformer):
    """A causal transformer over blocks of K tokens of a frame and one action.

    A position's slot is its place in its block. What stands at slots 0 to K - 1 is looked up in a table of tokens, at
    slot K in a table of actions. Reward and termination are read at the action, before anything of the next frame is
    known: they are the same whatever frame follows.

    As a component it scores whole sequences:

    ================= ====================================== =================================
    key               what                                   shape
    ================= ====================================== =================================
    tokens            read: x_t                              int64 ``[*B, T, K]``
    action_token      read: a_t                              int64 ``[*B, T]``
    token_logits      written: see :class:`FrameLogits`      ``[*B, T, K, vocabulary]``
    reward_logits     written: of r_{t+1}                    ``[*B, T, rewards]``
    terminated_logits written: of terminated_{t+1}           ``[*B, T, 2]``
    ================= ====================================== =================================

    Args:
        vocabulary: number of a frame's codes.
        actions: number of actions.
        frame_tokens: K.
        max_frames: frames that fit into the context; it has ``max_frames * (K + 1)`` positions.
        layers: transformer blocks.
        heads: attention heads.
        dim: size of the embeddings.
        dropout: in training, of embeddings, attention and residuals.
        causality: ``"block_causal"`` lets the tokens of a block see each other. Writing token by token then gives other
            numbers than reading at once, since what is not written yet cannot be seen.
        rewards: number of reward classes.
        in_keys: keys read.
        out_keys: keys written.

    Reference: Micheli et al., Transformers are Sample-Efficient World Models (IRIS, 2023), section 2.2, appendix A.
    """

    def __init__(
        self,
        vocabulary: int,
        actions: int,
        *,
        frame_tokens: int = 16,
        max_frames: int = 20,
        layers: int = 10,
        heads: int = 4,
        dim: int = 256,
        dropout: float = 0.1,
        causality: Causality = "causal",
        rewards: int = 3,
        in_keys: Sequence[NestedKey] = ("tokens", "action_token"),
        out_keys: Sequence[NestedKey] = ("token_logits", "reward_logits", "terminated_logits"),
    ) -> None:
        if causality not in ("causal", "block_causal"):
            raise ValueError(f"causality is 'causal' or 'block_causal'; got {causality!r}.")
        if max_frames < 2:
            raise ValueError(f"the context holds at least two frames, or no step could be imagined; got {max_frames}.")
        self.frame_tokens, self.max_frames = frame_tokens, max_frames
        self.causality: Causality = causality
        super().__init__(
            vocabulary,
            actions,
            block=frame_tokens + 1,
            blocks=max_frames,
            token_slots=[slot for slot in range(frame_tokens + 1) if slot != frame_tokens - 1],
            action_slot=frame_tokens,
            layers=layers,
            heads=heads,
            dim=dim,
            dropout=dropout,
            mask_block=frame_tokens + 1 if causality == "block_causal" else 1,
            rewards=rewards,
            in_keys=in_keys,
            out_keys=out_keys,
        )

    # -- whole sequences -----------------------------------------------------------------------------------------------

    def compute(self, tokens: Int[Tensor, "*batch t k"], action: Int[Tensor, "*batch t"]) -> tuple[Tensor, ...]:
        """Logits along sequences of whole blocks, of tokens, rewards and ends; see the class.

        Args:
            tokens: x_t, int64 ``[*B, T, K]``.
            action: a_t, int64 ``[*B, T]``.
        """
        lead = action.shape[:-1]
        flat = torch.cat([tokens, action.unsqueeze(-1)], -1).reshape(-1, action.shape[-1] * self.block)
        read = self.read(flat)
        token_logits = read.tokens.unflatten(1, (-1, self.frame_tokens))  # (N, T, K, vocabulary)
        return tuple(value.reshape(*lead, *value.shape[1:]) for value in (token_logits, read.reward, read.terminated))

    def read(self, sequence: Int[Tensor, "n l"]) -> FrameLogits:
        """Logits along a sequence that begins with a frame and may break off anywhere.

        Args:
            sequence: tokens of a frame, action, tokens of a frame ..., int64 ``[N, L]``.

        Raises:
            ValueError: if the sequence is longer than the context.
        """
        return self.logits(self.outputs(self.embed(sequence)), 0)

    def embed(self, sequence: Int[Tensor, "n l"], start: int = 0) -> Float[Tensor, "n l dim"]:
        """Tokens and actions, each from the table of its slot, without positions.

        Args:
            sequence: a piece of a sequence, int64 ``[N, L]``.
            start: position of its first entry.
        """
        x = self.token_embedding(sequence.clamp_max(self.vocabulary - 1))
        slots = slot_positions(start, sequence.shape[1], self.block, (self.frame_tokens,))
        if slots:
            index = torch.tensor(slots, device=sequence.device)
            x = x.index_copy(1, index, self.action_embedding(sequence[:, slots]))
        return x

    # -- with a KV cache -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, tokens: Int[Tensor, "n k"], kv_cache: Tensor) -> None:
        """Let a frame be the first and only one, at positions 0 to K - 1.

        Args:
            tokens: of the frame, int64 ``[N, K]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]`` or of fewer positions, written IN PLACE.
        """
        start = torch.zeros(tokens.shape[0], 1, dtype=torch.int64, device=tokens.device)
        self.decode_step(self.token_embedding(tokens), kv_cache, start, CacheBounds(0, 0))

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
                length = torch.full_like(length, self.frame_tokens)
            elif rows.numel():
                anew = kv_cache[rows]
                self.begin(tokens[rows], anew)
                kv_cache[rows] = anew
                length = torch.where(due, self.frame_tokens, length)
            return length, CacheBounds.of(length)
        # The beginning alone is read anew, with a KV cache of its own that is as long as a frame.
        short = kv_cache[..., : self.frame_tokens, :].clone()
        self.begin(tokens, short)
        held = kv_cache[..., : self.frame_tokens, :]
        held.copy_(torch.where(aligned(due, held), short, held))
        return torch.where(due, self.frame_tokens, length), CacheBounds()

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
        entries, act = self.token_embedding(seen), self.action_embedding(action).unsqueeze(1)
        room, bounds = self.evict_if_full(tokens, kv_cache, torch.where(is_init, 0, length), is_init)
        begun = is_init.unsqueeze(-1)
        # A row that begins has its frame first. What its last place is filled with is wiped out below.
        x = torch.where(begun, torch.cat([entries, act], 1), torch.cat([act, entries], 1))
        after = room + torch.where(is_init, self.frame_tokens, self.block)
        hidden = self.decode_step(x, kv_cache, room, bounds, None if self.mask_block == 1 else after)
        self._wipe(kv_cache, is_init)
        return after, hidden[:, 0].masked_fill(is_init, 0.0)

    @torch.no_grad()
    def imagine(
        self,
        tokens: Int[Tensor, "n k"],
        kv_cache: Tensor,
        length: Int[Tensor, "n 1"],
        action: Int[Tensor, " n"],
        noise: Float[Tensor, "n k"] | None,
    ) -> Generated:
        """Read an action and generate the next frame, token by token.

        Args:
            tokens: the current frame, int64 ``[N, K]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE.
            length: positions in use, int64 ``[N, 1]``.
            action: a_t, int64 ``[N]``.
            noise: uniform in [0, 1), one number a token, ``[N, K]``; the most likely token each time if not given.
        """
        length, bounds = self.evict_if_full(tokens, kv_cache, length)
        at_action = self.decode_step(self.action_embedding(action).unsqueeze(1), kv_cache, length, bounds)[:, 0]
        count = self.frame_tokens
        return Generated(
            self.generate(at_action, kv_cache, length + 1, bounds.moved(1), noise, count, count),
            length + self.block,
            self.reward_head(at_action),
            self.terminated_head(at_action),
            at_action,
        )

    def _wipe(self, kv_cache: Tensor, is_init: Tensor) -> None:
        """Empty everything behind the first frame where an episode begins."""
        behind = kv_cache[..., self.frame_tokens :, :]
        behind.masked_fill_(aligned(is_init, behind), 0.0)
