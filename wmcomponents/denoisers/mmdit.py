"""The two-stream transformer of Open-Sora 2.0: patches of a film and tokens of a text in one attention."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.rows import one_batch, said_by_actions, unsaid_actions
from wmcomponents.functional.patches import grid_coordinates, patch_grid
from wmcomponents.nn.attention.axial_rope import UnevenAxialRoPE
from wmcomponents.nn.diffusion.embeddings import NumberEmbedding
from wmcomponents.nn.diffusion.output import AdaptiveOutput, dit_init_
from wmcomponents.nn.diffusion.text_blocks import ParallelBlock, TwoStreamBlock


class MMDiTSize(NamedTuple):
    """How large a two-stream transformer is.

    Attributes:
        dim: size of a token; the sum of ``shares`` times ``heads``.
        two_streams: blocks where film and text have maps of their own.
        one_stream: blocks behind them, where both share theirs.
        heads: number of attention heads.
        shares: channels of a head that are turned by time, row and column.
    """

    dim: int = 3072
    two_streams: int = 19
    one_stream: int = 38
    heads: int = 24
    shares: tuple[int, int, int] = (16, 56, 56)


OPEN_SORA_11B = MMDiTSize()
"""How large Open-Sora 2.0's network is."""


class MMDiT(Component):
    """From a noisy film, its level, a text and known frames to what a diffusion process asks for.

    The published weights were trained with levels from 0 to 1 and the velocity from data to noise.

    The published network knows no actions. Where a film has some, each frame's is added to that frame's tokens as they
    come in, by a map that begins at zero, as what is given is.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, T, C, H, W] | float | read |
        | "level" | [*B] | float, taken times 1000 | read |
        | "text" | [*B, M, E] | float, tokens by any encoder (T5) | read |
        | "summary" | [*B, V] | float, one vector of the text by any encoder (CLIP) | read |
        | "given" | [*B, T, 1 + C, H, W] | float, a flag and what is known, :func:`told` | read, may be absent |
        | "action" | [*B, T, A] | float, what leads to each frame; 0 is none | read, may be absent: none |
        | "present" | [*B, T] | bool, frames that there are; nobody looks at others | read, may be absent: all |
        | "text_mask" | [*B, M] | bool, which of the text's tokens mean anything | read, may be absent: all |
        | "network_output" | [*B, T, C, H, W] | float | written |

    Args:
        channels: C.
        text: E.
        summary: V.
        size: how large.
        patch: side of a patch.
        mlp_ratio: the feed-forwards' width over the token's.
        bias: whether queries, keys and values of the two streams have biases.
        base: of the rotary positions' wavelengths.
        action: A; 0 for a network without actions.
        in_keys: in the order of the table.
        out_keys: the output.

    Raises:
        ValueError: if heads and shares do not make the size. On call, for films that patches do not fill, or
            conditions or actions that do not go with them.

    Reference: Peng et al., Open-Sora 2.0: Training a Commercial-Level Video Generation Model in $200k (2025), and its
    code; Black Forest Labs, FLUX.1 (2024).

    Example:
        >>> net = MMDiT(4, text=6, summary=5, size=MMDiTSize(16, 1, 1, heads=2, shares=(4, 2, 2)))
        >>> film, text = torch.zeros(2, 3, 4, 4, 6), torch.zeros(2, 7, 6)
        >>> net(film, torch.full((2,), 0.5), text, torch.zeros(2, 5)).shape
        torch.Size([2, 3, 4, 4, 6])
    """

    def __init__(
        self,
        channels: int = 16,
        text: int = 4096,
        summary: int = 768,
        size: MMDiTSize = OPEN_SORA_11B,
        *,
        patch: int = 2,
        mlp_ratio: float = 4.0,
        bias: bool = True,
        base: float = 10_000.0,
        action: int = 0,
        in_keys: Sequence[NestedKey] = (
            *("noisy", "level", "text", "summary"),
            *("given", "action", "present", "text_mask"),
        ),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[4:])
        dim, hidden = size.dim, int(size.dim * mlp_ratio)
        if size.heads * sum(size.shares) != dim:
            raise ValueError(
                f"heads of {sum(size.shares)} channels, {size.shares} by time, row and column, are a token of "
                f"{size.heads * sum(size.shares)} numbers with {size.heads} heads; got {dim}."
            )
        self.channels, self.patch = channels, patch
        inner = channels * patch**2
        self.film_in, self.text_in = nn.Linear(inner, dim), nn.Linear(text, dim)
        self.given_in = nn.Linear(inner + patch**2, dim)
        self.level = NumberEmbedding(dim, scale=1000.0)
        self.summary = nn.Sequential(nn.Linear(summary, dim), nn.SiLU(), nn.Linear(dim, dim))
        rope = UnevenAxialRoPE(size.shares, base)
        self.two_streams = nn.ModuleList(
            TwoStreamBlock(dim, size.heads, hidden, rope, bias) for _ in range(size.two_streams)
        )
        self.one_stream = nn.ModuleList(ParallelBlock(dim, size.heads, hidden, rope) for _ in range(size.one_stream))
        self.out = AdaptiveOutput(dim, inner)
        dit_init_(self)
        self.action_in = unsaid_actions(action, dim)
        nn.init.zeros_(self.given_in.weight)

    def compute(
        self,
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch"],
        text: Float[Tensor, "*batch m e"],
        summary: Float[Tensor, "*batch v"],
        given: Float[Tensor, "*batch t c1 h w"] | None = None,
        action: Float[Tensor, "*batch t a"] | None = None,
        present: Bool[Tensor, "*batch t"] | None = None,
        text_mask: Bool[Tensor, "*batch m"] | None = None,
    ) -> Float[Tensor, "*batch t c h w"]:
        """See the table of keys."""
        if noisy.ndim < 4 or noisy.shape[-3] != self.channels:
            raise ValueError(f"expected films [..., T, {self.channels}, H, W]; got {[*noisy.shape]}.")
        lead, frames = noisy.shape[:-4], noisy.shape[-4]
        rows, columns = patch_grid(noisy.shape[-2:], (self.patch, self.patch))
        expected = (*noisy.shape[:-3], self.channels + 1, *noisy.shape[-2:])
        if given is not None and given.shape != expected:
            raise ValueError(
                f"what is known of this film is {[*expected]}, a flag before the channels; got {[*given.shape]}."
            )
        x, level, text, summary, given, action, present, text_mask = one_batch(
            lead,
            **{"noisy": noisy, "level": level, "text": text, "summary": summary, "given": given},
            **{"action": action, "present": present, "text_mask": text_mask},
        )
        condition = (self.level(level) + self.summary(summary)).unsqueeze(-2)
        film, words = self.film_in(packed(x, self.patch)), self.text_in(text)
        if given is not None:
            film = film + self.given_in(packed(given, self.patch))
        if action is not None:
            film = film + said_by_actions(self.action_in, action, frames).repeat_interleave(rows * columns, 1)
        seen = self._seen(text_mask, present, words, film)
        place = grid_coordinates((frames, rows, columns), x.device)
        place = torch.cat([place.new_zeros(words.shape[-2], 3), place])
        for block in self.two_streams:
            film, words = block(film, words, condition, place, seen)
        both = torch.cat([words, film], -2)
        for block in self.one_stream:
            both = block(both, condition, place, seen)
        out = self.out(both[:, words.shape[-2] :], condition)
        return unpacked(out, (frames, rows, columns), self.patch).reshape(noisy.shape)

    @staticmethod
    def _seen(text_mask: Tensor | None, present: Tensor | None, words: Tensor, film: Tensor) -> Tensor | None:
        """Which tokens are looked at, ``[B, 1, 1, M + N]``; None where all are."""
        if text_mask is None and present is None:
            return None
        of_text, of_film = (torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) for x in (words, film))
        if text_mask is not None:
            of_text = text_mask.bool()
        if present is not None:
            of_film = present.bool().repeat_interleave(film.shape[1] // present.shape[1], 1)
        return torch.cat([of_text, of_film], 1)[:, None, None]


def told(film: Float[Tensor, "*batch t c h w"], known: Bool[Tensor, "*batch t"]) -> Float[Tensor, "*batch t c1 h w"]:
    """Known frames behind a channel that is 1 where they are, and 0 elsewhere; what is not known is 0.

    Args:
        film: with anything in the place of frames that are not known.
        known: which frames are.
    """
    flag = known[..., None, None, None].expand_as(film[..., :1, :, :])
    return torch.cat([flag.to(film.dtype), torch.where(flag, film, 0.0)], -3)


def packed(film: Float[Tensor, "b t c h w"], patch: int) -> Float[Tensor, "b n p"]:
    """The patches of a film as vectors, channels slowest, by frame, row and column.

    Args:
        film: channels before height and width.
        patch: side of a patch.
    """
    return rearrange(film, "b t c (h p) (w q) -> b (t h w) (c p q)", p=patch, q=patch)


def unpacked(tokens: Float[Tensor, "b n p"], grid: Sequence[int], patch: int) -> Float[Tensor, "b t c h w"]:
    """The film of :func:`packed`'s vectors.

    Args:
        tokens: as many as the grid has places.
        grid: frames, rows and columns of patches.
        patch: side of a patch.
    """
    frames, rows, _ = grid
    return rearrange(tokens, "b (t h w) (c p q) -> b t c (h p) (w q)", t=frames, h=rows, p=patch, q=patch)
