"""Films as grids of tokens, each frame in the light of those before it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.functional.patches import patch_grid, patchify, unpatchify
from wmcomponents.nn import Quantizer
from wmcomponents.nn.space_time.transformer import STTransformer
from wmcomponents.tokenizers.image import byte_image


class TokenizedFilm(NamedTuple):
    """What a tokenizer makes of films.

    Attributes:
        tokens: int64 ``[B, T, N]``, row by row of the grid.
        codes: the codes' vectors, ``[B, T, N, E]``; gradients go straight through to the encoder.
        loss: of codebook and commitment, ``[B, T]``, a mean over the grid.
    """

    tokens: Tensor
    codes: Tensor
    loss: Tensor


class VideoTokenizer(Component):
    """A discrete autoencoder of films that is causal in time: tokens of a frame come of it and the frames before it.

    ======== ======================================= =================================
    key      what                                    shape
    ======== ======================================= =================================
    pixels   read: a film                            uint8 ``[*B, T, H, W, C]``
    tokens   written: numbers of codes, row by row   int64 ``[*B, T, N]``
    codes    written: their vectors                  float ``[*B, T, N, E]``
    ======== ======================================= =================================

    Args:
        shape: (H, W, C) of a frame.
        patch: side of a patch, each of which is a token.
        encoder: from patches ``[B, T, N, patch * patch * C]`` in [0, 1] to vectors of the quantizer's size.
        decoder: from codes to patches.
        quantizer: vectors to codes, such as :class:`~wmcomponents.nn.LearnedCosineQuantizer`.
        squash: of the decoder's output; the sigmoid if not given, ``nn.Identity()`` for none.
        in_keys: key of the film.
        out_keys: keys of tokens and codes.

    Raises:
        ValueError: if patches do not fill a frame.

    Reference: the ST-ViViT of Bruce et al., Genie (2024), section 2.
    """

    def __init__(
        self,
        shape: Sequence[int],
        patch: int,
        encoder: STTransformer,
        decoder: STTransformer,
        quantizer: Quantizer,
        *,
        squash: nn.Module | None = None,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("tokens", "codes"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.shape, self.patch = tuple(shape), patch
        self.grid = patch_grid(self.shape[:2], (patch, patch))
        self.encoder, self.decoder = encoder, decoder
        self.quantizer: Quantizer = quantizer
        self.squash = nn.Sigmoid() if squash is None else squash

    @property
    def length(self) -> int:
        """N, tokens of a frame."""
        return self.grid[0] * self.grid[1]

    def compute(self, pixels: UInt8[Tensor, "*batch t h w c"]) -> tuple[Tensor, Tensor]:
        """Tokens ``[*B, T, N]`` of films ``[*B, T, H, W, C]``, and their codes ``[*B, T, N, E]``."""
        lead = pixels.shape[:-4]
        made = self.tokenize(film_patches(pixels.reshape(-1, *pixels.shape[-4:]), self.patch))
        return made.tokens.reshape(*lead, *made.tokens.shape[1:]), made.codes.reshape(*lead, *made.codes.shape[1:])

    def tokenize(self, patches: Float[Tensor, "b t n p"]) -> TokenizedFilm:
        """Patches in [0, 1] as tokens, with codes and loss."""
        codes, tokens, loss = self.quantizer(self.encoder(patches))
        return TokenizedFilm(tokens, codes, loss.mean(-1))

    @torch.no_grad()
    def tokens(self, pixels: UInt8[Tensor, "b t h w c"]) -> Int[Tensor, "b t n"]:
        """The tokens alone, without gradients."""
        return self.quantizer.tokens(self.encoder(film_patches(pixels, self.patch)))

    def decode(self, codes: Float[Tensor, "b t n e"]) -> Float[Tensor, "b t n p"]:
        """Codes' vectors as patches in [0, 1]."""
        return self.squash(self.decoder(codes))

    @torch.no_grad()
    def pixels(self, tokens: Int[Tensor, "b t n"]) -> UInt8[Tensor, "b t h w c"]:
        """What tokens look like, as the environment shows frames, rounded to bytes."""
        return byte_image(patches_film(self.decode(self.quantizer.lookup(tokens)), self.patch, self.grid))


def film_patches(pixels: Tensor, patch: int) -> Float[Tensor, "*batch n p"]:
    """Frames ``[*B, H, W, C]`` of bytes, or of such numbers as float, as patches in [0, 1], ``[*B, N, p * p * C]``.

    Args:
        pixels: in [0, 255].
        patch: side of a patch.

    Raises:
        ValueError: if patches do not fill a frame.
    """
    return patchify(pixels.movedim(-1, -3).to(torch.get_default_dtype()) / 255.0, patch)


def patches_film(
    patches: Float[Tensor, "*batch n p"], patch: int, grid: Sequence[int]
) -> Float[Tensor, "*batch h w c"]:
    """The frames of patches, channels last.

    Args:
        patches: as :func:`film_patches` makes them.
        patch: side of a patch.
        grid: rows and columns of patches.
    """
    return unpatchify(patches, patch, grid).movedim(-3, -1)
