"""The only observation of models that dream pictures."""

import torch
from torchrl.data import Composite

from wmcomponents.world_model import items_of


def picture_of(spec: Composite, family: str, *, is_square: bool = False) -> tuple[str, tuple[int, int, int]]:
    """Key and shape (H, W, C) of the only observation.

    Args:
        spec: of one real observation.
        family: that asks, for the error.
        is_square: whether height and width must be equal.

    Raises:
        ValueError: if it is not one uint8 picture, or not square where it must be.

    Example:
        >>> from torchrl.data import Bounded
        >>> picture_of(Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)), "IRIS")
        ('pixels', (16, 16, 3))
    """
    entries = items_of(spec)
    if len(entries) == 1 and entries[0][1].dtype is torch.uint8 and len(entries[0][1].shape) == 3:
        key, (height, width, planes) = entries[0][0], entries[0][1].shape
        if height == width or not is_square:
            return key, (height, width, planes)
    shown = {key: (tuple(leaf.shape), leaf.dtype) for key, leaf in entries}
    raise ValueError(
        f"{family} dreams one {'square ' if is_square else ''}uint8 picture [H, {'H' if is_square else 'W'}, C] and "
        f"nothing else; got {shown}. Render or resize the environment (make_env(..., image_size=64)), and drop the "
        f"rest of its observations."
    )
