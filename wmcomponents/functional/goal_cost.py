"""How far predicted features are from those of a goal: what planners in worlds of features make small."""

import torch
from jaxtyping import Float
from torch import Tensor


def feature_distances(
    features: Float[Tensor, "*batch n d"], goal: Float[Tensor, "*goal n d"]
) -> Float[Tensor, "*batch"]:
    """Mean squared distance over patches and channels.

    Args:
        features: of frames.
        goal: of the goal, for all frames or for each.

    Reference: Zhou et al., DINO-WM (2025), section 3.3.
    """
    return (features - goal).square().mean((-2, -1))


def last_frame_cost(distances: Float[Tensor, "*batch t"]) -> Float[Tensor, "*batch"]:
    """The distance of the last frame of each plan.

    Args:
        distances: of all frames.
    """
    return distances[..., -1]


def growing_frame_cost(distances: Float[Tensor, "*batch t"], base: float = 2.0) -> Float[Tensor, "*batch"]:
    r"""The distances of all frames, later ones counting more, :math:`\tfrac1T \sum_i d_i\, b^i / \sum_j b^j`.

    The mean over time comes on top of weights that have the sum 1, as the paper's code has it.

    Args:
        distances: of all frames.
        base: factor from one frame to the next.

    Reference: the code of DINO-WM (2025), mode "all".
    """
    steps = distances.shape[-1]
    weights = base ** torch.arange(steps, device=distances.device, dtype=distances.dtype)
    return (distances * weights / weights.sum()).mean(-1)
