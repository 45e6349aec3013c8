"""What an actor and a critic learn from an imagined trajectory: returns, and which state each belongs to."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wmcomponents.functional.returns import lambda_return


class Targets(NamedTuple):
    """What H imagined steps from s_0 to s_H teach.

    Attributes:
        action_value: return that action a_t earned, with gradients into the dream, ``[*B, A]`` for t = 0 .. A - 1.
        action_weight: how likely the dream reached s_t, discounted, ``[*B, A]``; without gradient.
        state_value: return of a state, the critic's target, ``[*B, C]``; without gradient.
        state_weight: of each of these, ``[*B, C]``; without gradient.
        first_state: index of the state that the first of them belongs to.
    """

    action_value: Tensor
    action_weight: Tensor
    state_value: Tensor
    state_weight: Tensor
    first_state: int


class ReturnTargets(nn.Module, ABC):
    r"""Base of the conventions of what a value is worth.

    Args:
        lam: :math:`\lambda`, between one step (0) and the whole dream (1).
    """

    def __init__(self, lam: float = 0.95) -> None:
        super().__init__()
        if not 0.0 <= lam <= 1.0:
            raise ValueError(f"lam is a share in [0, 1]; got {lam}.")
        self.lam = lam

    @abstractmethod
    def forward(
        self, reward: Float[Tensor, "*batch h1"], cont: Float[Tensor, "*batch h1"], value: Float[Tensor, "*batch h1"]
    ) -> Targets:
        """Targets of a dream of H steps.

        Args:
            reward: received on arriving in s_0 .. s_H.
            cont: discount times the probability that the episode goes on from s_0 .. s_H.
            value: of s_0 .. s_H.
        """

    def extra_repr(self) -> str:
        """The lambda."""
        return f"lam={self.lam}"


class FutureReturn(ReturnTargets):
    r"""A state's value is what follows it: the reward of arriving there is not part of it (DreamerV3).

    .. math:: R_t = r_{t+1} + c_{t+1} \left((1 - \lambda) v_{t+1} + \lambda R_{t+1}\right)

    Every action and every state but the last is learned from; the weight of step t is
    :math:`\prod_{j \le t} c_j`, the start included, so that a start that ended its episode weighs nothing.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (2025), eq. 7.

    Example:
        >>> ones = torch.ones(1, 4)
        >>> FutureReturn(lam=1.0)(ones, ones, 0 * ones).state_value
        tensor([[3., 2., 1.]])
    """

    def forward(
        self, reward: Float[Tensor, "*batch h1"], cont: Float[Tensor, "*batch h1"], value: Float[Tensor, "*batch h1"]
    ) -> Targets:
        """H returns, of a_0 .. a_{H-1} and of s_0 .. s_{H-1}."""
        returns = lambda_return(reward[..., 1:], cont[..., 1:], value[..., 1:], self.lam)
        weight = cont.detach().cumprod(-1)[..., :-1]
        return Targets(returns, weight, returns.detach(), weight, 0)


class OwnValueReturn(ReturnTargets):
    r"""As :class:`FutureReturn`, but one-step values are those of the state that a step leaves (STORM's code).

    .. math:: R_t = r_{t+1} + c_{t+1} \left((1 - \lambda) v_t + \lambda R_{t+1}\right), \qquad R_H = v_H

    Every step weighs as much as any other, also behind an end.

    Reference: Zhang et al., STORM (2023), and its code; eq. 8 of the paper has :math:`v_{t+1}`.

    Example:
        >>> ones = torch.ones(1, 4)
        >>> OwnValueReturn(lam=0.0)(ones, ones, torch.tensor([[5.0, 6.0, 7.0, 8.0]])).state_value
        tensor([[6., 7., 8.]])
    """

    def forward(
        self, reward: Float[Tensor, "*batch h1"], cont: Float[Tensor, "*batch h1"], value: Float[Tensor, "*batch h1"]
    ) -> Targets:
        """H returns, of a_0 .. a_{H-1} and of s_0 .. s_{H-1}."""
        # A last step of no reward that only hands on v_H lets the common recursion begin there.
        last = torch.zeros_like(value[..., :1])
        rewards = torch.cat([reward[..., 1:], value[..., -1:]], -1)
        conts = torch.cat([cont[..., 1:], last], -1)
        returns = lambda_return(rewards, conts, torch.cat([value[..., :-1], last], -1), self.lam)[..., :-1]
        weight = torch.ones_like(returns)
        return Targets(returns, weight, returns.detach(), weight, 0)


class ArrivalReturn(ReturnTargets):
    r"""A state's value holds the reward of arriving there (Dreamer, DreamerV2).

    .. math:: R_t = r_t + c_t \left((1 - \lambda) v_{t+1} + \lambda R_{t+1}\right)

    So a_t earned :math:`R_{t+1}`, and the last action of a dream is not learned from.

    Args:
        lam: :math:`\lambda`.
        from_start: whether the critic learns the start's value too, whose reward is then asked for (DreamerV2); Dreamer
            leaves it out, and takes its discount for 1.

    Reference: Hafner et al., Dream to Control (2020), eq. 6; Mastering Atari with Discrete World Models (2021), eq. 4.
    """

    def __init__(self, lam: float = 0.95, from_start: bool = True) -> None:
        super().__init__(lam)
        self.from_start = from_start

    def forward(
        self, reward: Float[Tensor, "*batch h1"], cont: Float[Tensor, "*batch h1"], value: Float[Tensor, "*batch h1"]
    ) -> Targets:
        """H - 1 returns of a_0 .. a_{H-2}; those of s_0 .. s_{H-1}, or of s_1 .. s_{H-1}."""
        returns = lambda_return(reward[..., :-1], cont[..., :-1], value[..., 1:], self.lam)
        own = cont.detach()
        first = own[..., :1] if self.from_start else torch.ones_like(own[..., :1])
        reached = torch.cat([first, own[..., 1:-2]], -1).cumprod(-1)  # of s_1 .. s_{H-1}
        weight = torch.cat([torch.ones_like(first), reached], -1)  # of s_0 .. s_{H-1}
        skipped = 0 if self.from_start else 1
        return Targets(
            action_value=returns[..., 1:],
            action_weight=weight[..., :-1] if self.from_start else reached,
            state_value=returns.detach()[..., skipped:],
            state_weight=weight if self.from_start else reached,
            first_state=skipped,
        )


def replay_targets(
    reward: Float[Tensor, "*batch t"],
    terminated: Bool[Tensor, "*batch t"],
    ended: Bool[Tensor, "*batch t"],
    imagined: Float[Tensor, "*batch t"],
    discount: float,
    lam: float = 0.95,
) -> Targets:
    r"""What real experience teaches a critic, beyond which a dream goes on (DreamerV3's replay value loss).

    .. math:: R_t = r_{t+1} + \gamma (1 - d_{t+1}) \left((1 - \lambda_{t+1}) b_{t+1} + \lambda_{t+1} R_{t+1}\right)

    where :math:`\lambda_{t+1}` is 0 if the episode ended there. States in which an episode ended weigh nothing.

    Args:
        reward: received on arriving in each state.
        terminated: d, whether the episode ended there for good.
        ended: whether it ended there in any way.
        imagined: b, the return of a dream that began in each state.
        discount: :math:`\gamma`.
        lam: :math:`\lambda`.

    Returns:
        The targets of all states but the last; they value no actions.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (2025), "Critic learning".
    """
    goes_on = discount * (~terminated[..., 1:]).to(reward.dtype)
    share = lam * (~ended[..., 1:]).to(reward.dtype)
    returns = lambda_return(reward[..., 1:], goes_on, imagined[..., 1:], share).detach()
    weight = (~ended[..., :-1]).to(reward.dtype)
    return Targets(returns[..., :0], weight[..., :0], returns, weight, 0)
