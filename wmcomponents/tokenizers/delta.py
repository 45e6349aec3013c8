"""The change from one frame to the next as a few tokens: an encoder that sees both, a decoder that sees the first."""

import math
from collections.abc import Sequence
from typing import Generic

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn.chunks import row_chunks
from wmcomponents.nn.conv.frame_cnn import FrameDecoder, FrameEncoder, channels_first
from wmcomponents.tokenizers.image import Q, Tokenized, byte_image


class DeltaTokenizer(Component, Generic[Q]):
    r"""A discrete autoencoder of what the frame before and the action do not tell.

    .. math:: z = E(x_t, a_t, x_{t+1}), \qquad \hat x_{t+1} = D(x_t, a_t, q(z))

    Tokens stand for the cells of a square grid; a code's vector stands for all features of its cell.

    ================= ========================================= =================================
    key               what                                      shape
    ================= ========================================= =================================
    pixels            read: x_t                                 uint8 ``[*B, H, W, C]``
    action_token      read: a_t                                 int64 ``[*B]``
    (next, pixels)    read: x_{t+1}                             uint8 ``[*B, H, W, C]``
    tokens            written: numbers of codes, row by row     int64 ``[*B, K]``
    codes             written: their vectors                    float ``[*B, K, E]``
    ================= ========================================= =================================

    Args:
        shape: (H, W, C) of a frame; H = W.
        actions: number of actions.
        quantizer: vectors to codes, such as :class:`~wmcomponents.nn.CosineQuantizer`.
        tokens: K, a square number.
        features: channels of the encoder's output, and of the codes' part of the decoder's input.
        context: channels that the decoder sees of x_t.
        action_channels: channels that the decoder sees of a_t.
        channels: of encoder and decoder at the largest resolution; a multiple of 32.
        context_channels: channels at the largest resolution of the network through which the decoder sees x_t; a
            multiple of 32.
        mults: of the channels, one for each residual block.
        halves: whether height and width halve behind the block.
        in_keys: frame, action, next frame.
        out_keys: tokens and codes.

    Raises:
        ValueError: if the frame does not halve as often as it should into the tokens' cells.

    Reference: Micheli et al., Efficient World Models with Context-Aware Tokenization (Delta-IRIS, 2024), section 2.1.
    """

    def __init__(
        self,
        shape: Sequence[int],
        actions: int,
        quantizer: Q,
        *,
        tokens: int = 4,
        features: int = 64,
        context: int = 16,
        action_channels: int = 4,
        channels: int = 64,
        context_channels: int = 32,
        mults: Sequence[int] = (1, 1, 2, 2, 4),
        halves: Sequence[bool] = (True, False, True, True, False),
        in_keys: Sequence[NestedKey] = ("pixels", "action_token", ("next", "pixels")),
        out_keys: Sequence[NestedKey] = ("tokens", "codes"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        side, width, image_channels = shape
        self.grid = math.isqrt(tokens)
        self.latent_side, rest = divmod(side, 2 ** sum(halves))
        if self.grid**2 != tokens or rest or side != width or self.latent_side % self.grid:
            raise ValueError(
                f"a square frame halves {sum(halves)} times to a side that a square of tokens shares evenly; got a "
                f"frame of {side} by {width} and {tokens} tokens: resize the frame, or change halves or tokens."
            )
        self.shape, self.length = (side, width, image_channels), tokens
        self.quantizer: Q = quantizer
        self.cell = self.latent_side // self.grid
        levels = (tuple(mults), tuple(halves))
        self.encoder = FrameEncoder(2 * image_channels + 1, features, channels, *levels)
        self.decoder = FrameDecoder(features + context + action_channels, image_channels, channels, *levels)
        self.context_encoder = FrameEncoder(image_channels, context, context_channels, *levels)
        self.encoder_action = nn.Embedding(actions, side * side)
        self.decoder_action = nn.Embedding(actions, action_channels * self.latent_side**2)
        self.to_code = nn.Linear(features * self.cell**2, quantizer.dim)
        self.from_code = nn.Linear(quantizer.dim, features * self.cell**2)

    def compute(
        self, pixels: UInt8[Tensor, "*batch h w c"], action: Int[Tensor, "*batch"], following: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``[*B, K]`` and their codes ``[*B, K, E]``.

        Args:
            pixels: x_t, uint8 ``[*B, H, W, C]``.
            action: a_t, int64 ``[*B]``.
            following: x_{t+1}, uint8 ``[*B, H, W, C]``.
        """
        lead = action.shape
        before, after = (channels_first(x.reshape(-1, *x.shape[-3:])) for x in (pixels, following))
        tokens, codes, _ = self.tokenize(before, action.reshape(-1), after)
        return tokens.reshape(*lead, *tokens.shape[1:]), codes.reshape(*lead, *codes.shape[1:])

    def features(
        self, x: Float[Tensor, "n c h w"], action: Int[Tensor, " n"], following: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n features h2 w2"]:
        """What the encoder makes of frames and the actions between them.

        Args:
            x: x_t in [0, 1], ``[N, C, H, W]``.
            action: a_t, int64 ``[N]``.
            following: x_{t+1} in [0, 1], ``[N, C, H, W]``.

        Returns:
            ``[N, features, h, w]``.
        """
        plane = self.encoder_action(action).view(-1, 1, *x.shape[2:])
        return self.encoder(torch.cat([x, plane, following], 1))

    def encode(
        self, x: Float[Tensor, "n c h w"], action: Int[Tensor, " n"], following: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n k e"]:
        """The vectors that are to be quantised, ``[N, K, E]``: of each cell all features, by row, column and channel.

        Arguments as :meth:`features` has.
        """
        z = self.features(x, action, following)
        cells = z.unflatten(3, (self.grid, self.cell)).unflatten(2, (self.grid, self.cell))  # (n, f, gh, ch, gw, cw)
        return self.to_code(cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))

    def tokenize(
        self, x: Float[Tensor, "n c h w"], action: Int[Tensor, " n"], following: Float[Tensor, "n c h w"]
    ) -> Tokenized:
        """Tokens ``[N, K]``, with codes and loss; arguments as :meth:`features` has."""
        codes, tokens, loss = self.quantizer(self.encode(x, action, following))
        return Tokenized(tokens, codes, loss.mean(-1))

    @torch.no_grad()
    def tokens(
        self,
        pixels: UInt8[Tensor, "*batch h w c"],
        action: Int[Tensor, "*batch"],
        following: UInt8[Tensor, "*batch h w c"],
        rows: int = 256,
    ) -> Int[Tensor, "*batch k"]:
        """The tokens alone, int64 ``[*B, K]``, without gradients.

        Args:
            pixels: frames as the environment shows them, uint8 ``[*B, H, W, C]``.
            action: what was done, int64 ``[*B]``.
            following: the frames after, uint8 ``[*B, H, W, C]``.
            rows: how many are encoded at most at once; more are taken in turns, which bounds the memory. A CPU takes
                fewer.
        """
        lead, flat = action.shape, action.reshape(-1)
        before, after = (x.reshape(-1, *x.shape[-3:]) for x in (pixels, following))
        found = []
        for part in row_chunks(len(flat), math.prod(self.shape[:2]), flat.device, rows):
            z = self.encode(channels_first(before[part]), flat[part], channels_first(after[part]))
            found.append(self.quantizer.tokens(z))
        return torch.cat(found).reshape(*lead, self.length)

    def decode(
        self, x: Float[Tensor, "n c h w"], action: Int[Tensor, " n"], codes: Float[Tensor, "n k e"]
    ) -> Float[Tensor, "n c h w"]:
        """The frame after x, about in [0, 1], ``[N, C, H, W]``; not clamped.

        Args:
            x: x_t in [0, 1], ``[N, C, H, W]``.
            action: a_t, int64 ``[N]``.
            codes: vectors of the change, ``[N, K, E]``.
        """
        cells = self.from_code(codes).unflatten(2, (self.cell, self.cell, -1)).unflatten(1, (self.grid, self.grid))
        q = cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        side = self.latent_side
        acted = self.decoder_action(action).view(-1, self.decoder_action.embedding_dim // side**2, side, side)
        return self.decoder(torch.cat([self.context_encoder(x), acted, q], 1))

    def pixels(
        self, pixels: UInt8[Tensor, "n h w c"], action: Int[Tensor, " n"], tokens: Int[Tensor, "n k"]
    ) -> UInt8[Tensor, "n h w c"]:
        """The frame that follows, as the environment shows frames: ``[N, H, W, C]``, clamped, and rounded to bytes.

        Args:
            pixels: x_t, uint8 ``[N, H, W, C]``.
            action: a_t, int64 ``[N]``.
            tokens: of the change, int64 ``[N, K]``.
        """
        shares = row_chunks(len(tokens), math.prod(self.shape[:2]), tokens.device)
        return torch.cat([self._pixels(pixels[share], action[share], tokens[share]) for share in shares])

    def _pixels(self, pixels: Tensor, action: Tensor, tokens: Tensor) -> Tensor:
        image = self.decode(channels_first(pixels), action, self.quantizer.lookup(tokens))
        return byte_image(image.permute(0, 2, 3, 1)).contiguous()
