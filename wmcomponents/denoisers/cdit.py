"""CDiT: a transformer over the patches of one noisy frame that looks at the frames before it."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.dit import SIZES, DiTSize
from wmcomponents.denoisers.rows import check_latent, one_batch
from wmcomponents.functional.patches import patch_grid, unpatchify
from wmcomponents.nn.diffusion.blocks import ContextBlock
from wmcomponents.nn.diffusion.embeddings import DisplacementEmbedding, NumberEmbedding
from wmcomponents.nn.diffusion.output import AdaptiveOutput, dit_init_
from wmcomponents.nn.vit.layouts import column_first_positions
from wmcomponents.nn.vit.patch_embedding import PatchEmbedding

PositionsName = Literal["normal", "sine"]
"""Names, in configs, of where learned positions begin."""


class CDiT(Component):
    """From a noisy frame, past frames, a displacement and a jump in time to what a diffusion process asks for.

    Patches of past frames are looked at by every block and changed by none, so that a longer past costs linearly more.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, C, H, W] | float, the frame that is asked for | read |
        | "level" | [*B] | int or float, as it is | read |
        | "context" | [*B, M, C, H, W] | float, oldest first | read |
        | "action" | [*B, A] | float, from the last past frame to the one that is asked for | read |
        | "time" | [*B] | float, frames from the one to the other, over 128; may be negative | read |
        | "network_output" | [*B, C_out, H, W] | float | written |

    Args:
        shape: (C, H, W) of a frame's latent.
        size: how large.
        context: M, past frames.
        patch: side of a patch.
        out_channels: C_out; twice C if not given, for noise and variance.
        mlp_ratio: the feed-forward's width over the token's.
        action: makes what turns actions into vectors from their size; :class:`wmcomponents.nn.DisplacementEmbedding`,
            for A = 3, if not given.
        positions: where the learned positions of patches begin: ``"normal"``, drawn with a standard deviation of 0.02
            as published, or ``"sine"``, DiT's sines and cosines of row and column, the same for every frame.
        in_keys: latent, level, context, action, time.
        out_keys: the output.

    Raises:
        ValueError: if patches do not fill the latent, heads do not divide the size, ``positions`` is unknown, or the
            size is no multiple of 4 for sines. On call, for latents of another shape, or another number of past frames.

    Reference: Bar et al., Navigation World Models (2024), section 3.2.

    Example:
        >>> net = CDiT((4, 8, 8), DiTSize(16, depth=1, heads=2), context=2)
        >>> frame, past = torch.zeros(5, 4, 8, 8), torch.zeros(5, 2, 4, 8, 8)
        >>> net(frame, torch.zeros(5), past, torch.zeros(5, 3), torch.full((5,), 1 / 128)).shape
        torch.Size([5, 8, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int] = (4, 28, 28),
        size: DiTSize = SIZES["XL"],
        *,
        context: int = 4,
        patch: int = 2,
        out_channels: int | None = None,
        mlp_ratio: float = 4.0,
        action: Callable[[int], nn.Module] = DisplacementEmbedding,
        positions: PositionsName = "normal",
        in_keys: Sequence[NestedKey] = ("noisy", "level", "context", "action", "time"),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if positions not in get_args(PositionsName):
            raise ValueError(f"positions begin as 'normal' or 'sine'; got {positions!r}.")
        channels, *sides = self.shape = tuple(shape)
        dim, self.patch, self.frames = size.dim, patch, context
        self.grid = patch_grid(sides, (patch, patch))
        self.patches = PatchEmbedding(channels, dim, (patch, patch))
        self.positions = nn.Parameter(torch.empty(context + 1, self.grid[0] * self.grid[1], dim))
        self.level, self.time, self.action = NumberEmbedding(dim), NumberEmbedding(dim), action(dim)
        self.blocks = nn.ModuleList(ContextBlock(dim, size.heads, int(dim * mlp_ratio)) for _ in range(size.depth))
        self.out = AdaptiveOutput(dim, patch**2 * (2 * channels if out_channels is None else out_channels))
        dit_init_(self)
        if positions == "sine":
            self.positions.data.copy_(column_first_positions(self.grid, dim))
        else:
            nn.init.normal_(self.positions, std=0.02)

    def compute(
        self,
        noisy: Float[Tensor, "*batch c h w"],
        level: Float[Tensor, "*batch"] | Int[Tensor, "*batch"],
        context: Float[Tensor, "*batch m c h w"],
        action: Float[Tensor, "*batch a"],
        time: Float[Tensor, "*batch"],
    ) -> Float[Tensor, "*batch c_out h w"]:
        """See the table of keys."""
        check_latent(noisy, 3, self.shape)
        check_latent(context, 4, self.shape)
        lead = noisy.shape[:-3]
        if context.shape[-4] != self.frames:
            raise ValueError(
                f"this network looks at {self.frames} past frames; got {context.shape[-4]}: repeat the first frame "
                f"where there are fewer, cut where there are more."
            )
        x, level, context, action, time = one_batch(
            lead, noisy=noisy, level=level, context=context, action=action, time=time
        )
        condition = (self.level(level) + self.time(time) + self.action(action)).unsqueeze(-2)
        past = self.patches(context.flatten(0, 1)).unflatten(0, context.shape[:2]) + self.positions[:-1]
        past, x = past.flatten(1, 2), self.patches(x) + self.positions[-1]
        for block in self.blocks:
            x = block(x, condition, past)
        out = unpatchify(self.out(x, condition), self.patch, self.grid)
        return out.reshape(*lead, *out.shape[1:])
