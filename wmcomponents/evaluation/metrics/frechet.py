"""The distance between two sets of features, which FID and FVD are."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Backbone = Callable[[Tensor], Tensor]
"""From images or clips ``[N, ...]`` to features ``[N, F]``."""


def frechet_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float:
    r"""Squared Frechet distance of the normal distributions fitted to two sets of features.

    .. math:: |\mu_1 - \mu_2|^2 + \mathrm{Tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2})

    in float64, with unbiased covariances. The trace of the root is the sum of the singular values of the product of
    the two (scaled, centred) feature matrices; so no root of a matrix is taken that may be singular, and few samples
    of many features cost little. With features of Inception-v3 it is called FID, with those of I3D FVD. It is biased:
    it falls with the number of samples, which belongs beside every figure.

    Args:
        first: features of n samples, at least two.
        second: features of m samples, at least two.

    Raises:
        ValueError: for fewer samples, or features of two widths.

    Reference: Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017); Unterthiner et al., FVD (2019).

    >>> frechet_distance(torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [3.0]]))
    4.0
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"two sets of features are [N, F] and [M, F] with at least two samples each; got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    means = [one.double().mean(0) for one in (first, second)]
    # Sigma = A^T A, so that the eigenvalues of Sigma_1 Sigma_2 are the squared singular values of A_1 A_2^T.
    roots = [(one.double() - mean) / (len(one) - 1) ** 0.5 for one, mean in zip((first, second), means, strict=True)]
    traces = sum(float(root.square().sum()) for root in roots)
    shared = float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum())
    return max(float((means[0] - means[1]).square().sum()) + traces - 2.0 * shared, 0.0)


class FrechetFeatures:
    """Gathers the features of real and shown images or clips, batch by batch, for one distance at the end.

    Args:
        backbone: the network that sees; it is called in ``no_grad`` and otherwise left alone.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._real: list[Tensor] = []
        self._shown: list[Tensor] = []

    @torch.no_grad()
    def add(self, real: Tensor, shown: Tensor) -> None:
        """Batches of what the backbone takes, ``[N, ...]`` and ``[M, ...]``."""
        self._real.append(self._seen(real))
        self._shown.append(self._seen(shown))

    def distance(self) -> float:
        """The distance of all that was added."""
        return frechet_distance(torch.cat(self._real), torch.cat(self._shown))

    @property
    def samples(self) -> int:
        """How many were shown: a distance says little without."""
        return sum(map(len, self._shown))

    def _seen(self, batch: Tensor) -> Tensor:
        features = self.backbone(batch)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(batch):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"a backbone returns features [{len(batch)}, F] of {len(batch)} inputs; got {found}.")
        return features.double().cpu()
