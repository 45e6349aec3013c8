"""How far apart an ensemble's predictions lie: one number for each row, 0 where all members say the same."""

import torch
from jaxtyping import Float
from torch import Tensor


def ensemble_variance(mean: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b"]:
    """The variance of the members' means, averaged over dimensions.

    Args:
        mean: what each member expects.

    Reference: Pathak et al., Self-Supervised Exploration via Disagreement (2019), eq. 1; Sekar et al., Plan2Explore
    (2020), eq. 2.
    """
    return mean.var(-2, correction=0).mean(-1)


def ensemble_std(mean: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b"]:
    """The standard deviation of the members' means, averaged over dimensions: in the unit of what is predicted.

    Args:
        mean: what each member expects.
    """
    return mean.std(-2, correction=0).mean(-1)


def max_aleatoric_std(std: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b"]:
    r"""The largest spread that a member predicts, :math:`\max_m \|\sigma_m\|_2`.

    It says how uncertain the most uncertain member is, not how far members disagree: equal members have it too.

    Args:
        std: standard deviation of each member's prediction.

    Reference: Yu et al., MOPO (2020), section 4.3.
    """
    return torch.linalg.vector_norm(std, dim=-1).amax(-1)


def max_pairwise_distance(mean: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b"]:
    r"""The largest distance between two members, :math:`\max_{i,j} \|\mu_i - \mu_j\|_2`.

    Args:
        mean: what each member expects.

    Reference: Kidambi et al., MOReL (2020), eq. 2.
    """
    # Differences, not torch.cdist: its product of matrices finds a distance where there is none. Every pair once.
    first, second = torch.triu_indices(mean.shape[-2], mean.shape[-2], 1, device=mean.device)
    gaps = mean.index_select(-2, first) - mean.index_select(-2, second)
    if not gaps.shape[-2]:  # a single member agrees with itself
        return mean.new_zeros(mean.shape[:-2])
    return torch.linalg.vector_norm(gaps, dim=-1).amax(-1)
