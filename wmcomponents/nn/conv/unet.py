"""The U-Net of diffusion models: residual blocks under adaptive group normalisation, self-attention, skips.

Tensors are ``[n, c, h, w]``; weights and activations may lie channels last in memory, which is what convolutions on a
CPU like best.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.layers.activation import silu

CHANNELS_PER_GROUP = 32
CHANNELS_PER_HEAD = 8
EPS = 1e-5


def groups_of(channels: int) -> int:
    """Groups of a group normalisation: of 32 channels, or all in one."""
    return max(1, channels // CHANNELS_PER_GROUP)


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation whose scale and shift are linear in a condition: ``norm(x) (1 + scale) + shift``.

    Args:
        channels: of x.
        cond: size of the condition.
    """

    def __init__(self, channels: int, cond: int) -> None:
        super().__init__()
        self.groups = groups_of(channels)
        self.linear = nn.Linear(cond, 2 * channels)

    def forward(self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"]) -> Float[Tensor, "n c h w"]:
        """Normalise."""
        scale, shift = self.linear(cond)[:, :, None, None].chunk(2, 1)
        y = F.group_norm(x, self.groups, eps=EPS)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return torch.addcmul(shift, y, 1.0 + scale)
        return torch.addcmul(shift, y, 1.0 + scale, out=y)  # no second tensor of this size


class SelfAttention2d(nn.Module):
    """Self-attention over the pixels, heads of 8 channels; added to the NORMALISED input, not to the input (DIAMOND).

    It begins as the normalisation alone: the output projection's weight is zero.

    Args:
        channels: of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // CHANNELS_PER_HEAD)
        if channels % self.heads:
            raise ValueError(f"attention needs channels that its {self.heads} heads divide; got {channels}.")
        self.norm = nn.GroupNorm(groups_of(channels), channels, eps=EPS)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Attend."""
        n, c, h, w = x.shape
        x = self.norm(x)
        # Along the channels: all heads' q, then all k, then all v.
        tokens = self.qkv(x).flatten(2).unflatten(1, (3, self.heads, c // self.heads)).transpose(-2, -1)
        q, k, v = tokens.unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)  # (n, heads, pixels, head)
        y = y.permute(0, 2, 1, 3).reshape(n, h, w, c).permute(0, 3, 1, 2)  # channels last
        return x + self.out(y)


class AdaptiveResidualBlock(nn.Module):
    """``x + conv(silu(norm(conv(silu(norm(x))))))`` under a condition, then perhaps self-attention.

    It begins as the identity (or the projection): the second convolution's weight is zero.

    Args:
        in_channels: of the input.
        out_channels: of the output; where they differ, a 1x1 convolution takes x along.
        cond: size of the condition.
        attends: whether self-attention follows.
    """

    def __init__(self, in_channels: int, out_channels: int, cond: int, attends: bool = False) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.norm1 = AdaptiveGroupNorm(in_channels, cond)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = AdaptiveGroupNorm(out_channels, cond)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.attention = SelfAttention2d(out_channels) if attends else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"]) -> Float[Tensor, "n c2 h w"]:
        """Apply the block."""
        y = self.conv1(silu(self.norm1(x, cond)))
        y = self.conv2(silu(self.norm2(y, cond)))
        y += self.project(x)
        return self.attention(y)


class AdaptiveResidualBlocks(nn.ModuleList):
    """Blocks in a row.

    Args:
        in_channels: channels that each block reads.
        out_channels: channels that each block writes.
        cond: size of the condition.
        attends: whether they attend.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int], cond: int, attends: bool) -> None:
        pairs = zip(in_channels, out_channels, strict=True)
        super().__init__(AdaptiveResidualBlock(i, o, cond, attends) for i, o in pairs)

    def forward(self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"]) -> list[Tensor]:
        """The output of each block, ``[n, c, h, w]``."""
        outs = []
        for block in self:
            x = block(x, cond)
            outs.append(x)
        return outs

    def absorb(
        self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"], skips: Sequence[Tensor]
    ) -> Float[Tensor, "n c2 h w"]:
        """The last output, where each block reads the one before and, along the channels, a skip ``[n, c, h, w]``."""
        for block, skip in zip(self, skips, strict=True):
            x = block(torch.cat([x, skip], 1), cond)
        return x


class StridedDownsample(nn.Conv2d):
    """Half of each side, rounded up, by a 3x3 convolution of stride 2 that begins orthogonal.

    Args:
        channels: kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)
        nn.init.orthogonal_(self.weight)


class NearestUpsample(nn.Module):
    """Each side doubled by repetition, then a 3x3 convolution.

    Args:
        channels: kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Double the sides."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """Down through the levels, through two attending blocks, and up again over the skips; sides and channels are kept.

    A level of n blocks leaves n + 1 skips: its input after the downsampling, and each block's output; n + 1 blocks take
    them up on the way back, in reverse. Sides that ``2^(levels - 1)`` does not divide are padded with zeros at the
    bottom and on the right, and cut again.

    Args:
        cond: size of the condition.
        depths: blocks of each level on the way down.
        channels: of each level; the first are those of input and output.
        attends: whether a level's blocks attend.

    Raises:
        ValueError: if there is not one entry for each level.

    Example:
        >>> import torch
        >>> UNet(cond=4, depths=(1, 1), channels=(8, 16), attends=(False, False))(
        ...     torch.zeros(2, 8, 13, 10), torch.zeros(2, 4)
        ... ).shape
        torch.Size([2, 8, 13, 10])
    """

    def __init__(self, cond: int, depths: Sequence[int], channels: Sequence[int], attends: Sequence[bool]) -> None:
        super().__init__()
        if not len(depths) == len(channels) == len(attends) > 0:
            raise ValueError(
                f"depths, channels and attends have one entry for each level; got {depths}, {channels}, {attends}."
            )
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        before = (channels[0], *channels[:-1])
        for depth, outer, inner, attend in zip(depths, before, channels, attends, strict=True):
            self.down_blocks.append(
                AdaptiveResidualBlocks([outer, *[inner] * (depth - 1)], [inner] * depth, cond, attend)
            )
            up_in, up_out = [2 * inner] * depth + [outer + inner], [inner] * depth + [outer]
            self.up_blocks.insert(0, AdaptiveResidualBlocks(up_in, up_out, cond, attend))  # the deepest first
        deepest = [channels[-1]] * 2
        self.mid_blocks = AdaptiveResidualBlocks(deepest, deepest, cond, True)
        self.downsamples = nn.ModuleList([nn.Identity(), *(StridedDownsample(c) for c in channels[:-1])])
        self.upsamples = nn.ModuleList([nn.Identity(), *(NearestUpsample(c) for c in reversed(channels[:-1]))])
        self.factor = 2 ** (len(depths) - 1)

    def forward(self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"]) -> Float[Tensor, "n c h w"]:
        """Apply the network."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.factor, 0, -height % self.factor))
        skips: list[list[Tensor]] = []
        for downsample, blocks in zip(self.downsamples, self.down_blocks, strict=True):
            x = downsample(x)
            level = [x, *blocks(x, cond)]
            skips.append(level)
            x = level[-1]
        x = self.mid_blocks(x, cond)[-1]
        for upsample, blocks in zip(self.upsamples, self.up_blocks, strict=True):
            x = blocks.absorb(upsample(x), cond, skips.pop()[::-1])  # pyright: ignore[reportCallIssue]
        return x[..., :height, :width]
