"""Blocks of U-Nets over films: convolutions within each frame, attention within a frame and along time.

Frames lie folded into the batch, ``[B T, C, H, W]``, so that convolutions are those of images.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.nn.attention.positions import InterleavedRoPE
from wmcomponents.nn.diffusion.space_time import Following, sees
from wmcomponents.nn.layers.activation import silu
from wmcomponents.nn.space_time.branches import PastFrames


class ChannelRMSNorm(nn.Module):
    """Each place's channels divided by their root mean square, times a learned scale.

    Args:
        channels: of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise."""
        size = x.square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt()  # as F.normalize, in half its time on a CPU
        return x * size * (self.weight * math.sqrt(len(self.weight)))[:, None, None]


class ChannelLayerNorm(nn.Module):
    """Each place's channels with mean 0 and variance 1, times a learned scale.

    Args:
        channels: of x.
        eps: under the root.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(channels)), eps

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise."""
        x = x - x.mean(1, keepdim=True)
        return x * (x.square().mean(1, keepdim=True) + self.eps).rsqrt() * self.weight[:, None, None]


class ConditionedBlock(nn.Module):
    """Two convolutions, each normalised and under a SiLU, added to x; a condition scales and shifts the first.

    Args:
        in_channels: of x.
        out_channels: of the result; where they differ, a 1x1 convolution takes x along.
        cond: size of the condition; 0 for none.
    """

    def __init__(self, in_channels: int, out_channels: int, cond: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm1 = ChannelRMSNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = ChannelRMSNorm(out_channels)
        self.modulation = nn.Linear(cond, 2 * out_channels) if cond else None
        self.project = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(
        self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n c2 h w"]:
        """Apply the block.

        Args:
            x: frames.
            cond: of each, a SiLU applied already.
        """
        y = self.norm1(self.conv1(x))
        if self.modulation is not None:
            assert cond is not None
            scale, shift = self.modulation(cond)[:, :, None, None].chunk(2, 1)
            y = torch.addcmul(shift, y, 1.0 + scale)
        return silu(self.norm2(self.conv2(silu(y)))) + self.project(x)


class LinearAttention2d(nn.Module):
    """Attention within a frame whose cost is linear in its places, added to x.

    Keys are a softmax over the places, queries one over the features of a head: what is read is a mean of the values.

    Args:
        channels: of x.
        heads: number of heads.
        head_dim: size of a head.

    Reference: Shen et al., Efficient Attention: Attention with Linear Complexities (2021).
    """

    def __init__(self, channels: int, heads: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm = ChannelLayerNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.out = nn.Conv2d(heads * head_dim, channels, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Attend."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, self.head_dim)).unbind(1)
        q, k = q.softmax(2) * self.head_dim**-0.5, k.softmax(3)
        context = k @ v.transpose(2, 3)  # (n, heads, features, features)
        y = context.transpose(2, 3) @ q
        return x + self.out(y.flatten(1, 2).unflatten(2, x.shape[2:]))


class FrameAttention2d(nn.Module):
    """Attention of all places of a frame to each other, added to x.

    Args:
        channels: of x.
        heads: number of heads.
        head_dim: size of a head.
    """

    def __init__(self, channels: int, heads: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm = ChannelLayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, channels, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Attend."""
        tokens = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).unflatten(2, (3, self.heads, self.head_dim))
        q, k, v = tokens.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, x.shape[2:])


class RelativeFrameBias(nn.Module):
    """A learned number for each head and distance in time, to add to the logits; far distances share one (T5).

    Args:
        heads: number of heads.
        buckets: distances told apart, half of them behind and half ahead.
        furthest: frames beyond which all are the same.

    Reference: Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (2020).
    """

    def __init__(self, heads: int, buckets: int = 32, furthest: int = 32) -> None:
        super().__init__()
        self.buckets, self.furthest = buckets, furthest
        self.table = nn.Embedding(buckets, heads)

    def forward(self, distance: Int[Tensor, "*batch q k"]) -> Float[Tensor, "*batch heads q k"]:
        """The numbers.

        Args:
            distance: frames from the one that looks to the one that is looked at, negative for the past.
        """
        half = self.buckets // 2
        exact, apart = half // 2, distance.abs()
        far = (apart.clamp(min=1).float() / exact).log() / math.log(self.furthest / exact) * (half - exact)
        bucket = torch.where(apart < exact, apart, (exact + far.long()).clamp(max=half - 1))
        return self.table(bucket + half * (distance > 0)).movedim(-1, -3)


class FilmView(NamedTuple):
    """How the frames of a film see each other; worked out once for all attentions.

    Attributes:
        frames: T, of each film that lies in the batch.
        position: number of each frame for rotary positions, ``[T]``, or ``[B, 1, T]`` for each film.
        mask: numbers to add to the logits, broadcast with ``[B, N, heads, T, P + T]``; ``None`` for none.
    """

    frames: int
    position: Tensor
    mask: Tensor | None

    @classmethod
    def whole(
        cls,
        frames: int,
        is_causal: bool,
        bias: RelativeFrameBias | None,
        like: Tensor,
        block: int = 1,
        count: Int[Tensor, "b 1"] | None = None,
    ) -> "FilmView":
        """Of a whole film.

        Args:
            frames: T.
            is_causal: whether no frame sees a later block.
            bias: by distance, if any.
            like: of the logits' dtype and device.
            block: frames of a block, which see each other.
            count: how many frames of each film mean anything, from the first; the others are not seen. All if not
                given.
        """
        place = torch.arange(frames, device=like.device)
        distance, mask = place - place[:, None], None
        if bias is not None:
            mask = bias(distance).to(like.dtype)
        if is_causal:
            seen = sees(place, block)
            if count is not None:  # each sees itself though: an empty row of logits is no distribution
                seen = (seen & (place < count).unsqueeze(1) | distance.eq(0))[:, None, None]
            ahead = torch.zeros(seen.shape, device=like.device, dtype=like.dtype).masked_fill_(~seen, float("-inf"))
            mask = ahead if mask is None else mask + ahead
        return cls(frames, place, mask)

    @classmethod
    def following(
        cls,
        start: Int[Tensor, "b 1"],
        frames: int,
        remembered: int,
        bias: RelativeFrameBias | None,
        like: Tensor,
        block: int = 1,
    ) -> "FilmView":
        """Of frames that follow on remembered ones.

        Args:
            start: how many of the remembered frames are each row's own.
            frames: how many are new.
            remembered: how many there is room for.
            bias: by distance, if any.
            like: of the logits' dtype and device.
            block: new frames of a block see each other.
        """
        seen = Following(start, frames, remembered, like.dtype, block)
        mask = seen.mask
        if bias is not None:
            past = torch.arange(remembered, device=like.device).expand(len(start), -1)
            new = start + torch.arange(frames, device=like.device)
            distance = torch.cat([past, new], 1)[:, None] - new[:, :, None]
            mask = mask + bias(distance)[:, None].to(like.dtype)
        return cls(frames, seen.position, mask)


class TimeAttention(nn.Module):
    """Attention of one place to itself in the other frames, added to x.

    Args:
        channels: of x.
        heads: number of heads.
        head_dim: size of a head, even; at most 32 features of it turn with the frame's number.
    """

    def __init__(self, channels: int, heads: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim, self.turned = heads, head_dim, min(32, head_dim)
        self.norm = ChannelLayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, channels, bias=False)
        self.rope = InterleavedRoPE(self.turned)

    def forward(
        self, x: Float[Tensor, "n c h w"], view: FilmView, past: PastFrames | None = None
    ) -> tuple[Float[Tensor, "n c h w"], PastFrames]:
        """Attend.

        Args:
            x: frames.
            view: how they see each other, and those of the past.
            past: keys and values of remembered frames, if any.

        Returns:
            The frames, and their own keys and values.
        """
        tokens = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).unflatten(2, (3, self.heads, self.head_dim))
        # (B T, N, 3, heads, d) to three of (B, N, heads, T, d), which lie together
        tokens = tokens.unflatten(0, (-1, view.frames)).permute(3, 0, 2, 4, 1, 5).contiguous()
        (q, k), v = self._turn(tokens[:2], view.position).unbind(0), tokens[2]
        keys, values = (k, v) if past is None else (torch.cat([past.keys, k], -2), torch.cat([past.values, v], -2))
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=view.mask)
        y = self.out(y.permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(2))
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:]), PastFrames(k, v)

    def _turn(self, x: Tensor, position: Tensor) -> Tensor:
        if self.turned == self.head_dim:
            return self.rope(x, position)
        return torch.cat([self.rope(x[..., : self.turned], position), x[..., self.turned :]], -1)


class FilmStage(nn.Module):
    """A level of the U-Net: two convolutional blocks, attention within the frame, attention along time.

    Args:
        in_channels: of x.
        out_channels: of the result.
        cond: size of the condition.
        heads: of the attentions.
        head_dim: of the attention along time.
    """

    def __init__(self, in_channels: int, out_channels: int, cond: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.block1 = ConditionedBlock(in_channels, out_channels, cond)
        self.block2 = ConditionedBlock(out_channels, out_channels, cond)
        self.space = LinearAttention2d(out_channels, heads)
        self.time = TimeAttention(out_channels, heads, head_dim)

    def forward(
        self, x: Float[Tensor, "n c h w"], cond: Float[Tensor, "n k"], view: FilmView, past: PastFrames | None
    ) -> tuple[Float[Tensor, "n c2 h w"], PastFrames]:
        """The frames, and their keys and values."""
        x = self.space(self.block2(self.block1(x, cond), cond))
        return self.time(x, view, past)


def halving(channels: int) -> nn.Conv2d:
    """A convolution that halves each side.

    Args:
        channels: kept.
    """
    return nn.Conv2d(channels, channels, 4, stride=2, padding=1)


def doubling(channels: int) -> nn.ConvTranspose2d:
    """A convolution that doubles each side.

    Args:
        channels: kept.
    """
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)


def level_channels(dim: int, multiples: Sequence[int]) -> list[tuple[int, int]]:
    """Channels in and out of each level on the way down.

    Args:
        dim: of the first convolution.
        multiples: of each level's result.
    """
    sizes = [dim, *(dim * m for m in multiples)]
    return list(zip(sizes[:-1], sizes[1:], strict=True))
