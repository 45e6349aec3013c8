"""A variational autoencoder of images whose encoder and decoder are vision transformers."""

from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.patches import patch_grid
from wmcomponents.nn.attention.axial_rope import PixelAxialRoPE, unit_coordinates
from wmcomponents.nn.vit.block import ViTBlock
from wmcomponents.nn.vit.patch_embedding import PatchEmbedding


class ViTAutoencoder(nn.Module):
    """One latent vector for each patch: patches through blocks, a mean and a log variance; the way back through others.

    Rotary positions turn half of each head, half of that by row and half by column.

    Args:
        image_size: (height, width).
        patch: side of a patch.
        channels: of the image.
        latent: numbers of a latent vector.
        encoder: (size of a token, blocks, heads).
        decoder: likewise.
        mlp_ratio: the feed-forwards' width over the token's.

    Raises:
        ValueError: if patches do not fill the image, or heads are too small to turn, or do not divide the size.

    Reference: Oasis (Decart and Etched, 2024), and its code, "ViT-L/20".

    Example:
        >>> import torch
        >>> net = ViTAutoencoder((8, 12), 4, latent=2, encoder=(16, 1, 1), decoder=(16, 1, 1))
        >>> mean, _ = net.encode(torch.zeros(3, 3, 8, 12))
        >>> mean.shape, net.decode(mean).shape
        (torch.Size([3, 2, 2, 3]), torch.Size([3, 3, 8, 12]))
    """

    place: Tensor

    def __init__(
        self,
        image_size: Sequence[int] = (360, 640),
        patch: int = 20,
        *,
        channels: int = 3,
        latent: int = 16,
        encoder: tuple[int, int, int] = (1024, 6, 16),
        decoder: tuple[int, int, int] = (1024, 12, 16),
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.image_size, self.patch, self.latent = tuple(image_size), patch, latent
        self.grid = patch_grid(self.image_size, (patch, patch))
        self.patches = PatchEmbedding(channels, encoder[0], (patch, patch))
        self.encoder, self.encoder_norm = self._half(*encoder, mlp_ratio)
        self.moments = nn.Linear(encoder[0], 2 * latent)
        self.from_latent = nn.Linear(latent, decoder[0])
        self.decoder, self.decoder_norm = self._half(*decoder, mlp_ratio)
        self.pixels = nn.Linear(decoder[0], patch**2 * channels)
        self.register_buffer("place", unit_coordinates(self.grid), persistent=False)

    def _half(self, dim: int, depth: int, heads: int, mlp_ratio: float) -> tuple[nn.ModuleList, nn.LayerNorm]:
        places = self.grid[0] * self.grid[1]
        head = dim // heads
        rope = PixelAxialRoPE(head, frequency=float(places), share=2 * (head // 8))
        blocks = nn.ModuleList(ViTBlock(dim, heads, int(dim * mlp_ratio), rope=rope) for _ in range(depth))
        return blocks, nn.LayerNorm(dim, 1e-6)

    def encode(self, image: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n l gh gw"], Float[Tensor, "n l gh gw"]]:
        """Mean and log variance of the latent of images in [-1, 1].

        Args:
            image: channels first.

        Raises:
            ValueError: for images of another size.
        """
        if tuple(image.shape[-2:]) != self.image_size:
            raise ValueError(
                f"images of {self.image_size[0]} x {self.image_size[1]} pixels are expected; got "
                f"{image.shape[-2]} x {image.shape[-1]}: resize them."
            )
        x = self.patches(image)
        for block in self.encoder:
            x = block(x, None, self.place)
        moments = self.moments(self.encoder_norm(x)).transpose(-1, -2).unflatten(-1, self.grid)
        mean, log_variance = moments.chunk(2, 1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, latent: Float[Tensor, "n l gh gw"]) -> Float[Tensor, "n c h w"]:
        """Images about in [-1, 1] of latents.

        Args:
            latent: channels first.
        """
        x = self.from_latent(latent.flatten(2).transpose(1, 2))
        for block in self.decoder:
            x = block(x, None, self.place)
        x, (rows, _), p = self.pixels(self.decoder_norm(x)), self.grid, self.patch
        # Channels slowest inside a patch, other than in DiT's.
        return rearrange(x, "n (h w) (c p q) -> n c (h p) (w q)", h=rows, p=p, q=p)
