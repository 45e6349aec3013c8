"""A small variational autoencoder of images, made of VQGAN's halves."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.vqgan import PlainMiddle, VQGANDecoder, VQGANEncoder


class ConvAutoencoder(nn.Module):
    """Images to a mean and a log variance at each place of a grid, and latents back to images.

    Args:
        channels: of an image.
        latent: numbers at each place.
        width: channels of the first level, a multiple of 32.
        mults: of ``width``, one for each level; each level but the first halves height and width.
        blocks: residual blocks at a level.

    Reference: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022), appendix G; without
    attention.

    Example:
        >>> import torch
        >>> net = ConvAutoencoder(latent=4, width=32, mults=(1, 1))
        >>> mean, _ = net.encode(torch.zeros(2, 3, 16, 8))
        >>> mean.shape, net.decode(mean).shape
        (torch.Size([2, 4, 8, 4]), torch.Size([2, 3, 16, 8]))
    """

    def __init__(
        self, channels: int = 3, latent: int = 4, width: int = 32, mults: Sequence[int] = (1, 2, 2), blocks: int = 1
    ) -> None:
        super().__init__()
        shape = (width, mults, blocks, ())
        self.latent, self.factor = latent, 2 ** (len(mults) - 1)
        self.encoder = VQGANEncoder(*shape, 2 * latent, channels_in=channels, middle=PlainMiddle)
        self.decoder = VQGANDecoder(*shape, latent, channels_out=channels, middle=PlainMiddle)

    def encode(self, image: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n l gh gw"], Float[Tensor, "n l gh gw"]]:
        """Mean and log variance of the latent of images in [-1, 1].

        Args:
            image: channels first.

        Raises:
            ValueError: if the sides do not halve as often as there are levels.
        """
        if any(side % self.factor for side in image.shape[-2:]):
            raise ValueError(
                f"the sides of an image halve {self.factor.bit_length() - 1} times; got {[*image.shape[-2:]]}: resize "
                f"to a multiple of {self.factor}, or build with fewer levels."
            )
        mean, log_variance = self.encoder(image).chunk(2, 1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, latent: Float[Tensor, "n l gh gw"]) -> Float[Tensor, "n c h w"]:
        """Images about in [-1, 1] of latents.

        Args:
            latent: channels first.
        """
        return self.decoder(latent)
