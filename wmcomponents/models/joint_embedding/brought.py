"""An encoder of the user's inside a model, which is not saved with it, and how it is known again."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.nn.mode import EvalMode
from wmcomponents.nn.not_saved import NotSaved


class Brought(NotSaved):
    """An encoder of the user's inside a model: it moves with it, and is neither trained nor saved with it.

    Args:
        module: the user's.
    """

    module: Component

    def __init__(self, module: Component) -> None:
        super().__init__(module)

    def compute(self, pixels: Tensor) -> Tensor:
        """The module's own."""
        return self.module.compute(pixels)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def signature(encoder: Component, image_shape: Sequence[int]) -> Tensor:
    """What an encoder makes of a picture that is always the same, ``[N, D]``, by which it is known again.

    Args:
        encoder: of images, from 0 to 255 with channels last.
        image_shape: (H, W, C) of the environment's.

    Raises:
        ValueError: if it gives no patches.
    """
    held = next(encoder.parameters(), None)
    device = torch.device("cpu") if held is None else held.device
    picture = (torch.arange(math.prod(image_shape), device=device) * 37 % 256).to(torch.uint8).view(1, *image_shape)
    with EvalMode(encoder):
        features = encoder.compute(picture)
    shape = [*features.shape] if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or features.ndim != 3 or not features.is_floating_point():
        raise ValueError(
            f"a world of features reads patches [B, N, D] of images; {type(encoder).__name__} gives {shape}. Wrap a "
            f"backbone of yours in FrozenEncoder(backbone, patches=...), which asks it for them."
        )
    return features[0].float()


def check_same_encoder(known: Tensor, encoder: Component, image_shape: Sequence[int]) -> None:
    """Refuse an encoder that is not the one that a model was trained on.

    Args:
        known: mean over the patches of the :func:`signature` of that one, ``[D]``.
        encoder: that is given now.
        image_shape: (H, W, C).

    Raises:
        ValueError: if what it makes of the same picture is something else.
    """
    now = signature(encoder, image_shape).mean(0).cpu()
    known = known.detach().cpu().float()
    if now.shape != known.shape or not torch.allclose(now, known, rtol=1e-2, atol=1e-2 * float(known.abs().max())):
        gap = (
            f"{[*now.shape]} numbers" if now.shape != known.shape else f"off by {float((now - known).abs().max()):.3g}"
        )
        raise ValueError(
            f"this is another encoder than the one on which the model was trained: its features of the same picture "
            f"are {gap}. Give the same weights and the same normalisation of pixels."
        )
