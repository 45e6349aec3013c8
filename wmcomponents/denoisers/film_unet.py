"""A U-Net over films: each frame has its own noise level and action."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.rows import check_latent, one_batch
from wmcomponents.nn.diffusion.embeddings import ActionEmbedding, SineEmbedding
from wmcomponents.nn.diffusion.film_unet import (
    ConditionedBlock,
    FilmStage,
    FilmView,
    FrameAttention2d,
    RelativeFrameBias,
    TimeAttention,
    doubling,
    halving,
    level_channels,
)
from wmcomponents.nn.layers.activation import silu
from wmcomponents.nn.space_time.branches import PastFrames


class FilmUNet(Component):
    """From noisy frames, a noise level and an action for each to what a diffusion process asks for, frame by frame.

    Convolutions stay within a frame; frames see each other in attention along time alone, at each level of the U-Net.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, T, C, H, W] | float, oldest first | read |
        | "level" | [*B, T] | int or float, as it is | read |
        | "action" | [*B, T, A] | float, what leads TO each frame | read, may be absent: a vector stands for it |
        | "network_output" | [*B, T, C_out, H, W] | float | written |

    Args:
        shape: (C, H, W) of a frame.
        action: A, numbers of an action; 0 for a network that is told none.
        dim: channels of the first convolution.
        multiples: channels of each level, times ``dim``; each but the first has sides half as long.
        heads: of the attentions.
        head_dim: of the attentions along time.
        frames: most frames.
        is_causal: whether no frame sees a later one.
        relative: whether distances in time have learned biases, too.
        block: frames of a block, which see each other where no frame sees a later block; 1 for no blocks.
        out_channels: C_out; C if not given.
        in_keys: frames, levels, and actions where there are any.
        out_keys: the output.

    Raises:
        ValueError: if the network has no level, or a block no frame. On call, for frames of another shape, more than
            there may be, or actions of another size.

    Reference: Ho et al., Video Diffusion Models (2022), section 3; with causal attention along time as in Diffusion
    Forcing (2024).

    Example:
        >>> net = FilmUNet((3, 8, 8), 5, dim=8, multiples=(1, 2), heads=2, head_dim=8, frames=4)
        >>> net(torch.zeros(2, 4, 3, 8, 8), torch.full((2, 4), 14), torch.zeros(2, 4, 5)).shape
        torch.Size([2, 4, 3, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        action: int,
        dim: int = 64,
        multiples: Sequence[int] = (1, 2, 4, 8),
        heads: int = 4,
        head_dim: int = 64,
        *,
        frames: int = 16,
        is_causal: bool = True,
        relative: bool = False,
        block: int = 1,
        out_channels: int | None = None,
        in_keys: Sequence[NestedKey] = ("noisy", "level", "action"),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        kept = in_keys if action else in_keys[:2]
        super().__init__(kept, out_keys, optional_keys=kept[2:])
        if not multiples:
            raise ValueError("a U-Net has at least one level; got no multiples.")
        if block < 1:
            raise ValueError(f"a block has at least one frame; got {block}.")
        self.shape, self.frames, self.actions, self.is_causal = tuple(shape), frames, action, is_causal
        self.block = block
        channels = self.shape[0]
        self.level = SineEmbedding(dim, 4 * dim)
        self.action = ActionEmbedding(action, dim, 4 * dim) if action else None
        cond = 8 * dim if action else 4 * dim
        self.bias = RelativeFrameBias(heads) if relative else None
        self.conv_in = nn.Conv2d(channels, dim, 7, padding=3)
        self.time_in = TimeAttention(dim, heads, head_dim)
        sizes = level_channels(dim, multiples)
        self.downs = nn.ModuleList(FilmStage(i, o, cond, heads, head_dim) for i, o in sizes)
        self.halvings = nn.ModuleList([*(halving(o) for _, o in sizes[:-1]), nn.Identity()])
        deepest = sizes[-1][1]
        self.mid1 = ConditionedBlock(deepest, deepest, cond)
        self.mid_space = FrameAttention2d(deepest, heads)
        self.mid_time = TimeAttention(deepest, heads, head_dim)
        self.mid2 = ConditionedBlock(deepest, deepest, cond)
        back = sizes[::-1]
        self.ups = nn.ModuleList(FilmStage(2 * o, i, cond, heads, head_dim) for i, o in back)
        self.doublings = nn.ModuleList([*(doubling(i) for i, _ in back[:-1]), nn.Identity()])
        self.block_out = ConditionedBlock(2 * dim, dim, 0)
        self.conv_out = nn.Conv2d(dim, channels if out_channels is None else out_channels, 1)
        self.factor = 2 ** (len(multiples) - 1)

    def compute(
        self,
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        action: Float[Tensor, "*batch t a"] | None = None,
    ) -> Float[Tensor, "*batch t c_out h w"]:
        """See the table of keys."""
        x, cond = self._told(noisy, level, action, self.frames)
        y, _ = self._along(x, cond, FilmView.whole(noisy.shape[-4], self.is_causal, self.bias, x, self.block), None)
        return y.reshape(*noisy.shape[:-3], *y.shape[1:])

    def remember(
        self,
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        action: Float[Tensor, "*batch t a"] | None = None,
        count: Int[Tensor, "b 1"] | None = None,
    ) -> list[PastFrames]:
        """What :meth:`follow` needs of the frames of the past, for each attention along time.

        Args:
            noisy: the frames, as they stay while others are denoised behind them; rows may have fewer that mean
                anything, which stand first.
            level: of each frame.
            action: of each frame.
            count: how many frames of each row mean anything; needed where frames see others of their block.

        Raises:
            ValueError: if frames see later ones.
        """
        self._check_causal()
        x, cond = self._told(noisy, level, action, self.frames)
        count = count if self.block > 1 else None  # of single frames, none sees what stands behind it
        view = FilmView.whole(noisy.shape[-4], True, self.bias, x, self.block, count)
        return self._along(x, cond, view, None)[1]

    def follow(
        self,
        noisy: Float[Tensor, "*batch k c h w"],
        level: Float[Tensor, "*batch k"] | Int[Tensor, "*batch k"],
        action: Float[Tensor, "*batch k a"] | None,
        past: Sequence[PastFrames],
        start: Int[Tensor, "b 1"],
    ) -> tuple[Float[Tensor, "*batch k c_out h w"], list[PastFrames]]:
        """The output for frames behind remembered ones, as :meth:`compute` would give it for the whole film.

        Args:
            noisy: the new frames.
            level: of each.
            action: of each.
            past: as :meth:`remember` gave it, of as many frames as the rows have at most.
            start: how many of these frames are each row's own, which is also where its first new frame stands; where
                frames see others of their block, a block begins there.

        Returns:
            The output, and the keys and values of the new frames.

        Raises:
            ValueError: if past and new frames together are more than there may be, or frames see later ones.
        """
        self._check_causal()
        remembered, count = past[0].keys.shape[-2], noisy.shape[-4]
        x, cond = self._told(noisy, level, action, self.frames - remembered)
        view = FilmView.following(start, count, remembered, self.bias, x, self.block)
        y, kept = self._along(x, cond, view, past)
        return y.reshape(*noisy.shape[:-3], *y.shape[1:]), kept

    def _along(
        self, x: Tensor, cond: Tensor, view: FilmView, past: Sequence[PastFrames] | None
    ) -> tuple[Tensor, list[PastFrames]]:
        """The output of folded frames ``[B T, C, H, W]``, and keys and values of each attention along time."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.factor, 0, -height % self.factor))
        remembered: Iterator[PastFrames | None] = iter(past or [None] * (2 * len(self.downs) + 2))
        kept, skips = [], []

        def keep(pair: tuple[Tensor, PastFrames]) -> Tensor:
            kept.append(pair[1])
            return pair[0]

        x = first = keep(self.time_in(self.conv_in(x), view, next(remembered)))
        for stage, halve in zip(self.downs, self.halvings, strict=True):
            x = keep(stage(x, cond, view, next(remembered)))
            skips.append(x)
            x = halve(x)
        x = self.mid_space(self.mid1(x, cond))
        x = self.mid2(keep(self.mid_time(x, view, next(remembered))), cond)
        for stage, double in zip(self.ups, self.doublings, strict=True):
            x = double(keep(stage(torch.cat([x, skips.pop()], 1), cond, view, next(remembered))))
        y = self.conv_out(self.block_out(torch.cat([x, first], 1)))
        return y[..., :height, :width], kept

    def _told(self, noisy: Tensor, level: Tensor, action: Tensor | None, most: int) -> tuple[Tensor, Tensor]:
        """Folded frames ``[B T, C, H, W]``, and the condition of each, under its SiLU, ``[B T, K]``."""
        check_latent(noisy, 4, self.shape)
        frames = noisy.shape[-4]
        if not 0 < frames <= most:
            raise ValueError(
                f"from 1 to {most} frames are expected here, with those that are remembered {self.frames}; got "
                f"{frames}: cut the film, or build for longer ones."
            )
        x, level, action = one_batch(noisy.shape[:-3], noisy=noisy, level=level, action=action)
        cond = self.level(level)
        if self.action is not None:
            if action is not None and action.shape[-1] != self.actions:
                raise ValueError(
                    f"actions of {self.actions} numbers are expected for each frame; got {[*action.shape[1:]]}."
                )
            cond = torch.cat([cond, self.action(action, len(cond))], -1)
        elif action is not None:
            raise ValueError("this network is told no actions; leave them out.")
        return x, silu(cond)

    def _check_causal(self) -> None:
        if not self.is_causal:
            raise ValueError("frames that see later ones cannot be remembered; build with is_causal=True.")
