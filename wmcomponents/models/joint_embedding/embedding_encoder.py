"""From whatever an environment shows to features of which one embedding is made: sizes, and the encoder of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torchrl.data import Composite

from wmcomponents.codecs import ObservationGroups, Standardize
from wmcomponents.encoders import BoardEncoder, ImpalaEncoder, MLPEncoder, MultiEncoder, ViTEncoder, class_token
from wmcomponents.nn import NormalizePixels, ViTSize, timm_vit
from wmcomponents.nn.vit.pixels import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class EmbeddingEncoderConfig:
    """Sizes of a learned encoder; the defaults are LeWorldModel's, the tiny vision transformer.

    Attributes:
        images: what reads images: a vision transformer, ``"vit"``, by its class token, or residual convolutions,
            ``"impala"``.
        dim: of the vision transformer, size of a token.
        depth: number of its blocks.
        heads: number of its attention heads.
        hidden: width of its feed-forward.
        patch: side of its patches.
        size: (height, width) to which it resizes images; empty where they keep theirs.
        channels: of the stacks of convolutions.
        blocks: residual blocks of a stack.
        units: width of the layers over numbers and boards.
        vectors: how numbers enter: ``"raw"``, or ``"standardize"`` (zero mean and unit variance, fitted to data before
            training).
        pixel_mean: of each channel of images, for pixels from 0 to 1, that is subtracted; empty for ImageNet's before a
            vision transformer (0.5 where channels are not three), and nothing before convolutions.
        pixel_std: deviation of each channel that it is divided by; as many as ``pixel_mean``.
    """

    images: Literal["vit", "impala"] = "vit"
    dim: int = 192
    depth: int = 12
    heads: int = 3
    hidden: int = 768
    patch: int = 14
    size: tuple[int, ...] = (224, 224)
    channels: tuple[int, ...] = (16, 32, 32)
    blocks: int = 2
    units: int = 256
    vectors: Literal["raw", "standardize"] = "standardize"
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()


def embedding_encoder(config: EmbeddingEncoderConfig, observation_spec: Composite) -> MultiEncoder:
    """The encoder of every entry that an environment shows.

    Args:
        config: its sizes.
        observation_spec: spec of one real observation.

    Raises:
        ValueError: if an observation cannot be encoded, or patches do not fill an image.
    """
    c = config
    pixels = channel_scale(c.pixel_mean, c.pixel_std, observation_spec)
    impala = partial(ImpalaEncoder, channels=c.channels, blocks=c.blocks, pixels=pixels)
    images = {"vit": partial(_vit, c), "impala": impala}
    numbers = ObservationGroups.from_spec(observation_spec).vector_size
    return MultiEncoder(
        observation_spec,
        vectors=partial(MLPEncoder, units=c.units, layers=2),
        images=images[c.images],
        boards=partial(BoardEncoder, units=c.units),
        transform=Standardize(numbers) if c.vectors == "standardize" else None,
    )


def channel_scale(mean: Sequence[float], std: Sequence[float], observation_spec: Composite) -> NormalizePixels | None:
    """What brings the channels of images to like sizes; ``None`` where no numbers are given.

    Args:
        mean: of each channel, for pixels from 0 to 1; empty for none.
        std: deviation of each.
        observation_spec: spec of one real observation.

    Raises:
        ValueError: if there are not as many means and deviations as the images have channels.
    """
    if not mean and not std:
        return None
    groups = ObservationGroups.from_spec(observation_spec)
    channels = groups.image_shape[-1] if groups.image_keys else 0
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"pixel_mean and pixel_std are numbers of each of the images' {channels} channels; got {len(mean)} and "
            f"{len(std)}."
        )
    return NormalizePixels(mean, std)


def _vit(config: EmbeddingEncoderConfig, image_shape: tuple[int, int, int]) -> ViTEncoder:
    """A vision transformer of images (H, W, C) with ImageNet's colours; of other channels, those of grey."""
    c, (height, width, channels) = config, image_shape
    network = timm_vit(ViTSize(c.dim, c.depth, c.heads, c.hidden), c.size or (height, width), c.patch, channels)
    usual = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    mean, std = (c.pixel_mean, c.pixel_std) if c.pixel_mean else usual
    return ViTEncoder(network, read=class_token, pixels=NormalizePixels(mean, std, c.size or None))
