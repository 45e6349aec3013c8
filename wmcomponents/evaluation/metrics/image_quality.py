"""How alike two images are, pixel by pixel and window by window."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Border = Literal["valid", "reflect", "zeros"]
SIGMA, WINDOW = 1.5, 11
"""Of the Gaussian window: Wang et al., section III.C."""


def psnr(
    shown: Float[Tensor, "n c h w"], truth: Float[Tensor, "n c h w"], data_range: float = 1.0, *, most: float = 100.0
) -> Float[Tensor, " n"]:
    r"""Peak signal-to-noise ratio of each image, :math:`10 \log_{10}(R^2 / \mathrm{MSE})`, in dB.

    The mean of these is what most papers report; the ratio of the mean error over a batch is another, larger or equal
    error and so never larger than their mean (Jensen).

    Args:
        shown: images of a model.
        truth: what was to be shown.
        data_range: R, the distance from black to white: 1 for values in [0, 1], 2 for [-1, 1], 255 for bytes.
        most: returned where the images are as good as equal, in place of infinity.

    Raises:
        ValueError: if the shapes differ.

    >>> psnr(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1))
    tensor([20.])
    """
    _check(shown, truth)
    error = (shown - truth).square().flatten(1).mean(1) / data_range**2
    return (-10.0 * torch.log10(error.clamp_min(1e-30))).clamp_max(most)


def ssim(
    shown: Float[Tensor, "n c h w"],
    truth: Float[Tensor, "n c h w"],
    data_range: float = 1.0,
    *,
    border: Border = "valid",
) -> Float[Tensor, " n"]:
    r"""Structural similarity of each image: 1 for equal ones.

    .. math:: \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    averaged over windows and channels; a Gaussian window of 11 pixels with a deviation of 1.5,
    :math:`C_1 = (0.01 R)^2`, :math:`C_2 = (0.03 R)^2`, moments of the population.

    Args:
        shown: images of a model.
        truth: what was to be shown.
        data_range: R, as of :func:`psnr`.
        border: ``"valid"`` takes the windows that lie inside the image, as the authors' code does; ``"reflect"``
            mirrors the image at its edges, as torchmetrics does; ``"zeros"`` pads with black, as the code of several
            world models does. They differ by some hundredths: say which.

    Raises:
        ValueError: if the shapes differ, or no window fits into the image.

    Reference: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004).
    """
    _check(shown, truth)
    if border == "valid" and min(shown.shape[-2:]) < WINDOW:
        raise ValueError(
            f"a window of {WINDOW} pixels does not fit into images of {tuple(shown.shape[-2:])}; pass border='reflect'."
        )
    x, y = shown.flatten(0, 1)[:, None].double(), truth.flatten(0, 1)[:, None].double()
    mean_x, mean_y, xx, yy, xy = _blurred(torch.cat([x, y, x * x, y * y, x * y]), border).chunk(5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    variances, covariance = xx + yy - mean_x**2 - mean_y**2, xy - mean_x * mean_y
    map_ = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return map_.mean((1, 2, 3)).reshape(shown.shape[:2]).mean(1).to(shown.dtype)


def _blurred(images: Tensor, border: Border) -> Tensor:
    """Gaussian means, ``[N, 1, H, W]``: the window is the product of two lines."""
    line = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    line = torch.exp(-(line**2) / (2 * SIGMA**2))
    line = line / line.sum()
    if border != "valid":
        pad, how = (WINDOW // 2,) * 4, "reflect" if border == "reflect" else "constant"
        images = torch.nn.functional.pad(images, pad, mode=how)
    rows = torch.nn.functional.conv2d(images, line.reshape(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, line.reshape(1, 1, 1, -1))


def _check(shown: Tensor, truth: Tensor) -> None:
    if shown.shape != truth.shape or shown.ndim != 4:
        raise ValueError(
            f"images are compared as two batches [N, C, H, W] of one shape; got {tuple(shown.shape)} and "
            f"{tuple(truth.shape)}."
        )
