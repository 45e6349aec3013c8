"""Images as a grid of tokens: an encoder, a quantizer, a decoder."""

import math
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.functional.edm import from_bytes
from wmcomponents.nn import Quantizer
from wmcomponents.nn.chunks import row_chunks

Q = TypeVar("Q", bound=Quantizer)
"""The kind of quantizer in a tokenizer."""


class Tokenized(NamedTuple):
    """What a tokenizer makes of images.

    Attributes:
        tokens: int64 ``[N, K]``, row by row of the grid.
        codes: the codes' vectors, ``[N, K, E]``; gradients go straight through to the encoder.
        loss: of codebook and commitment, ``[N]``, a mean over the grid.
    """

    tokens: Tensor
    codes: Tensor
    loss: Tensor


class ImageTokenizer(Component, Generic[Q]):
    """A discrete autoencoder of images.

    ======== ======================================= =================================
    key      what                                    shape
    ======== ======================================= =================================
    pixels   read: an image                         uint8 ``[*B, H, W, C]``
    tokens   written: numbers of codes, row by row   int64 ``[*B, K]``
    codes    written: their vectors                  float ``[*B, K, E]``
    ======== ======================================= =================================

    Args:
        shape: (H, W, C) of an image.
        encoder: images in [-1, 1] ``[N, C, H, W]`` to a grid of features ``[N, F, h, w]``.
        decoder: the way back.
        quantizer: vectors to codes, such as :class:`~wmcomponents.nn.VectorQuantizer` or
            :class:`~wmcomponents.nn.FSQ`.
        features: F, channels of the encoder's output and of the decoder's input.
        grid: (h, w).
        in_keys: key of the image.
        out_keys: keys of tokens and codes.

    Reference: van den Oord et al. (2017); Esser et al. (2021); the tokenizer of IRIS (Micheli et al., 2023).
    """

    def __init__(
        self,
        shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: Q,
        *,
        features: int,
        grid: tuple[int, int],
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("tokens", "codes"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.encoder, self.decoder = encoder, decoder
        self.quantizer: Q = quantizer
        self.to_code = nn.Conv2d(features, quantizer.dim, 1)
        self.from_code = nn.Conv2d(quantizer.dim, features, 1)
        self.shape, self.grid = tuple(shape), tuple(grid)

    @property
    def length(self) -> int:
        """K, tokens of an image."""
        return self.grid[0] * self.grid[1]

    def compute(self, pixels: UInt8[Tensor, "*batch h w c"]) -> tuple[Tensor, Tensor]:
        """Tokens ``[*B, K]`` of images ``[*B, H, W, C]``, and their codes ``[*B, K, E]``."""
        lead = pixels.shape[:-3]
        tokens, codes, _ = self.tokenize(network_image(pixels.reshape(-1, *pixels.shape[-3:])))
        return tokens.reshape(*lead, *tokens.shape[1:]), codes.reshape(*lead, *codes.shape[1:])

    def encode(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k e"]:
        """Images in [-1, 1] ``[N, C, H, W]`` as vectors to be quantised ``[N, K, E]``, row by row of the grid."""
        return self.to_code(self.encoder(x)).flatten(2).transpose(1, 2)

    def tokenize(self, x: Float[Tensor, "n c h w"]) -> Tokenized:
        """Images in [-1, 1] ``[N, C, H, W]`` as tokens, with codes and loss."""
        codes, tokens, loss = self.quantizer(self.encode(x))
        return Tokenized(tokens, codes, loss.mean(-1))

    @torch.no_grad()
    def tokens(self, pixels: UInt8[Tensor, "*batch h w c"], rows: int = 1024) -> Int[Tensor, "*batch k"]:
        """The tokens alone, int64 ``[*B, K]``, without gradients.

        Args:
            pixels: images as the environment shows them, uint8 ``[*B, H, W, C]``.
            rows: how many are encoded at most at once; more images are taken in turns, which bounds the memory. A
                CPU takes fewer.
        """
        lead, flat = pixels.shape[:-3], pixels.reshape(-1, *pixels.shape[-3:])
        shares = row_chunks(len(flat), math.prod(self.shape[:2]), flat.device, rows)
        return torch.cat([self._tokens(flat[share]) for share in shares]).reshape(*lead, self.length)

    def _tokens(self, pixels: Tensor) -> Tensor:
        return self.quantizer.tokens(self.encode(network_image(pixels)))

    def decode(self, codes: Float[Tensor, "n k e"]) -> Float[Tensor, "n c h w"]:
        """Codes' vectors ``[N, K, E]`` as images ``[N, C, H, W]``, about in [-1, 1]; not clamped."""
        return self.decoder(self.from_code(codes.transpose(1, 2).unflatten(2, self.grid)))

    def pixels(self, tokens: Int[Tensor, "*batch k"]) -> UInt8[Tensor, "*batch h w c"]:
        """What tokens ``[*B, K]`` look like, as the environment shows images: ``[*B, H, W, C]``, rounded to bytes."""
        lead, flat = tokens.shape[:-1], tokens.reshape(-1, self.length)
        shares = row_chunks(len(flat), math.prod(self.shape[:2]), flat.device)
        return torch.cat([self._pixels(flat[share]) for share in shares]).reshape(*lead, *self.shape)

    def _pixels(self, tokens: Tensor) -> Tensor:
        return byte_image(unit_image(self.decode(self.quantizer.lookup(tokens))))


class ImageDetokenizer(Component):
    """The way back from tokens to images, with the parts of a tokenizer.

    ============== =============================== =================================
    key            what                            shape
    ============== =============================== =================================
    tokens         read                            int64 ``[*B, K]``
    reconstruction written: about in [0, 1]        float ``[*B, H, W, C]``
    ============== =============================== =================================

    Args:
        tokenizer: whose decoder and codes are used.
        in_keys: key of the tokens.
        out_keys: key of the image.
    """

    def __init__(
        self,
        tokenizer: ImageTokenizer[Quantizer],
        *,
        in_keys: Sequence[NestedKey] = ("tokens",),
        out_keys: Sequence[NestedKey] = ("reconstruction",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.tokenizer = tokenizer

    def compute(self, tokens: Int[Tensor, "*batch k"]) -> Float[Tensor, "*batch h w c"]:
        """Images ``[*B, H, W, C]`` of tokens ``[*B, K]``, not clamped, so that gradients pass."""
        lead, part = tokens.shape[:-1], self.tokenizer
        image = unit_image(part.decode(part.quantizer.lookup(tokens.reshape(-1, part.length))))
        return image.reshape(*lead, *image.shape[1:])


def network_image(pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """Bytes ``[N, H, W, C]`` as numbers in [-1, 1], channels first: ``[N, C, H, W]``."""
    return from_bytes(pixels.permute(0, 3, 1, 2))


def unit_image(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w c"]:
    """Images about in [-1, 1] ``[N, C, H, W]`` as images about in [0, 1], channels last: ``[N, H, W, C]``."""
    return image.add(1.0).div(2.0).permute(0, 2, 3, 1)


def byte_image(image: Float[Tensor, "n h w c"]) -> UInt8[Tensor, "n h w c"]:
    """Images about in [0, 1], clamped and rounded to bytes, ``[N, H, W, C]``."""
    return image.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
