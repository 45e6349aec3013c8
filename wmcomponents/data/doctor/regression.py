"""How well one thing can be told from another: ridge regression on numbers and some random bends of them."""

import torch
from torch import Tensor

BENDS = 200
"""Random tanh features beside the numbers themselves, from gentle to sharp."""
RIDGES = (1e-6, 1e-3, 1e-1, 1.0)
"""Of which the best counts, as it is judged on rows that were not fitted."""
BLOCK = 25
"""Steps in a row that are either fitted or judged, in turn: neighbours resemble each other."""


def bent(inputs: Tensor, seed: int = 0) -> Tensor:
    """Numbers ``[N, D]``, their random bends, and one: ``[N, D + BENDS + 1]``."""
    scale = inputs.std(0)
    normal = (inputs - inputs.mean(0)) / torch.where(scale > 1e-9, scale, 1.0)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(normal.shape[1], BENDS, generator=generator, dtype=torch.float64)
    shift = torch.randn(BENDS, generator=generator, dtype=torch.float64)
    sharpness = torch.linspace(0.5, 3.0, BENDS, dtype=torch.float64)
    bends = torch.tanh(normal @ weights * sharpness / max(normal.shape[1], 1) ** 0.5 + shift)
    return torch.cat([normal, bends, torch.ones(len(normal), 1, dtype=torch.float64)], 1)


def predicted(features: Tensor, targets: Tensor, judged: Tensor, ridge: float = 1e-3) -> Tensor:
    """Targets ``[N, T]`` told from features ``[N, F]``, by a fit to the rows that are not judged."""
    fitted, wanted = features[~judged], targets[~judged]
    gram = fitted.T @ fitted + ridge * len(fitted) * torch.eye(features.shape[1], dtype=torch.float64)
    return features @ torch.linalg.solve(gram, fitted.T @ wanted)


def explained(features: Tensor, targets: list[Tensor]) -> list[float]:
    """Share of the variance of each set of targets that is explained in rows that were not fitted, at least 0.

    Args:
        features: of :func:`bent`, ``[N, F]``.
        targets: ``[N, T]`` each; columns that do not vary are left out.
    """
    judged = (torch.arange(len(features)) // BLOCK) % 2 == 1
    kept = [one[:, (one[judged].std(0) > 1e-9) & (one[~judged].std(0) > 1e-9)] for one in targets]
    normal = [(one - one.mean(0)) / one.std(0) for one in kept]
    sizes, every = [one.shape[1] for one in normal], torch.cat(normal, 1)
    best = torch.full((every.shape[1],), torch.inf, dtype=torch.float64)
    for ridge in RIDGES:
        left = (predicted(features, every, judged, ridge) - every)[judged].square().mean(0)
        best = torch.minimum(best, left)
    shares = 1.0 - best / every[judged].var(0, correction=0)
    return [max(0.0, float(part.mean())) if len(part) else 0.0 for part in shares.split(sizes)]
