"""What is random in an update of TD-MPC2, drawn before it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wmcomponents.heads import CategoricalPolicyPrior, GaussianPolicyPrior, QEnsemble


@dataclass
class Draws:
    """Everything random in one update.

    Attributes:
        target_noise: of the policy's actions in the value targets, ``[N, H, ...]``.
        target_members: the two target value functions whose smaller one counts, int64 ``[2]``.
        policy_noise: of the actions in the policy's loss, ``[N, H + 1, ...]``.
        policy_members: the two value functions whose mean counts there, int64 ``[2]``.
        value_keep: dropout in the value loss, ``[members, N, H, units]``; or ``None``.
        policy_keep: dropout in the policy's loss, ``[2, N, H + 1, units]``; or ``None``.
    """

    target_noise: Tensor
    target_members: Tensor
    policy_noise: Tensor
    policy_members: Tensor
    value_keep: Tensor | None = None
    policy_keep: Tensor | None = None


def draw(
    q: QEnsemble,
    policy: GaussianPolicyPrior | CategoricalPolicyPrior,
    rows: int,
    time: int,
    generator: torch.Generator,
) -> Draws:
    """Noise, value functions and dropout of an update.

    Args:
        q: the value functions.
        policy: the policy prior.
        rows: windows, N.
        time: transitions of each, H.
        generator: the source.
    """

    def two() -> Tensor:
        return torch.randperm(q.members, generator=generator, device=generator.device)[:2]

    return Draws(
        target_noise=policy.draw((rows, time), generator),
        target_members=two(),
        policy_noise=policy.draw((rows, time + 1), generator),
        policy_members=two(),
        value_keep=q.draw_keep((rows, time), q.members, generator),
        policy_keep=q.draw_keep((rows, time + 1), min(2, q.members), generator),
    )
