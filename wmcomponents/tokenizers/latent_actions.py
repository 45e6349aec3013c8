"""What was done, told from films alone: a few codes of what changes from frame to frame."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.functional.patches import patch_grid
from wmcomponents.nn import Quantizer
from wmcomponents.nn.space_time.transformer import STTransformer
from wmcomponents.tokenizers.video import film_patches


class LatentActions(NamedTuple):
    """What was done between the frames of films.

    Attributes:
        tokens: numbers of the codes, int64 ``[B, T - 1]``.
        codes: their vectors ``[B, T - 1, E]``; gradients go straight through to the encoder.
        loss: of codebook and commitment, ``[B, T - 1]``.
    """

    tokens: Tensor
    codes: Tensor
    loss: Tensor


class ActionTokenEncoder(nn.Module):
    """A learned token stands before the patches of each frame; what comes out in its place tells what led there.

    Args:
        size: of a patch as numbers.
        transformer: over one token more than a frame has patches, to vectors of the quantizer's size.

    Reference: p-doom/jasmine.
    """

    def __init__(self, size: int, transformer: STTransformer) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(size), std=0.02))
        self.transformer = transformer

    def forward(self, patches: Float[Tensor, "b t n p"]) -> Float[Tensor, "b t e"]:
        """A vector for each frame."""
        first = self.token.expand(*patches.shape[:2], 1, -1)
        return self.transformer(torch.cat([first, patches], 2))[:, :, 0]


class FlattenedEncoder(nn.Module):
    """All that comes out of a frame, side by side, is mapped to what led there.

    Args:
        transformer: over the patches, to ``dim`` numbers each.
        tokens: patches of a frame.
        dim: of the transformer's output.
        out: size of the vector.

    Reference: GenieRedux (Kazemi et al., 2024).
    """

    def __init__(self, transformer: STTransformer, tokens: int, dim: int, out: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.net = nn.Sequential(nn.Linear(tokens * dim, dim), nn.LayerNorm(dim), nn.Linear(dim, out))

    def forward(self, patches: Float[Tensor, "b t n p"]) -> Float[Tensor, "b t e"]:
        """A vector for each frame."""
        return self.net(self.transformer(patches).flatten(2))


class LatentActionModel(Component):
    r"""Codes of what leads from frame to frame, which a decoder of the next frame needs and the past does not tell.

    .. math:: a_t = VQ(f(x_0, \dots, x_{t+1})), \qquad \hat x_{t+1} = g(x_0, \dots, x_t, a_0, \dots, a_t)

    Few codes leave no room for anything but what a player would do. To play, only the codebook is needed.

    ======== ============================================== =================================
    key      what                                           shape
    ======== ============================================== =================================
    pixels   read: films                                    uint8 ``[*B, T, H, W, C]``
    tokens   written: what led to each frame but the first  int64 ``[*B, T - 1]``
    codes    written: their vectors                         float ``[*B, T - 1, E]``
    ======== ============================================== =================================

    Args:
        shape: (H, W, C) of a frame.
        patch: side of a patch.
        encoder: patches ``[B, T, N, P]`` to a vector of the quantizer's size for each frame ``[B, T, E]``.
        embedding: of the decoder's patches, ``[B, T, N, P]`` to ``[B, T, N, D]``, to which actions are added.
        decoder: from there to the patches of the next frame.
        quantizer: of few codes.
        dim: D.
        squash: of the decoder's output; the sigmoid if not given, ``nn.Identity()`` for none.
        norm: of the encoder's vectors ``[N, E]`` before they are quantised, such as
            ``torch.nn.BatchNorm1d(E)``; none if not given.
        in_keys: key of the films.
        out_keys: keys of the actions and their vectors.

    Raises:
        ValueError: if patches do not fill a frame; on call, for films of a single frame.

    Reference: Bruce et al., Genie (2024), section 2.
    """

    def __init__(
        self,
        shape: Sequence[int],
        patch: int,
        encoder: nn.Module,
        embedding: nn.Module,
        decoder: STTransformer,
        quantizer: Quantizer,
        *,
        dim: int,
        squash: nn.Module | None = None,
        norm: nn.Module | None = None,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("tokens", "codes"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.shape, self.patch = tuple(shape), patch
        self.grid = patch_grid(self.shape[:2], (patch, patch))
        self.encoder, self.embedding, self.decoder = encoder, embedding, decoder
        self.quantizer: Quantizer = quantizer
        self.action_map = nn.Linear(quantizer.dim, dim)
        self.squash = nn.Sigmoid() if squash is None else squash
        self.norm = norm

    def compute(self, pixels: UInt8[Tensor, "*batch t h w c"]) -> tuple[Tensor, Tensor]:
        """Codes ``[*B, T - 1]`` of films ``[*B, T, H, W, C]``, and their vectors ``[*B, T - 1, E]``.

        Raises:
            ValueError: for films of a single frame.
        """
        lead = pixels.shape[:-4]
        made = self.infer(film_patches(pixels.reshape(-1, *pixels.shape[-4:]), self.patch))
        return made.tokens.reshape(*lead, -1), made.codes.reshape(*lead, *made.codes.shape[1:])

    def infer(self, patches: Float[Tensor, "b t n p"]) -> LatentActions:
        """What led to each frame but the first.

        Raises:
            ValueError: for films of a single frame.
        """
        check_film(patches.shape[1])
        codes, tokens, loss = self.quantizer(self.encode(patches))
        return LatentActions(tokens, codes, loss)

    @torch.no_grad()
    def tokens(self, pixels: UInt8[Tensor, "b t h w c"]) -> Int[Tensor, "b u"]:
        """The codes alone, ``[B, T - 1]``, without gradients.

        Raises:
            ValueError: for films of a single frame.
        """
        check_film(pixels.shape[1])
        return self.quantizer.tokens(self.encode(film_patches(pixels, self.patch)))

    def encode(self, patches: Float[Tensor, "b t n p"]) -> Float[Tensor, "b u e"]:
        """Vectors of what led to each frame but the first, ``[B, T - 1, E]``, before they are quantised.

        Args:
            patches: of films.
        """
        vectors = self.encoder(patches)[:, 1:]
        return vectors if self.norm is None else self.norm(vectors.flatten(0, 1)).view_as(vectors)

    def predict(self, patches: Float[Tensor, "b t n p"], codes: Float[Tensor, "b t e"]) -> Float[Tensor, "b t n p"]:
        """The patches of the frames that follow, in [0, 1].

        Args:
            patches: of frames.
            codes: vectors of what is done in each.
        """
        return self.squash(self.decoder(self.embedding(patches) + self.action_map(codes).unsqueeze(2)))


def check_film(frames: int) -> None:
    """Refuse films in which nothing happens.

    Args:
        frames: of the film.

    Raises:
        ValueError: for fewer than two.
    """
    if frames < 2:
        raise ValueError(f"what was done is told from one frame to the next, so a film has at least 2; got {frames}.")
