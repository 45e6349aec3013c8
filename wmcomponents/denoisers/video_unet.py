"""A U-Net over films: convolutions of single frames, attention along time, past frames along the channels."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.rows import one_batch
from wmcomponents.nn.conv.video_blocks import (
    FilmResidualBlock,
    LinearPixelAttention,
    PixelSelfAttention,
    RelativeTimeBias,
    TimePixelAttention,
)


class LevelWaves(nn.Module):
    r"""Sines, then cosines, of a level at frequencies from 1 to 1 / 10000, both ends included.

    Args:
        dim: size of the vectors, even and at least 4.

    Raises:
        ValueError: for another size.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"sines and cosines of two frequencies at least are an even number from 4 on; got {dim}.")
        self.waves = dim // 2

    def forward(self, level: Tensor) -> Tensor:
        """Vectors of levels, ``[*B, dim]``."""
        rate = 10_000.0 ** (-torch.arange(self.waves, device=level.device, dtype=torch.float32) / (self.waves - 1))
        angle = level.float().unsqueeze(-1) * rate
        return torch.cat([angle.sin(), angle.cos()], -1)


class UNetLevel(nn.Module):
    """What a film goes through at one resolution: two residual blocks, attention within frames, attention along time.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        condition: numbers of the condition of a frame.
        heads: of each attention.
        head_dim: size of a head along time.
    """

    def __init__(self, channels_in: int, channels_out: int, condition: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.block1 = FilmResidualBlock(channels_in, channels_out, condition)
        self.block2 = FilmResidualBlock(channels_out, channels_out, condition)
        self.space = LinearPixelAttention(channels_out, heads)
        self.time = TimePixelAttention(channels_out, heads, head_dim)

    def forward(self, x: Tensor, condition: Tensor, bias: Tensor) -> Tensor:
        """Frames ``[N, C, H, W]``, their conditions, and what is added to the logits along time."""
        x = self.block2(self.block1(x, condition), condition)
        return self.time(self.space(x), bias)


class VideoUNet(Component):
    """From a noisy film, a noise level and an action for each frame, and past frames to what a process asks for.

    Past frames stand beside every frame along the channels. Frames see each other along time, those to come too.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, T, C_in, H, W] | float | read |
        | "level" | [*B, T] | int or float, as it is | read |
        | "context" | [*B, M, C, H, W] | float, oldest first | read, where there is any |
        | "action" | [*B, T, A] | float, what leads TO each frame, such as a one | read, may be absent: a learned none |
        | "network_output" | [*B, T, C_out, H, W] | float | written |

    Args:
        channels: C.
        action: A, numbers of an action.
        context: M, past frames; 0 for none.
        width: channels of the first level.
        mults: of ``width``, one for each level; each but the last halves height and width.
        heads: of each attention.
        head_dim: size of a head along time.
        in_channels: C_in; C if not given.
        out_channels: C_out; C if not given.
        in_keys: film, level, past frames where there are any, actions.
        out_keys: the output.

    Raises:
        ValueError: on call, for films or past frames of another shape, sides that do not halve, or actions of another
            size.

    Reference: Ho et al., Video Diffusion Models (2022), in the form of its open code; Rigter et al., AVID (2024).

    Example:
        >>> net = VideoUNet(3, 5, context=2, width=8, mults=(1, 2), heads=2, head_dim=8)
        >>> film, level, past = torch.zeros(1, 3, 3, 8, 8), torch.zeros(1, 3), torch.zeros(1, 2, 3, 8, 8)
        >>> net(film, level, past, torch.zeros(1, 3, 5)).shape
        torch.Size([1, 3, 3, 8, 8])
    """

    def __init__(
        self,
        channels: int = 3,
        action: int = 15,
        *,
        context: int = 2,
        width: int = 100,
        mults: Sequence[int] = (1, 2, 4, 8),
        heads: int = 8,
        head_dim: int = 32,
        in_channels: int | None = None,
        out_channels: int | None = None,
        in_keys: Sequence[NestedKey] = ("noisy", "level", "context", "action"),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        keys = list(in_keys) if context else [*in_keys[:2], *in_keys[3:]]
        super().__init__(keys, out_keys, optional_keys=keys[-1:])
        self.channels, self.context, self.actions = channels, context, action
        self.in_channels = channels if in_channels is None else in_channels
        self.out_channels = channels if out_channels is None else out_channels
        self.factor = 2 ** (len(mults) - 1)
        self.bias = RelativeTimeBias(heads)
        self.conv_in = nn.Conv2d(self.in_channels + context * channels, width, 7, padding=3)
        self.time_in = TimePixelAttention(width, heads, head_dim)
        hidden = 4 * width
        self.level = _mapped(width, hidden, LevelWaves(width))
        self.action_table, self.no_action = nn.Parameter(torch.randn(action, width)), nn.Parameter(torch.randn(width))
        self.action = _mapped(width, hidden)
        widths = [width, *(width * mult for mult in mults)]
        pairs, shape = list(zip(widths, widths[1:], strict=False)), (2 * hidden, heads, head_dim)
        self.downs = nn.ModuleList(UNetLevel(before, after, *shape) for before, after in pairs)
        self.halvings = nn.ModuleList(nn.Conv2d(one, one, 4, 2, 1) for one in widths[1:-1])
        self.mid1, self.mid2 = (FilmResidualBlock(widths[-1], widths[-1], 2 * hidden) for _ in range(2))
        self.mid_space = PixelSelfAttention(widths[-1], heads)
        self.mid_time = TimePixelAttention(widths[-1], heads, head_dim)
        self.ups = nn.ModuleList(UNetLevel(2 * after, before, *shape) for before, after in reversed(pairs))
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(one, one, 4, 2, 1) for one in reversed(widths[1:-1]))
        self.block_out = FilmResidualBlock(2 * width, width)
        self.conv_out = nn.Conv2d(width, self.out_channels, 1)

    def compute(self, noisy: Tensor, level: Tensor, *others: Tensor | None) -> Tensor:
        """See the table of keys."""
        return self.output(noisy, level, others[0] if self.context else None, others[-1])

    def output(
        self,
        noisy: Float[Tensor, "*batch t c_in h w"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        context: Float[Tensor, "*batch m c h w"] | None = None,
        action: Float[Tensor, "*batch t a"] | None = None,
    ) -> Float[Tensor, "*batch t c_out h w"]:
        """The same with past frames, or none, in their place.

        Args:
            noisy: the film.
            level: of each frame.
            context: past frames.
            action: what leads to each frame.
        """
        self._check(noisy, context, action)
        lead, frames, rows = noisy.shape[:-4], noisy.shape[-4], noisy.shape[:-3]
        parts = one_batch(lead, noisy=noisy, context=context)
        (level, action) = one_batch(rows, level=level, action=action)
        x = parts[0].flatten(0, 1)
        if context is not None:
            x = torch.cat([parts[1].transpose(1, 2).flatten(1, 2).repeat_interleave(frames, 0), x], 1)
        told = self.no_action.expand(len(x), -1) if action is None else action @ self.action_table
        waves = self.level(level)
        condition = torch.cat([waves, self.action(told)], -1)
        y = self._through(x, condition, self.bias(frames))
        return y.reshape(*rows, *y.shape[1:])

    def _through(self, x: Tensor, condition: Tensor, bias: Tensor) -> Tensor:
        x = self.time_in(self.conv_in(x), bias)
        first, skips = x, []
        for number, level in enumerate(self.downs):
            x = level(self.halvings[number - 1](x) if number else x, condition, bias)
            skips.append(x)
        x = self.mid_time(self.mid_space(self.mid1(x, condition)), bias)
        x = self.mid2(x, condition)
        for number, level in enumerate(self.ups):
            x = level(torch.cat([self.doublings[number - 1](x) if number else x, skips.pop()], 1), condition, bias)
        return self.conv_out(self.block_out(torch.cat([x, first], 1)))

    def _check(self, noisy: Tensor, context: Tensor | None, action: Tensor | None) -> None:
        """Refuse what does not fit together.

        Raises:
            ValueError: if something does not.
        """
        if noisy.ndim < 4 or noisy.shape[-3] != self.in_channels:
            raise ValueError(f"expected films [..., T, {self.in_channels}, H, W]; got {[*noisy.shape]}.")
        if any(side % self.factor for side in noisy.shape[-2:]):
            raise ValueError(
                f"the sides of a frame halve {self.factor.bit_length() - 1} times; got {[*noisy.shape[-2:]]}: resize "
                f"to a multiple of {self.factor}, or build with fewer levels."
            )
        expected = (*noisy.shape[:-4], self.context, self.channels, *noisy.shape[-2:])
        if (context is None) != (self.context == 0) or (context is not None and context.shape != expected):
            got = "none" if context is None else f"{[*context.shape]}"
            raise ValueError(f"{self.context} past frames are expected, {[*expected]}; got {got}.")
        if action is not None and action.shape != (*noisy.shape[:-3], self.actions):
            raise ValueError(f"each frame has an action of {self.actions} numbers; got {[*action.shape]}.")


def _mapped(dim: int, hidden: int, before: nn.Module | None = None) -> nn.Sequential:
    """``Linear``, GELU, ``Linear``, with something before them perhaps."""
    layers = [nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden)]
    return cast(nn.Sequential, nn.Sequential(*([] if before is None else [before]), *layers))
