"""What a network says under a condition, driven further away from what it says without it."""

import torch
from jaxtyping import Float
from torch import Tensor


def classifier_free(
    conditional: Float[Tensor, "*shape"],
    unconditional: Float[Tensor, "*shape"],
    scale: Tensor | float,
    *,
    channels: int | None = None,
    dim: int = 1,
) -> Float[Tensor, "*shape"]:
    """Guided output ``unconditional + scale * (conditional - unconditional)``; a scale of 1 is no guidance.

    Args:
        conditional: the network's output under the condition.
        unconditional: without it.
        scale: of guidance, a number or what broadcasts with the output.
        channels: how many channels are guided, as DiT's official code guides three; the others are the conditional
            ones. All if not given.
        dim: of the channels.

    Reference: Ho and Salimans, Classifier-Free Diffusion Guidance (2022).
    """
    guided = unconditional + scale * (conditional - unconditional)
    if channels is None:
        return guided
    count = guided.shape[dim]
    return torch.cat([guided.narrow(dim, 0, channels), conditional.narrow(dim, channels, count - channels)], dim)


def three_way(
    conditional: Float[Tensor, "*shape"],
    without_text: Float[Tensor, "*shape"],
    unconditional: Float[Tensor, "*shape"],
    text: Tensor | float,
    image: Tensor | float,
) -> Float[Tensor, "*shape"]:
    """Guided output under two conditions, an image and a text; scales of 1 are no guidance.

    Args:
        conditional: output under text and image.
        without_text: under the image alone.
        unconditional: under neither.
        text: scale of the step to the text.
        image: scale of the step to the image.

    Reference: Brooks et al., InstructPix2Pix (2023), eq. 3; Open-Sora 2.0.
    """
    return unconditional + image * (without_text - unconditional) + text * (conditional - without_text)


def oscillating_scale(scale: float, step: int, steady: int = 10) -> float:
    """Guidance that is left out in every second step after the first ones.

    Args:
        scale: of guidance.
        step: number of the step, from 0.
        steady: first steps that are all guided.

    Reference: Open-Sora 2.0 (2025).

    Example:
        >>> [oscillating_scale(7.5, step) for step in (9, 10, 11, 12, 13)]
        [7.5, 7.5, 1.0, 7.5, 1.0]
    """
    return scale if step < steady or step % 2 == 0 else 1.0
