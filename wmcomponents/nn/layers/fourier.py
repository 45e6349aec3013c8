"""A number as many waves of random frequencies."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    r"""Cosines and sines of a number: :math:`[\cos(2 \pi w x), \sin(2 \pi w x)]`.

    The frequencies w are drawn once and never learned. They are a buffer that is saved with the weights: without it
    those mean nothing.

    Args:
        features: size of the output, even.

    Raises:
        ValueError: if it is odd.

    Reference: Tancik et al., Fourier Features Let Networks Learn High Frequency Functions (2020).

    Example:
        >>> import torch
        >>> FourierFeatures(8)(torch.zeros(3))[0].abs()
        tensor([1., 1., 1., 1., 0., 0., 0., 0.])
    """

    weight: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        if features % 2:
            raise ValueError(f"half of the features are cosines, half sines; got an odd number, {features}.")
        self.register_buffer("weight", torch.randn(1, features // 2))

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch f"]:
        """Numbers to features."""
        angle = (2.0 * math.pi) * x.unsqueeze(-1) * self.weight.squeeze(0)
        return torch.cat([angle.cos(), angle.sin()], -1)
