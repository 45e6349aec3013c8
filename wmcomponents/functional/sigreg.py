"""SIGReg: embeddings held to a standard normal distribution by a test of their shadows on random directions."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.precision import at_least_float32


@dataclass(frozen=True)
class EppsPulley:
    r"""The statistic of Epps and Pulley, by the trapezoid rule: 0 where the samples are distributed as N(0, 1).

    .. math:: \int_{-L}^{L} \left|\tfrac1n \sum_j e^{i t u_j} - e^{-t^2/2}\right|^2 e^{-t^2/2}\, dt

    The integrand is even: ``folded`` puts the knots on [0, L] and counts them twice, but for 0 and L, so that 17 knots
    are 33. Of n normal samples it is of the order 1/n, not 0.

    Attributes:
        knots: number of knots, at least two.
        limit: L.
        folded: whether the knots lie on [0, L], else on [-L, L].

    Raises:
        ValueError: for fewer knots, or a limit that is not positive.

    Reference: Epps and Pulley, A Test for Normality Based on the Empirical Characteristic Function (1983); Balestriero
    and LeCun, LeJEPA (2025), section 4.
    """

    knots: int = 17
    limit: float = 3.0
    folded: bool = True

    def __post_init__(self) -> None:
        if self.knots < 2 or not self.limit > 0:
            raise ValueError(f"there are at least 2 knots up to a positive limit; got {self.knots}, {self.limit}.")

    def at(self, device: torch.device | str | None = None) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """The knots, and their weights without the window.

        Args:
            device: of the tensors.
        """
        knots = torch.linspace(0.0 if self.folded else -self.limit, self.limit, self.knots, device=device)
        step = (1.0 if self.folded else 2.0) * self.limit / (self.knots - 1)
        weights = torch.full_like(knots, 2.0 * step if self.folded else step)
        weights[[0, -1]] /= 2.0
        return knots, weights

    def __call__(self, x: Float[Tensor, "*batch n s"]) -> Float[Tensor, "*batch s"]:
        """The statistic of each column.

        Args:
            x: n samples in each of s columns.
        """
        x = at_least_float32(x)
        knots, weights = self.at(x.device)
        normal = (-0.5 * knots.square()).exp()
        angle = x.unsqueeze(-1) * knots
        error = (angle.cos().mean(-3) - normal).square() + angle.sin().mean(-3).square()
        return error @ (weights * normal)


def random_directions(
    dim: int, count: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Float[Tensor, "dim count"]:
    """Directions drawn evenly, as columns of length 1.

    Args:
        dim: of the space.
        count: number of directions.
        generator: torch's global one if not given.
        device: of the result; that of the generator if not given.
    """
    device = generator.device if device is None and generator is not None else device
    drawn = torch.randn(dim, count, generator=generator, device=device)
    return drawn / drawn.norm(dim=0)


def sigreg(
    z: Float[Tensor, "*batch n d"], directions: Float[Tensor, "d s"], statistic: EppsPulley | None = None
) -> Float[Tensor, ""]:
    """Sketched isotropic Gaussian regularisation: the statistic of n samples along each direction, averaged.

    LeJEPA and LeWM multiply it by n, eb_jepa's BCS does not: weights are no use from one to the other. Its target is
    mean 0 and variance 1, which embeddings behind a layer norm or of length 1 cannot reach.

    Args:
        z: n samples.
        directions: columns of length 1.
        statistic: of one direction; LeJEPA's 17 knots on [0, 3] if not given.

    Reference: Balestriero and LeCun, LeJEPA (2025), section 4.3.

    >>> z = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(sigreg(z, torch.eye(2)) < 1e-3 < sigreg(2.0 * z, torch.eye(2)))
    True
    """
    return (EppsPulley() if statistic is None else statistic)(at_least_float32(z) @ directions).mean()


BCS = EppsPulley(knots=10, limit=3.0, folded=False)
"""The statistic of eb_jepa's BCS."""
