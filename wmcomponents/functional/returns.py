"""Lambda returns: a mixture of n-step returns, computed from behind."""

import torch
from jaxtyping import Float
from torch import Tensor


def lambda_return(
    reward: Float[Tensor, "*batch t"],
    cont: Float[Tensor, "*batch t"],
    next_value: Float[Tensor, "*batch t"],
    lam: float | Float[Tensor, "*batch t"] = 0.95,
) -> Float[Tensor, "*batch t"]:
    r"""Return of every step of a piece of experience.

    .. math:: R_t = r_t + c_t \left((1 - \lambda) v_t + \lambda R_{t+1}\right), \qquad R_T = v_{T-1}

    What an index means is the caller's: in DreamerV3 ``reward[t]`` and ``cont[t]`` are those of the state that step t
    leads to, in Dreamer and DreamerV2 those of the state that it leaves (see
    :mod:`wmcomponents.agents.actor_critic.targets`). ``next_value[t]`` is always that of the state it leads to.

    Args:
        reward: r, one for each step.
        cont: c, the discount times the probability that the episode goes on; 0 ends the return.
        next_value: v of the state that each step leads to; the last one stands for all that follows.
        lam: :math:`\lambda`, 0 for one-step returns, 1 for all rewards and the last value; a number, or one for each
            step, 0 where an episode is cut.

    Raises:
        ValueError: if a number ``lam`` lies outside [0, 1].

    Reference: Hafner et al., Dreamer (2020), eq. 6; DreamerV2 (2021), eq. 4; DreamerV3 (2025), eq. 7.

    Example:
        >>> reward, cont, value = torch.ones(3), torch.full((3,), 0.5), torch.tensor([0.0, 0.0, 4.0])
        >>> lambda_return(reward, cont, value, 1.0)
        tensor([2.2500, 2.5000, 3.0000])
    """
    if not isinstance(lam, Tensor) and not 0.0 <= lam <= 1.0:
        raise ValueError(f"lam is a share in [0, 1]; got {lam}.")
    weight = lam if isinstance(lam, Tensor) else torch.full_like(reward, lam)
    first = reward + cont * (1.0 - weight) * next_value
    following, out = next_value[..., -1], []
    for now, kept in zip(reversed(first.unbind(-1)), reversed((cont * weight).unbind(-1)), strict=True):
        following = now + kept * following
        out.append(following)
    return torch.stack(out[::-1], -1)
