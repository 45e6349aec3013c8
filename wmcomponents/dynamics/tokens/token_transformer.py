"""A world in tokens: a transformer that reads frames and actions as tokens, and generates the next frame in tokens."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.dynamics.tokens.block_transformer import BlockTransformer, FrameLogits, Generated
from wmcomponents.dynamics.tokens.frame_context import FrameContext
from wmcomponents.functional.masks import slot_positions

Causality = Literal["causal", "block_causal"]


class TokenTransformer(BlockTransformer, FrameContext):
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
        self.frame_tokens, self.frame_positions, self.max_frames = frame_tokens, frame_tokens, max_frames
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

    def embed_frame(self, tokens: Int[Tensor, "n k"]) -> Float[Tensor, "n k dim"]:
        """A frame's tokens out of their table."""
        return self.token_embedding(tokens)

    def embed_action(self, action: Int[Tensor, " n"]) -> Float[Tensor, "n one dim"]:
        """An action out of its table."""
        return self.action_embedding(action).unsqueeze(1)

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
        at_action = self.decode_step(self.embed_action(action), kv_cache, length, bounds)[:, 0]
        count = self.frame_tokens
        return Generated(
            self.generate(at_action, kv_cache, length + 1, bounds.moved(1), noise, count, count),
            length + self.block,
            self.reward_head(at_action),
            self.terminated_head(at_action),
            at_action,
        )
