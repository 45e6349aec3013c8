"""From whatever an environment shows to features of which one embedding is made: sizes, and the encoder of them."""

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


def embedding_encoder(config: EmbeddingEncoderConfig, observation_spec: Composite) -> MultiEncoder:
    """The encoder of every entry that an environment shows.

    Args:
        config: its sizes.
        observation_spec: spec of one real observation.

    Raises:
        ValueError: if an observation cannot be encoded, or patches do not fill an image.
    """
    c = config
    images = {"vit": partial(_vit, c), "impala": partial(ImpalaEncoder, channels=c.channels, blocks=c.blocks)}
    numbers = ObservationGroups.from_spec(observation_spec).vector_size
    return MultiEncoder(
        observation_spec,
        vectors=partial(MLPEncoder, units=c.units, layers=2),
        images=images[c.images],
        boards=partial(BoardEncoder, units=c.units),
        transform=Standardize(numbers) if c.vectors == "standardize" else None,
    )


def _vit(config: EmbeddingEncoderConfig, image_shape: tuple[int, int, int]) -> ViTEncoder:
    """A vision transformer of images (H, W, C) with ImageNet's colours; of other channels, those of grey."""
    c, (height, width, channels) = config, image_shape
    network = timm_vit(ViTSize(c.dim, c.depth, c.heads, c.hidden), c.size or (height, width), c.patch, channels)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    return ViTEncoder(network, read=class_token, pixels=NormalizePixels(mean, std, c.size or None))
