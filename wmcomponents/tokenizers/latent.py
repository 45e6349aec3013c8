"""Images as continuous latents, in the scale that diffusion works in: an autoencoder, a shift and a scale."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, UInt8
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn.chunks import row_chunks
from wmcomponents.tokenizers.image import byte_image, network_image, unit_image


class LatentMoments(NamedTuple):
    """What an autoencoder says of an image, before shift and scale.

    Attributes:
        mean: ``[N, L, h, w]``.
        log_variance: ``[N, L, h, w]``.
    """

    mean: Tensor
    log_variance: Tensor

    def drawn(self, noise: Float[Tensor, "n l h w"]) -> Float[Tensor, "n l h w"]:
        """A latent that is drawn.

        Args:
            noise: standard normal numbers.
        """
        return self.mean + (0.5 * self.log_variance).exp() * noise


class LatentTokenizer(Component):
    r"""An autoencoder of images whose latents are about standard normal: :math:`latent = (z - shift) \cdot scale`.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "latent" | [*B, L, h, w] | float, the mean | written |

    Args:
        autoencoder: ``encode`` takes images in [-1, 1] ``[N, C, H, W]`` to mean and log variance ``[N, L, h, w]``,
            ``decode`` takes latents back: :class:`wmcomponents.nn.ViTAutoencoder`,
            :class:`wmcomponents.nn.ConvAutoencoder`, or :class:`wmcomponents.tokenizers.DiffusersAutoencoder`.
        scale: one number, or one for each channel of the latent. Latents belong to it: a diffusion network that was
            trained with one scale makes nothing of another.
        shift: likewise.
        in_keys: key of the image.
        out_keys: key of the latent.

    Raises:
        ValueError: for a scale of 0, or numbers that are not finite.

    Reference: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022), appendix G.

    Example:
        >>> from wmcomponents.nn import ConvAutoencoder
        >>> part = LatentTokenizer(ConvAutoencoder(latent=4, mults=(1, 1)), scale=0.5)
        >>> part(torch.zeros(5, 16, 8, 3, dtype=torch.uint8)).shape
        torch.Size([5, 4, 8, 4])
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        autoencoder: nn.Module,
        *,
        scale: float | Sequence[float] = 1.0,
        shift: float | Sequence[float] = 0.0,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.autoencoder = cast(Any, autoencoder)
        for name, value in (("scale", scale), ("shift", shift)):
            numbers = [float(one) for one in value] if isinstance(value, Sequence) else [float(value)]
            if not all(map(math.isfinite, numbers)) or (name == "scale" and not all(numbers)):
                raise ValueError(f"{name} is a finite number{', and not 0' * (name == 'scale')}; got {value}.")
            self.register_buffer(name, torch.tensor(numbers).view(-1, 1, 1))

    def compute(self, pixels: UInt8[Tensor, "*batch h w c"]) -> Float[Tensor, "*batch l gh gw"]:
        """Means of images, scaled."""
        lead = pixels.shape[:-3]
        latent = self.scaled(self.moments(network_image(pixels.reshape(-1, *pixels.shape[-3:]))).mean)
        return latent.reshape(*lead, *latent.shape[1:])

    def moments(self, image: Float[Tensor, "n c h w"]) -> LatentMoments:
        """Mean and log variance of images in [-1, 1], not scaled."""
        return LatentMoments(*self.autoencoder.encode(image))

    def scaled(self, z: Float[Tensor, "n l h w"]) -> Float[Tensor, "n l h w"]:
        """Latents in the scale of diffusion."""
        return (z - self.shift) * self.scale

    def decode(self, latent: Float[Tensor, "n l h w"]) -> Float[Tensor, "n c h w"]:
        """Images ``[N, C, H, W]``, about in [-1, 1], of scaled latents; not clamped."""
        return self.autoencoder.decode(latent / self.scale + self.shift)

    @torch.no_grad()
    def latents(
        self, pixels: UInt8[Tensor, "*batch h w c"], noise: Float[Tensor, "*batch l gh gw"] | None = None
    ) -> Float[Tensor, "*batch l gh gw"]:
        """Latents of images, scaled, without gradients; a CPU takes few images at once.

        Args:
            pixels: images as the environment shows them.
            noise: standard normal numbers, where latents are drawn (NWM); means are taken if not given (Oasis).
        """
        lead, flat = pixels.shape[:-3], pixels.reshape(-1, *pixels.shape[-3:])
        drawn = None if noise is None else noise.reshape(-1, *noise.shape[len(lead) :])
        found = []
        for share in row_chunks(len(flat), math.prod(flat.shape[1:3]), flat.device):
            moments = self.moments(network_image(flat[share]))
            found.append(self.scaled(moments.mean if drawn is None else moments.drawn(drawn[share])))
        latent = torch.cat(found)
        return latent.reshape(*lead, *latent.shape[1:])

    @torch.no_grad()
    def pixels(self, latent: Float[Tensor, "*batch l gh gw"]) -> UInt8[Tensor, "*batch h w c"]:
        """What scaled latents look like, as the environment shows images, rounded to bytes."""
        lead, flat = latent.shape[:-3], latent.reshape(-1, *latent.shape[-3:])
        shares = row_chunks(len(flat), 64 * math.prod(flat.shape[2:]), flat.device)
        images = torch.cat([byte_image(unit_image(self.decode(flat[share]))) for share in shares])
        return images.reshape(*lead, *images.shape[1:])


class LatentDetokenizer(Component):
    """The way back from scaled latents to images, with the parts of a tokenizer.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, L, h, w] | float | read |
        | "reconstruction" | [*B, H, W, C] | float, about in [0, 1], not clamped | written |

    Args:
        tokenizer: whose decoder is used.
        in_keys: key of the latent.
        out_keys: key of the image.
    """

    def __init__(
        self,
        tokenizer: LatentTokenizer,
        *,
        in_keys: Sequence[NestedKey] = ("latent",),
        out_keys: Sequence[NestedKey] = ("reconstruction",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.tokenizer = tokenizer

    def compute(self, latent: Float[Tensor, "*batch l gh gw"]) -> Float[Tensor, "*batch h w c"]:
        """Images of latents."""
        lead = latent.shape[:-3]
        image = unit_image(self.tokenizer.decode(latent.reshape(-1, *latent.shape[-3:])))
        return image.reshape(*lead, *image.shape[1:])
