"""Invertible maps between the environment's vectors and the numbers a network likes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.symlog import symexp, symlog


class Symlog(nn.Module):
    """``symlog`` forth, ``symexp`` back: nothing to fit, any range (DreamerV3)."""

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        return symlog(x)

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """From the network's space back to the environment's."""
        return symexp(x)


class Standardize(nn.Module):
    """``(x - loc) / scale`` per column, fitted once to data; the numbers travel with the weights as buffers.

    Args:
        size: number of columns.

    Example:
        >>> import torch
        >>> standardize = Standardize(2).fit(torch.tensor([[0.0, 5.0], [4.0, 5.0]]))
        >>> standardize(torch.tensor([4.0, 5.0]))
        tensor([1., 0.])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def fit(self, data: Float[Tensor, "*batch n"]) -> "Standardize":
        """Take mean and standard deviation (population) of each column of ``data``.

        A constant column keeps scale 1.

        Raises:
            ValueError: if the last dimension is not ``size`` or there is no row.
        """
        rows = data.reshape(-1, data.shape[-1]).to(self.loc.device, torch.float64)
        if rows.shape[-1] != self.loc.shape[0] or rows.shape[0] == 0:
            raise ValueError(f"Expected data [*batch, {self.loc.shape[0]}] with rows; got {tuple(data.shape)}.")
        mean, std = rows.mean(0), rows.std(0, correction=0)
        constant = std <= 1e-6 * (1.0 + mean.abs())
        self.loc.copy_(mean)
        self.scale.copy_(torch.where(constant, 1.0, std))
        return self

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        return (x - self.loc) / self.scale

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """From the network's space back to the environment's."""
        return x * self.scale + self.loc

    def extra_repr(self) -> str:
        return f"{self.loc.shape[0]}"
