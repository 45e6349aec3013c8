"""STDiT3: Open-Sora 1.2's transformer over the patches of a film, told a text, a frame rate, a size, and actions."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.dit import DiTSize
from wmcomponents.denoisers.rows import one_batch, said_by_actions, unsaid_actions
from wmcomponents.nn.attention.feed_forward import TanhFeedForward
from wmcomponents.nn.attention.positions import InterleavedRoPE
from wmcomponents.nn.diffusion.blocks import bare_norm
from wmcomponents.nn.diffusion.embeddings import NumberEmbedding
from wmcomponents.nn.diffusion.output import dit_init_
from wmcomponents.nn.diffusion.text_blocks import TableBlock

OPEN_SORA_1B = DiTSize(1152, 28, 16)
"""How large Open-Sora 1.2's network is: 28 pairs of blocks."""


class STDiT3(Component):
    """From a noisy film, its level, a text, a frame rate and a size to what a diffusion process asks for.

    Frames and sizes are free. Frames that are known keep level 0, whatever that of the others is. The published
    weights were trained with levels 0 to 1000 and the velocity from noise to data; of the output the first half of
    the channels is used.

    The published network knows no actions. Where a film has some, each frame's is added to what sets the norms and
    gates of that frame, by a map that begins at zero: with published weights the network is the published one at first.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, T, C, H, W] | float | read |
        | "level" | [*B] | float, as it is | read |
        | "text" | [*B, M, E] | float, by any encoder | read |
        | "fps" | [*B] | float, frames a second | read |
        | "size" | [*B, 2] | float, height and width of the film in pixels | read |
        | "text_mask" | [*B, M] | bool, which of the text's tokens mean anything | read, may be absent: all |
        | "known" | [*B, T] | bool, frames that are given | read, may be absent: none |
        | "action" | [*B, T, A] | float, what leads to each frame; 0 is none | read, may be absent: none |
        | "present" | [*B, T] | bool, frames that there are; nobody looks at others | read, may be absent: all |
        | "network_output" | [*B, T, C_out, H, W] | float | written |

    Args:
        channels: C.
        text: E, size of the text's tokens.
        size: how large; the depth counts pairs of blocks.
        patch: (time, height, width) of a patch; films are padded with zeros at the far ends to fill it.
        out_channels: C_out; twice C if not given.
        mlp_ratio: the feed-forwards' width over the token's.
        text_length: tokens of the learned text that stands for none.
        square: side of the square, in pixels, to whose scale positions are brought.
        action: A; 0 for a network without actions.
        in_keys: in the order of the table.
        out_keys: the output.

    Raises:
        ValueError: if heads do not divide the size, or patches of several frames are to have an action or to be told
            which of them there are. On call, for films of other channels, or conditions that do not go with them.

    Reference: Zheng et al., Open-Sora: Democratizing Efficient Video Production for All (2024), and its code, 1.2.

    Example:
        >>> net = STDiT3(4, text=6, size=DiTSize(16, depth=1, heads=2))
        >>> told = torch.zeros(2, 3, 6), torch.full((2,), 24.0), torch.full((2, 2), 64.0)
        >>> net(torch.zeros(2, 3, 4, 5, 6), torch.full((2,), 100.0), *told).shape
        torch.Size([2, 3, 8, 5, 6])
    """

    def __init__(
        self,
        channels: int = 4,
        text: int = 4096,
        size: DiTSize = OPEN_SORA_1B,
        *,
        patch: Sequence[int] = (1, 2, 2),
        out_channels: int | None = None,
        mlp_ratio: float = 4.0,
        text_length: int = 300,
        square: float = 512.0,
        action: int = 0,
        in_keys: Sequence[NestedKey] = (
            *("noisy", "level", "text", "fps", "size"),
            *("text_mask", "known", "action", "present"),
        ),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[5:])
        if action and patch[0] > 1:
            raise ValueError(
                f"an action leads to one frame, and a patch spans {patch[0]}: take patches of one frame, or no actions."
            )
        dim, hidden = size.dim, int(size.dim * mlp_ratio)
        self.channels, self.patch, self.square = channels, tuple(patch), square
        self.patches = nn.Conv3d(channels, dim, self.patch, self.patch)  # pyright: ignore[reportArgumentType]
        self.level, self.fps = NumberEmbedding(dim), NumberEmbedding(dim)
        self.shared = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.text = TanhTextMap(text, dim)
        self.register_buffer("no_text", torch.randn(text_length, text) / text**0.5)
        rope = InterleavedRoPE(dim // size.heads)
        self.space = nn.ModuleList(TableBlock(dim, size.heads, hidden) for _ in range(size.depth))
        self.time = nn.ModuleList(TableBlock(dim, size.heads, hidden, rope) for _ in range(size.depth))
        self.norm, self.table = bare_norm(dim), nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.out = nn.Linear(dim, math.prod(self.patch) * (2 * channels if out_channels is None else out_channels))
        dit_init_(self)
        self.action = unsaid_actions(action, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(nn.Linear, self.fps.mlp[2]).weight)
        for block in self.time:
            nn.init.zeros_(cast(TableBlock, block).attention.proj.weight)

    no_text: Tensor
    """The text that stands for none, ``[M, E]``: what guidance leaves out, and training now and then."""

    def compute(
        self,
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch"] | Int[Tensor, "*batch"],
        text: Float[Tensor, "*batch m e"],
        fps: Float[Tensor, "*batch"],
        size: Float[Tensor, "*batch 2"],
        text_mask: Bool[Tensor, "*batch m"] | None = None,
        known: Bool[Tensor, "*batch t"] | None = None,
        action: Float[Tensor, "*batch t a"] | None = None,
        present: Bool[Tensor, "*batch t"] | None = None,
    ) -> Float[Tensor, "*batch t c_out h w"]:
        """See the table of keys."""
        if noisy.ndim < 4 or noisy.shape[-3] != self.channels or 0 in noisy.shape[-4:]:
            raise ValueError(f"expected films [..., T, {self.channels}, H, W]; got {[*noisy.shape]}.")
        lead, frames = noisy.shape[:-4], noisy.shape[-4]
        x, level, text, fps, size, text_mask, known, action, present = one_batch(
            lead,
            **{"noisy": noisy, "level": level, "text": text, "fps": fps, "size": size, "text_mask": text_mask},
            **{"known": known, "action": action, "present": present},
        )
        tokens, grid = self._tokens(x, size)
        further = self.fps(fps).unsqueeze(1)
        if action is not None:
            further = further + said_by_actions(self.action, action, frames)
        condition = self.level(level).unsqueeze(1) + further
        of_known = self.level(torch.zeros_like(level)).unsqueeze(1) + further
        given = None if known is None else self._frames_of(known, frames)
        shared = self._chosen(given, self.shared(condition), self.shared(of_known)).unflatten(-1, (6, -1))
        text, shown = self.text(text), None if text_mask is None else text_mask.bool()[:, None, None]
        seen = None if present is None else self._frames_of(present, frames)[:, None, None, None]
        for space, time in zip(self.space, self.time, strict=True):
            tokens = space(tokens, shared, text, shown, along_time=False)
            tokens = time(tokens, shared, text, shown, along_time=True, seen=seen)
        y = self._last(tokens, condition, of_known, given)
        (rows, columns), (p, q, r) = grid, self.patch
        film = rearrange(y, "b t (h w) (p q r c) -> b (t p) c (h q) (w r)", h=rows, w=columns, p=p, q=q, r=r)
        film = film[:, :frames, :, : noisy.shape[-2], : noisy.shape[-1]]
        return film.reshape(*lead, *film.shape[1:])

    def positions(self, grid: tuple[int, int], size: Float[Tensor, "b 2"]) -> Float[Tensor, "b n d"]:
        """Fixed sines and cosines of the places of a grid, at the scale of a film's own pixels, the column first.

        Args:
            grid: rows and columns of patches.
            size: height and width of the film in pixels.
        """
        scale, base = size.prod(-1).sqrt() / self.square, round(math.sqrt(grid[0] * grid[1]))
        dim = self.table.shape[-1]
        rate = 10_000.0 ** (-torch.arange(0, dim // 2, 2, device=size.device, dtype=torch.float32) / (dim // 2))

        def waves(side: int) -> Tensor:
            at = torch.arange(side, device=size.device, dtype=torch.float32) / scale.unsqueeze(-1) * (base / side)
            angle = at.unsqueeze(-1) * rate
            return torch.cat([angle.sin(), angle.cos()], -1)  # (B, side, D / 2)

        of_row, of_column = waves(grid[0]), waves(grid[1])
        rows = of_row.repeat_interleave(grid[1], 1)
        return torch.cat([of_column.repeat(1, grid[0], 1), rows], -1)

    def _tokens(self, x: Tensor, size: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches with their positions, ``[B, T, N, D]``, and rows and columns of them."""
        p, q, r = self.patch
        padded = nn.functional.pad(x.transpose(1, 2), (0, -x.shape[-1] % r, 0, -x.shape[-2] % q, 0, -x.shape[1] % p))
        y = self.patches(padded)
        grid = (y.shape[-2], y.shape[-1])
        tokens = y.flatten(3).permute(0, 2, 3, 1)
        return tokens + self.positions(grid, size).unsqueeze(1).to(tokens.dtype), grid

    def _frames_of(self, known: Tensor, frames: int) -> Tensor:
        """Which groups of frames that a patch spans are known as a whole."""
        padded = nn.functional.pad(known.bool(), (0, -frames % self.patch[0]), value=True)
        return padded.unflatten(-1, (-1, self.patch[0])).all(-1)

    @staticmethod
    def _chosen(known: Tensor | None, other: Tensor, of_known: Tensor) -> Tensor:
        """One vector for all frames ``[B, 1, D]``, or one for each ``[B, T, D]``."""
        return other if known is None else torch.where(known.unsqueeze(-1), of_known, other)

    def _last(self, x: Tensor, condition: Tensor, of_known: Tensor, known: Tensor | None) -> Tensor:
        def under(y: Tensor, told: Tensor) -> Tensor:
            shift, scale = (told.unsqueeze(-2) + self.table).unsqueeze(2).unbind(-2)  # (B, T or 1, 1, D) each
            return self.norm(y) * (1 + scale) + shift

        y = under(x, condition)
        if known is not None:  # the published weights were trained with known frames passing the norm twice
            y = torch.where(known[..., None, None], under(y, of_known), y)
        return self.out(y)


class TanhTextMap(TanhFeedForward):
    """The text's tokens at the width of the film's.

    Args:
        text: size of the text's tokens.
        dim: size of the film's.
    """

    def __init__(self, text: int, dim: int) -> None:
        super().__init__(text, dim)
        self[2] = nn.Linear(dim, dim)
