"""Convolutions over films that see no later frame, and an autoencoder of them that shortens time too."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.vqgan import group_norm
from wmcomponents.nn.layers.activation import silu


class CausalConv3d(nn.Conv3d):
    """A 3D convolution that sees no later frame: time is filled up in front, by the first frame again.

    A film of one frame is therefore convolved as one in which nothing moves, and the first frame of a film as if it
    were alone. Height and width are filled up with zeros on all sides.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel: frames, height and width that are seen.
        stride: over frames, height and width; T frames become (T - 1) / stride + 1, rounded down.

    Reference: Yu et al., Language Model Beats Diffusion: Tokenizer is Key to Visual Generation (2024), section 3.2;
    Kong et al., HunyuanVideo (2024), section 4.1, which Open-Sora 2.0 uses.

    Example:
        >>> CausalConv3d(3, 8, stride=(2, 1, 1))(torch.zeros(1, 3, 5, 4, 4)).shape
        torch.Size([1, 8, 3, 4, 4])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int] = (3, 3, 3),
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, input: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c2 t2 h2 w2"]:
        """Films, channels before time.

        Args:
            input: of at least one frame.
        """
        before = input[:, :, :1].expand(-1, -1, self.kernel_size[0] - 1, -1, -1)
        return super().forward(torch.cat([before, input], 2))


class FrameGroupNorm(nn.Module):
    """Group norm of each frame by itself, so that nothing of a later one is told.

    Args:
        channels: of the input, a multiple of 32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        """The same shape."""
        frames = self.norm(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class CausalResidual(nn.Module):
    """Two causal convolutions, each behind a norm of frames and swish, added to the input.

    Args:
        channels_in: of the input.
        channels_out: of the output.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = FrameGroupNorm(channels_in), CausalConv3d(channels_in, channels_out)
        self.norm2, self.conv2 = FrameGroupNorm(channels_out), CausalConv3d(channels_out, channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else CausalConv3d(channels_in, channels_out, (1, 1, 1))

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c2 t h w"]:
        """The same frames, height and width."""
        y = self.conv1(silu(self.norm1(x)))
        return self.conv2(silu(self.norm2(y))) + self.shortcut(x)


class CausalDoubling(nn.Module):
    """Height and width twice as large, and every frame but the first twice where time is doubled, then convolved.

    Args:
        channels: of input and output.
        doubles_time: whether T frames become 2 T - 1.
    """

    def __init__(self, channels: int, doubles_time: bool) -> None:
        super().__init__()
        self.doubles_time, self.conv = doubles_time, CausalConv3d(channels, channels)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t2 h2 w2"]:
        """The larger film."""
        if self.doubles_time:
            x = x.repeat_interleave(2, 2)[:, :, 1:]
        return self.conv(x.repeat_interleave(2, 3).repeat_interleave(2, 4))


class CausalFilmAutoencoder(nn.Module):
    """A variational autoencoder of films that sees no later frame: a latent of the first frame, then one of each few.

    With r frames a latent, T = 1 + r k frames are 1 + k latents. A latent tells of the frames up to its last one alone,
    and a frame is made of the latents up to its own: the first frame is encoded as if it were a picture by itself, and
    what follows may be encoded as it comes. Norms are of each frame by itself, since those over time that published
    networks of this form have tell of frames to come.

    Args:
        channels: of a frame.
        latent: numbers at each place.
        width: channels of the first level, a multiple of 32.
        mults: of ``width``, one for each level; each level but the first halves height and width.
        time_halvings: how many of the halvings, the last ones, halve time too: r is 2 to their number.
        blocks: residual blocks at a level.

    Raises:
        ValueError: if time is to be halved more often than height and width, or there are no blocks.

    Reference: Zheng et al., Open-Sora (2024), section on the 3D autoencoder; Kong et al., HunyuanVideo (2024), section
    4.1; 4 x 8 x 8 is ``mults`` of four and two ``time_halvings``.

    Example:
        >>> net = CausalFilmAutoencoder(latent=4, width=32, mults=(1, 1, 1), time_halvings=1)
        >>> mean, _ = net.encode(torch.zeros(2, 5, 3, 16, 8))
        >>> mean.shape, net.decode(mean).shape
        (torch.Size([2, 3, 4, 4, 2]), torch.Size([2, 5, 3, 16, 8]))
    """

    def __init__(
        self,
        channels: int = 3,
        latent: int = 4,
        width: int = 32,
        mults: Sequence[int] = (1, 2, 2, 2),
        time_halvings: int = 2,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        halvings = len(mults) - 1
        if not 0 <= time_halvings <= halvings or blocks < 1:
            raise ValueError(
                f"the last halvings of height and width halve time too, and a level has a block: {len(mults)} levels "
                f"halve {halvings} times; got time_halvings={time_halvings} and blocks={blocks}."
            )
        self.latent, self.factor, self.frames = latent, 2**halvings, 2**time_halvings
        widths = [width * mult for mult in mults]
        halves_time = [place >= halvings - time_halvings for place in range(halvings)]
        down: list[nn.Module] = [CausalConv3d(channels, widths[0])]
        for level, wide in enumerate(widths):
            down += [CausalResidual(widths[level - 1] if level and not i else wide, wide) for i in range(blocks)]
            if level < halvings:
                stride = (2 if halves_time[level] else 1, 2, 2)
                down.append(CausalConv3d(wide, wide, stride=stride))
        up: list[nn.Module] = [CausalConv3d(latent, widths[-1])]
        for level in reversed(range(len(widths))):
            wide, before = widths[level], widths[min(level + 1, halvings)]
            up += [CausalResidual(wide if i else before, wide) for i in range(blocks)]
            if level:
                up.append(CausalDoubling(wide, halves_time[level - 1]))
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.norm_in, self.to_moments = FrameGroupNorm(widths[-1]), CausalConv3d(widths[-1], 2 * latent)
        self.norm_out, self.to_film = FrameGroupNorm(widths[0]), CausalConv3d(widths[0], channels)

    def encode(
        self, film: Float[Tensor, "n t c h w"]
    ) -> tuple[Float[Tensor, "n k l gh gw"], Float[Tensor, "n k l gh gw"]]:
        """Mean and log variance of the latents of films in [-1, 1].

        Args:
            film: 1 + r k frames, channels before height and width.

        Raises:
            ValueError: for another number of frames, or sides that do not halve as often as there are levels.
        """
        frames, sides = film.shape[1], film.shape[-2:]
        if frames < 1 or (frames - 1) % self.frames or any(side % self.factor for side in sides):
            raise ValueError(
                f"a film has 1 + {self.frames} k frames with sides that are multiples of {self.factor}; got {frames} "
                f"frames of {sides[0]} x {sides[1]}: cut the film, or repeat its last frame, and resize."
            )
        y = self.to_moments(silu(self.norm_in(self.encoder(film.transpose(1, 2)))))
        mean, log_variance = y.transpose(1, 2).chunk(2, 2)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, latent: Float[Tensor, "n k l gh gw"]) -> Float[Tensor, "n t c h w"]:
        """Films about in [-1, 1] of latents.

        Args:
            latent: 1 + k of them, channels before height and width.
        """
        return self.to_film(silu(self.norm_out(self.decoder(latent.transpose(1, 2))))).transpose(1, 2)
