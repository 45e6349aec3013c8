"""Blocks of U-Nets over films: convolutions of single frames, attention within a frame, attention along time.

Frames are rows: tensors are ``[B * T, C, H, W]``.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.nn.attention.attention import MultiHeadAttention
from wmcomponents.nn.attention.positions import InterleavedRoPE
from wmcomponents.nn.conv.conv3x3 import conv3x3


class ChannelRMSNorm(nn.Module):
    """Each pixel's channels at length 1, times a learned scale and the root of their number.

    Args:
        channels: of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise."""
        return F.normalize(x, dim=1) * (self.weight * math.sqrt(len(self.weight))).view(-1, 1, 1)


class FilmResidualBlock(nn.Module):
    """Two 3x3 convolutions, a norm and SiLU behind each; a condition scales and shifts behind the first norm.

    Args:
        channels_in: of the input.
        channels_out: of the output; a 1x1 convolution carries the input over where they differ.
        condition: numbers of the condition of a frame; 0 for none.

    Reference: Perez et al., FiLM (2018); Ho et al., Video Diffusion Models (2022), in the form of its open code.
    """

    def __init__(self, channels_in: int, channels_out: int, condition: int = 0) -> None:
        super().__init__()
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * channels_out)) if condition else None
        self.conv1, self.norm1 = conv3x3(channels_in, channels_out), ChannelRMSNorm(channels_out)
        self.conv2, self.norm2 = conv3x3(channels_out, channels_out), ChannelRMSNorm(channels_out)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(
        self, x: Float[Tensor, "n c h w"], condition: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n c2 h w"]:
        """The same height and width.

        Args:
            x: frames.
            condition: of each frame.
        """
        y = self.norm1(self.conv1(x))
        if self.modulation is not None:
            scale, shift = self.modulation(condition)[..., None, None].chunk(2, 1)
            y = y * (scale + 1) + shift
        return F.silu(self.norm2(self.conv2(F.silu(y)))) + self.shortcut(x)


class LinearPixelAttention(nn.Module):
    """Attention among the pixels of a frame whose cost grows with their number, not its square; added to the input.

    Args:
        channels: of input and output.
        heads: number of heads.
        head_dim: size of a head.

    Reference: Shen et al., Efficient Attention: Attention with Linear Complexities (2021).
    """

    def __init__(self, channels: int, heads: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim**-0.5
        self.norm = nn.LayerNorm(channels, bias=False)
        self.qkv = nn.Linear(channels, 3 * heads * head_dim, bias=False)
        self.proj = nn.Linear(heads * head_dim, channels)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The same shape."""
        tokens = self.norm(x.flatten(2).mT)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3).unbind(0)
        context = k.softmax(-2).mT @ v
        y = (q.softmax(-1) * self.scale) @ context
        return x + self.proj(y.transpose(-2, -3).flatten(-2)).mT.reshape(x.shape)


class PixelSelfAttention(nn.Module):
    """Attention among the pixels of a frame, behind a layer norm and added to the input.

    Args:
        channels: of input and output.
        heads: number of heads.
        head_dim: size of a head.
    """

    def __init__(self, channels: int, heads: int, head_dim: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, bias=False)
        self.attention = MultiHeadAttention(channels, heads, bias=False, head_dim=head_dim)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The same shape."""
        return x + self.attention(self.norm(x.flatten(2).mT)).mT.reshape(x.shape)


class TimePixelAttention(nn.Module):
    """Attention among the frames of a film at each pixel, behind a layer norm and added to the input.

    Args:
        channels: of input and output.
        heads: number of heads.
        head_dim: size of a head, of which at most 32 channels turn with time.
    """

    def __init__(self, channels: int, heads: int, head_dim: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, bias=False)
        rope = InterleavedRoPE(min(32, head_dim))
        self.attention = MultiHeadAttention(channels, heads, bias=False, head_dim=head_dim, rope=rope)

    def forward(self, x: Float[Tensor, "n c h w"], bias: Float[Tensor, "heads t t"]) -> Float[Tensor, "n c h w"]:
        """The same shape.

        Args:
            x: the frames of all films, film by film.
            bias: numbers to add to the logits, from which the number of frames follows.
        """
        frames = bias.shape[-1]
        tokens = self.norm(x.unflatten(0, (-1, frames)).flatten(3).permute(0, 3, 1, 2).flatten(0, 1))
        y = self.attention(tokens, bias.to(tokens.dtype))
        y = y.unflatten(0, (-1, x.shape[-2] * x.shape[-1])).permute(0, 2, 3, 1)
        return x + y.reshape(x.shape)


class RelativeTimeBias(nn.Module):
    """Numbers to add to the logits, by how many frames lie between: exact when few, in ever wider buckets when many.

    Args:
        heads: number of heads.
        buckets: how many, half of them for each direction.
        farthest: from which distance on all count as one.

    Reference: Raffel et al., T5 (2020), section 2.1.
    """

    def __init__(self, heads: int, buckets: int = 32, farthest: int = 32) -> None:
        super().__init__()
        self.buckets, self.farthest = buckets, farthest
        self.table = nn.Embedding(buckets, heads)

    def forward(self, frames: int) -> Float[Tensor, "heads t t"]:
        """For each head, who looks and at whom.

        Args:
            frames: T.
        """
        at = torch.arange(frames, device=self.table.weight.device)
        return self.table(self.bucket(at.unsqueeze(1) - at)).movedim(-1, 0)

    def bucket(self, distance: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of a distance, positive to the past.

        Args:
            distance: frames between.
        """
        half = self.buckets // 2
        exact = half // 2
        far = distance.abs().clamp_min(1).float()
        wide = exact + (torch.log(far / exact) / math.log(self.farthest / exact) * (half - exact)).long()
        found = torch.where(distance.abs() < exact, distance.abs(), wide.clamp_max(half - 1))
        return found + half * (distance < 0)
