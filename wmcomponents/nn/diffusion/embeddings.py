"""Numbers and labels that a diffusion transformer is told, as vectors: noise levels, classes, displacements."""

import math
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def cosine_sine(
    x: Float[Tensor, "*batch"] | Int[Tensor, "*batch"], features: int, base: float = 10_000.0
) -> Float[Tensor, "*batch features"]:
    r"""Cosines, then sines, of numbers at frequencies from 1 down to :math:`1 / base`.

    .. math:: y_i = \cos(x\, base^{-2i/d}), \qquad y_{d/2 + i} = \sin(x\, base^{-2i/d})

    :func:`wmcomponents.nn.sinusoidal_positions` has the halves the other way round; which one a network was trained
    with is visible in its weights alone.

    Args:
        x: numbers.
        features: size of the vectors; an odd one ends with a 0.
        base: of the wavelengths.

    Reference: Ho et al., DDPM (2020), and the codes of ADM, GLIDE and DiT.

    >>> cosine_sine(torch.zeros(1), 4).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    half = features // 2
    rate = torch.exp(-math.log(base) * torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angle = x.to(torch.float32).unsqueeze(-1) * rate
    waves = torch.cat([angle.cos(), angle.sin()], -1)
    return nn.functional.pad(waves, (0, 1)) if features % 2 else waves


class NumberEmbedding(nn.Module):
    """A number, such as a noise level, as a vector: cosines and sines of it, ``Linear``, SiLU, ``Linear``.

    Args:
        dim: size of the vectors.
        features: number of cosines and sines.
        scale: what the number is taken times first; 1000 where levels lie between 0 and 1.

    Reference: Peebles and Xie, DiT (2023), section 3.2.

    Example:
        >>> NumberEmbedding(8)(torch.tensor([[0, 999]])).shape
        torch.Size([1, 2, 8])
    """

    def __init__(self, dim: int, features: int = 256, scale: float = 1.0) -> None:
        super().__init__()
        self.features, self.scale = features, scale
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, x: Float[Tensor, "*batch"] | Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Vectors of numbers."""
        x = x * self.scale if self.scale != 1.0 else x
        return self.mlp(cosine_sine(x, self.features).to(cast(nn.Linear, self.mlp[0]).weight.dtype))


class LabelEmbedding(nn.Module):
    """A learned vector for each label, and one for none, which training puts in the place of some.

    Args:
        labels: how many; the number ``labels`` itself stands for none.
        dim: size of the vectors.
        dropout: share of labels that is hidden in training, so that the network learns to do without.

    Reference: Ho and Salimans, Classifier-Free Diffusion Guidance (2022).
    """

    def __init__(self, labels: int, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.labels, self.dropout = labels, dropout
        self.table = nn.Embedding(labels + 1, dim)

    def forward(self, label: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Vectors of labels from 0 to ``labels``."""
        if self.training and self.dropout:
            hidden = torch.rand(label.shape, device=label.device) < self.dropout
            label = label.masked_fill(hidden, self.labels)
        return self.table(label)


class DisplacementEmbedding(nn.Module):
    """A step over the ground, (forward, left, turn), or other numbers, as a vector: of each its own, side by side.

    Args:
        dim: size of the vectors, shared out evenly; the last number's takes what is left over.
        numbers: how many there are.

    Raises:
        ValueError: if there are more numbers than the vectors have.

    Reference: Bar et al., Navigation World Models (2024), and its code.
    """

    def __init__(self, dim: int, numbers: int = 3) -> None:
        super().__init__()
        share = dim // max(numbers, 1)
        if numbers < 1 or not share:
            raise ValueError(f"vectors of {dim} numbers are shared by 1 to {dim} of them; got {numbers}.")
        sizes = [share] * (numbers - 1) + [dim - share * (numbers - 1)]
        self.parts = nn.ModuleList(NumberEmbedding(size) for size in sizes)

    def forward(self, step: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch d"]:
        """Vectors of displacements."""
        return torch.cat([part(number) for part, number in zip(self.parts, step.unbind(-1), strict=True)], -1)


def sine_cosine(
    x: Float[Tensor, "*batch"] | Int[Tensor, "*batch"], features: int, base: float = 10_000.0
) -> Float[Tensor, "*batch features"]:
    r"""Sines, then cosines, of numbers at frequencies from 1 down to ``1 / base``, both ends among them.

    .. math:: y_i = \sin(x\, base^{-i / (d/2 - 1)}), \qquad y_{d/2 + i} = \cos(x\, base^{-i / (d/2 - 1)})

    Args:
        x: numbers.
        features: size of the vectors, even and at least 4.
        base: of the wavelengths.

    Raises:
        ValueError: for another size.

    Reference: Ho et al., DDPM (2020), whose own code has these; Diffusion Forcing's and AVID's.

    >>> sine_cosine(torch.zeros(1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    if features % 2 or features < 4:
        raise ValueError(f"sines and cosines of two frequencies at least take an even size from 4 on; got {features}.")
    half = features // 2
    rate = torch.exp(-math.log(base) / (half - 1) * torch.arange(half, dtype=torch.float32, device=x.device))
    angle = x.to(torch.float32).unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], -1)


class SineEmbedding(nn.Module):
    """A number, such as a noise level, as a vector: sines and cosines of it, ``Linear``, GELU, ``Linear``.

    Args:
        features: number of sines and cosines.
        dim: size of the vectors.

    Reference: Ho et al., Video Diffusion Models (2022).
    """

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, x: Float[Tensor, "*batch"] | Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Vectors of numbers."""
        return self.mlp(sine_cosine(x, self.features))


class ActionEmbedding(nn.Module):
    """A vector for each action, and one for none: a row of a table, ``Linear``, GELU, ``Linear``.

    Args:
        action: numbers of an action; of several that are not 0 the rows are added.
        features: size of a row.
        dim: size of the vectors.
    """

    def __init__(self, action: int, features: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(action, features))
        self.none = nn.Parameter(torch.randn(features))
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, action: Float[Tensor, "n a"] | None, rows: int) -> Float[Tensor, "n d"]:
        """Vectors of actions.

        Args:
            action: None where nothing is known.
            rows: how many there are.
        """
        row = self.none.expand(rows, -1) if action is None else action.to(self.table.dtype) @ self.table
        return self.mlp(row)
