"""The perceptual distance of two images, by a network of the caller's."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

FeatureMaps = Callable[[Tensor], Sequence[Tensor]]
"""From images ``[N, C, H, W]`` in [-1, 1] to feature maps ``[N, F, h, w]`` of several depths."""

EPSILON = 1e-10


def lpips(
    backbone: FeatureMaps,
    shown: Float[Tensor, "n c h w"],
    truth: Float[Tensor, "n c h w"],
    weights: Sequence[Tensor] | None = None,
) -> Float[Tensor, " n"]:
    r"""Learned perceptual image patch similarity: the weighted squared distance of unit-length features.

    .. math:: \sum_l \frac{1}{h_l w_l} \sum_{ij} \sum_f w_{lf} (\hat x_{lfij} - \hat y_{lfij})^2

    Whatever the backbone does first with its input (the published ones shift and scale the channels) belongs to the
    backbone. With another backbone than AlexNet's or VGG's and their published weights the figure has another scale:
    name it.

    Args:
        backbone: maps images in [-1, 1] to feature maps.
        shown: images of a model, in [0, 1].
        truth: what was to be shown, in [0, 1].
        weights: not negative, ``[F]`` for each depth; ones if not given.

    Raises:
        ValueError: if there are not as many weights as feature maps.

    Reference: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (2018), eq. 1.
    """
    with torch.no_grad():
        ours, theirs = backbone(2.0 * shown - 1.0), backbone(2.0 * truth - 1.0)
    scales = [torch.ones(map_.shape[1], device=map_.device) for map_ in ours] if weights is None else list(weights)
    if len(scales) != len(ours):
        raise ValueError(f"the backbone gives {len(ours)} feature maps, and there are weights of {len(scales)}.")
    total = torch.zeros(len(shown), device=shown.device)
    for scale, x, y in zip(scales, ours, theirs, strict=True):
        squares = (_unit(x) - _unit(y)).square()
        total = total + (squares * scale.to(x).reshape(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + EPSILON)
