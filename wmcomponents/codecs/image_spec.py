"""The only observation of models that dream images."""

from collections.abc import Sequence
from typing import cast

import torch
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs.image_layout import spatial_axis

CHANNELS = (1, 3, 4)
"""Of grey, RGB and RGBA images."""


def image_of(spec: Composite, family: str, *, is_square: bool = False) -> tuple[str, tuple[int, int, int]]:
    """Key and shape (H, W, C) of the only observation.

    Args:
        spec: of one real observation.
        family: that asks, for the error.
        is_square: whether height and width must be equal.

    Raises:
        ValueError: if it is not one uint8 image, or not square where it must be.

    Example:
        >>> from torchrl.data import Bounded
        >>> image_of(Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)), "IRIS")
        ('pixels', (16, 16, 3))
    """
    entries = [(str(key), leaf) for key, leaf in spec.items()]
    if len(entries) == 1 and _is_image(entries[0][1]):
        key, (height, width, channels) = entries[0][0], entries[0][1].shape
        if (height == width or not is_square) and not _is_channel_first(entries[0][1].shape):
            return key, (height, width, channels)
    shown = {key: (tuple(leaf.shape), leaf.dtype) for key, leaf in entries}
    raise ValueError(
        f"{family} dreams one {'square ' if is_square else ''}uint8 image [H, {'H' if is_square else 'W'}, C] and "
        f"nothing else; got {shown}. {_remedy(entries)}"
    )


def image_and_text_of(spec: Composite, family: str) -> tuple[str, tuple[int, int, int], str | None]:
    """Key and shape (H, W, C) of the image, and the key of a text beside it, float vectors [M, E] of an encoder.

    Args:
        spec: of one real observation.
        family: that asks, for the error.

    Returns:
        The image's key and shape, and the text's key, or None where there is none.

    Raises:
        ValueError: if there is no such image, or anything else beside it.

    Example:
        >>> from torchrl.data import Bounded, Unbounded
        >>> image = Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)
        >>> image_and_text_of(Composite(pixels=image, caption=Unbounded((4, 32))), "GAIA-1")
        ('pixels', (16, 16, 3), 'caption')
    """
    texts = [str(key) for key, leaf in spec.items() if leaf.dtype.is_floating_point and len(leaf.shape) == 2]
    text_key = texts[0] if len(texts) == 1 and len(spec.keys()) == 2 else None
    rest = Composite({str(key): leaf for key, leaf in spec.items() if key != text_key})
    return (*image_of(rest, family), text_key)


def _is_channel_first(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS


def _remedy(entries: Sequence[tuple[str, TensorSpec]]) -> str:
    """What to do about an observation that is no such image."""
    images = [key for key, leaf in entries if leaf.dtype is torch.uint8 and len(leaf.shape) in (2, 3)]
    if len(entries) > 1 and images:
        return (
            f"Keep one image and drop the rest: gymnasium.wrappers.FilterObservation(env, [{images[0]!r}]); or "
            f"take a family that sees all of it (DreamerV3)."
        )
    return _remedy_of_one(entries[0][1].shape, cast(torch.dtype, entries[0][1].dtype))


def _remedy_of_one(shape: Sequence[int], dtype: torch.dtype) -> str:
    if _is_channel_first(shape):
        return "Move the colours last, [H, W, C]: np.moveaxis(image, 0, -1) in gymnasium.wrappers.TransformObservation."
    if len(shape) == 2 and dtype is torch.uint8:
        return "Keep the last axis of a grey image, [H, W, 1]: GrayscaleObservation(env, keep_dim=True)."
    if len(shape) == 3 and dtype.is_floating_point:
        return "Give images as bytes in 0..255: (255 * image).astype(np.uint8) in TransformObservation."
    if len(shape) == 4:
        return "Do not stack frames: the model remembers the past by itself."
    return "Render or resize the environment: make_env(..., from_pixels=True, image_size=64)."


def _is_image(leaf: TensorSpec) -> bool:
    """Bytes with their channels last; a small image, which other models read as a board, is one here."""
    return leaf.dtype is torch.uint8 and len(leaf.shape) == 3 and spatial_axis(tuple(leaf.shape)) in (None, 0)
