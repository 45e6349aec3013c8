"""A world in changes: a transformer that sees a frame as one vector, and generates the change to the next in tokens."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.dynamics.tokens.block_transformer import (
    BlockTransformer,
    CacheBounds,
    FrameLogits,
    Generated,
    is_free_to_look,
)
from wmcomponents.functional.broadcast import aligned
from wmcomponents.nn.chunks import row_chunks
from wmcomponents.nn.conv.frame_cnn import FrameEncoder, channels_first


class DeltaTransformer(BlockTransformer):
    """A causal transformer over blocks of a frame's vector, an action, and K tokens of the change that it brings.

    The frame's vector, the paper's I-token, is the output of a CNN, flat by row, column and channel, behind a layer
    norm. It spares looking back at all changes since the episode began. Reward, termination and the first token are
    read at the action, each further token at the one before; nothing is read at the frame and at the last token.

    As a component it scores whole sequences:

    ================= ====================================== =================================
    key               what                                   shape
    ================= ====================================== =================================
    pixels            read: x_t                              uint8 ``[*B, T, H, W, C]``
    action_token      read: a_t                              int64 ``[*B, T]``
    tokens            read: the change from x_t to x_{t+1}   int64 ``[*B, T, K]``
    token_logits      written: of those tokens               ``[*B, T, K, vocabulary]``
    reward_logits     written: of r_{t+1}                    ``[*B, T, rewards]``
    terminated_logits written: of terminated_{t+1}           ``[*B, T, 2]``
    ================= ====================================== =================================

    In the KV cache a block lacks its last token until the next step, which reads it together with the next frame and
    action, in one pass. So a row's cache holds nothing, or ``n * (K + 2) - 1`` positions of n blocks.

    Args:
        vocabulary: number of codes of a change.
        actions: number of actions.
        shape: (H, W, C) of a frame.
        tokens: K.
        max_blocks: blocks that fit into the context; a dream fills them all, and forgets them when no further one fits.
        layers: transformer blocks.
        heads: attention heads.
        features: channels of the frame's vector; its size, which is that of all embeddings, follows from the sides.
        dropout: in training, of embeddings, attention and residuals.
        channels: of the frame's CNN at the largest resolution; a multiple of 32.
        mults: of the channels, one for each residual block.
        halves: whether height and width halve behind the block.
        rewards: size of the reward's logits.
        in_keys: keys read.
        out_keys: keys written.

    Raises:
        ValueError: if no step could be imagined, or the heads cannot share a frame's vector.

    Reference: Micheli et al., Efficient World Models with Context-Aware Tokenization (Delta-IRIS, 2024), section 2.2.
    """

    def __init__(
        self,
        vocabulary: int,
        actions: int,
        shape: Sequence[int],
        *,
        tokens: int = 4,
        max_blocks: int = 26,
        layers: int = 3,
        heads: int = 4,
        features: int = 4,
        dropout: float = 0.0,
        channels: int = 32,
        mults: Sequence[int] = (1, 1, 2, 2, 4),
        halves: Sequence[bool] = (True, False, True, True, False),
        rewards: int = 3,
        in_keys: Sequence[NestedKey] = ("pixels", "action_token", "tokens"),
        out_keys: Sequence[NestedKey] = ("token_logits", "reward_logits", "terminated_logits"),
    ) -> None:
        height, width, image_channels = shape
        if max_blocks < 2:
            raise ValueError(
                f"the context holds at least two blocks, or nothing could be remembered; got {max_blocks}."
            )
        dim = features * (height // 2 ** sum(halves)) * (width // 2 ** sum(halves))
        if dim % heads:
            raise ValueError(
                f"a frame's vector, of which every attention head takes an equal part, has {features} features at each "
                f"place of a frame of {height} by {width}, halved {sum(halves)} times: {dim} in all, which {heads} "
                f"heads cannot share. Change features (frame_features in a configuration) or heads."
            )
        super().__init__(
            vocabulary,
            actions,
            block=tokens + 2,
            blocks=max_blocks,
            token_slots=range(1, tokens + 1),
            action_slot=1,
            layers=layers,
            heads=heads,
            dim=dim,
            dropout=dropout,
            mask_block=1,
            rewards=rewards,
            in_keys=in_keys,
            out_keys=out_keys,
        )
        self.tokens = tokens
        self.frame_encoder = FrameEncoder(image_channels, features, channels, mults, halves)
        self.frame_norm = nn.LayerNorm(dim)

    def frame_vector(self, pixels: UInt8[Tensor, "*batch h w c"]) -> Float[Tensor, "*batch dim"]:
        """What the transformer sees of frames: ``[*B, H, W, C]`` as ``[*B, dim]``."""
        lead, flat = pixels.shape[:-3], pixels.reshape(-1, *pixels.shape[-3:])
        shares = row_chunks(len(flat), math.prod(flat.shape[1:3]), flat.device)
        z = torch.cat([self.frame_encoder(channels_first(flat[share])) for share in shares])
        return self.frame_norm(z.permute(0, 2, 3, 1).flatten(1)).reshape(*lead, self.dim)

    # -- whole sequences -----------------------------------------------------------------------------------------------

    def compute(
        self, pixels: UInt8[Tensor, "*batch t h w c"], action: Int[Tensor, "*batch t"], tokens: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits along sequences of whole blocks, of tokens, rewards and ends; see the class.

        Args:
            pixels: x_t, uint8 ``[*B, T, H, W, C]``.
            action: a_t, int64 ``[*B, T]``.
            tokens: of the changes, int64 ``[*B, T, K]``.
        """
        lead = action.shape[:-1]
        frames = self.frame_vector(pixels.reshape(-1, *pixels.shape[-4:]))
        read = self.read(frames, action.reshape(-1, action.shape[-1]), tokens.reshape(-1, *tokens.shape[-2:]))
        token_logits = read.tokens.unflatten(1, (-1, self.tokens))  # (N, T, K, vocabulary)
        return tuple(value.reshape(*lead, *value.shape[1:]) for value in (token_logits, read.reward, read.terminated))

    def read(
        self, frames: Float[Tensor, "n t dim"], action: Int[Tensor, "n t"], tokens: Int[Tensor, "n t k"]
    ) -> FrameLogits:
        """Logits along sequences of whole blocks.

        Args:
            frames: vectors of the frames, ``[N, T, dim]``.
            action: a_t, int64 ``[N, T]``.
            tokens: of the changes, int64 ``[N, T, K]``. Where one is not known, any will do: no earlier output sees it.

        Raises:
            ValueError: if the sequence is longer than the context.
        """
        return self.logits(self.outputs(self.embed(frames, action, tokens)), 0)

    def embed(
        self, frames: Float[Tensor, "n t dim"], action: Int[Tensor, "n t"], tokens: Int[Tensor, "n t k"]
    ) -> Float[Tensor, "n l dim"]:
        """The entries of whole blocks, ``[N, T * (K + 2), dim]``, without positions; arguments as :meth:`read` has."""
        x = [frames.unsqueeze(2), self.action_embedding(action).unsqueeze(2), self.token_embedding(tokens)]
        return torch.cat(x, 2).flatten(1, 2)

    # -- with a KV cache -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def observe(
        self,
        frame: Float[Tensor, "n dim"],
        last: Int[Tensor, " n"],
        kv_cache: Tensor,
        length: Int[Tensor, "n 1"],
        action: Int[Tensor, " n"],
        tokens: Int[Tensor, "n k"],
        is_init: Bool[Tensor, "n 1"],
    ) -> tuple[Tensor, Tensor]:
        """Read a frame, the action that followed and the change that it brought; where ``is_init``, forget everything.

        Args:
            frame: vector of the frame before the action, ``[N, dim]``.
            last: the last token of the change to that frame, not read yet, int64 ``[N]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE; empty afterwards where ``is_init``.
            length: positions in use, int64 ``[N, 1]``.
            action: a_t, int64 ``[N]``.
            tokens: of the change, int64 ``[N, K]``.
            is_init: rows whose episode begins with the frame after, bool ``[N, 1]``.

        Returns:
            The new lengths ``[N, 1]``, and the output at the action ``[N, dim]``, zero where ``is_init``.
        """
        if is_free_to_look(length) and bool(is_init.all()):
            kv_cache.zero_()
            return torch.zeros_like(length), torch.zeros_like(frame)
        x = self.token_embedding(tokens[:, :-1])
        hidden, at, _ = self._enter(frame, last, action, kv_cache, length, x)
        # A row that had no token to catch up on was filled up at its end.
        end = kv_cache[..., self.block - 1, :]
        end.masked_fill_(aligned(at == 2, end), 0.0)
        kv_cache.masked_fill_(aligned(is_init, kv_cache), 0.0)
        return (at + self.tokens - 1).masked_fill(is_init, 0), hidden.masked_fill(is_init, 0.0)

    @torch.no_grad()
    def imagine(
        self,
        frame: Float[Tensor, "n dim"],
        last: Int[Tensor, " n"],
        kv_cache: Tensor,
        length: Int[Tensor, "n 1"],
        action: Int[Tensor, " n"],
        noise: Float[Tensor, "n k"] | None,
    ) -> Generated:
        """Read the frame and an action, and generate the change that follows, token by token.

        Args:
            frame: vector of the current frame, ``[N, dim]``.
            last: the last token of the change to that frame, not read yet, int64 ``[N]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE.
            length: positions in use, int64 ``[N, 1]``.
            action: a_t, int64 ``[N]``.
            noise: uniform in [0, 1), one number a token, ``[N, K]``; the most likely token each time if not given.
        """
        hidden, at, bounds = self._enter(frame, last, action, kv_cache, length)
        tokens = self.generate(hidden, kv_cache, at, bounds, noise, self.tokens, self.tokens - 1)
        after = at + self.tokens - 1
        return Generated(tokens, after, self.reward_head(hidden), self.terminated_head(hidden), hidden)

    def _enter(
        self,
        frame: Tensor,
        last: Tensor,
        action: Tensor,
        kv_cache: Tensor,
        length: Tensor,
        further: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, CacheBounds]:
        """Read the token that was left, the frame and the action, and further entries, in one pass.

        Rows whose context has no room for a whole block, and rows whose cache is empty, begin with the frame, without
        a token. No row waits for the device.

        Returns:
            The output at the action ``[N, dim]``; the position behind the action ``[N, 1]``; what is known of those.
        """
        full = length + self.block > self.max_positions
        length = length.masked_fill(full, 0)
        left, acted = self.token_embedding(last).unsqueeze(1), self.action_embedding(action).unsqueeze(1)
        behind = [] if further is None else [further]
        x = [frame.unsqueeze(1), acted, *behind]
        bounds = CacheBounds.of(length) if is_free_to_look(length) else CacheBounds()
        if bounds.uniform is not None:
            entered = 3 if bounds.uniform else 2
            hidden = self.decode_step(torch.cat([left, *x] if bounds.uniform else x, 1), kv_cache, length, bounds)
            return hidden[:, entered - 1], length + entered, bounds.moved(entered)
        fresh = length == 0
        # What the last place of a fresh row is filled with is seen by nothing, and written over or wiped out.
        entries = torch.where(fresh.unsqueeze(-1), torch.cat([*x, left], 1), torch.cat([left, *x], 1))
        hidden = self.decode_step(entries, kv_cache, length, bounds)
        at_action = torch.where(fresh, hidden[:, 1], hidden[:, 2])
        return at_action, length + torch.where(fresh, 2, 3), CacheBounds(None, bounds.moved(3).longest)
