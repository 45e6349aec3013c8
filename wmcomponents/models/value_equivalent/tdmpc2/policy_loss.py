"""The loss of TD-MPC2's policy prior (Hansen, Su, Wang, TD-MPC2, eq. 6), element by element."""

from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents._global_batch import global_rows
from wmcomponents.functional import percentile_range
from wmcomponents.models.value_equivalent.tdmpc2.draws import Draws
from wmcomponents.models.value_equivalent.tdmpc2.protocol import TDMPC2Model
from wmcomponents.objectives import ExponentialAverage


class Latents(NamedTuple):
    """Where the policy prior is trained.

    Attributes:
        z: z_0..z_H, without gradient, ``[N, H + 1, L]``.
        age: steps from where the latent began, ``[N, H + 1]``.
        tasks: index of the task, ``[N, H + 1]``; ``None`` if there is one alone.
    """

    z: Tensor
    age: Tensor
    tasks: Tensor | None


class PolicyTerms(NamedTuple):
    """What the policy prior's loss is made of.

    Attributes:
        losses: ``policy``, ``[N, H + 1]``.
        info: ``policy_entropy`` (nats), ``policy_bonus`` (what is rewarded as entropy) and ``policy_scale`` (S),
            ``[N, H + 1]`` each.
        scale: S after this batch, a scalar.
    """

    losses: dict[str, Tensor]
    info: dict[str, Tensor]
    scale: Tensor


def policy_terms(
    model: TDMPC2Model,
    latents: Latents,
    draws: Draws,
    *,
    rho: Tensor,
    entropy_scale: Tensor,
    scale: Tensor,
    average: ExponentialAverage,
    weight: Tensor | None = None,
) -> PolicyTerms:
    r"""``-rho^t (q(z_t, a_t) / S + c_e H_t)`` at a sampled action; its gradient reaches the policy alone.

    S is moved before values are divided by it, towards the range between the 5th and the 95th percentile of the values
    of the windows' first latents, but at least 1.

    Args:
        model: its policy prior is trained; the value functions judge.
        latents: where it acts.
        draws: noise, the two value functions whose mean counts, and dropout.
        rho: weight of a step relative to the one before it.
        entropy_scale: c_e.
        scale: S so far.
        average: how S follows.
        weight: ``[N, H + 1]``; windows whose first latent has weight 0 do not count in S. All count if not given.
    """
    tasks = latents.tasks
    feat = model.joined(latents.z, tasks).detach()
    chosen = model.policy.choose(feat, draws.policy_noise, model.mask_of(tasks))
    raw = model.q.logits(
        torch.cat([feat, chosen.action], -1), draws.policy_members, keep=draws.policy_keep, detach=True
    )
    value = model.q.mean(raw).mean(-1)
    counts = None if weight is None else global_rows(weight[:, 0] > 0)
    spread = percentile_range(global_rows(value[:, 0].detach()), counts).clamp(min=1.0)
    scale = torch.where(spread.isnan(), scale, average.blend(scale, spread))
    loss = -(rho**latents.age) * (value / scale + entropy_scale * chosen.bonus)
    info = {"entropy": chosen.entropy, "bonus": chosen.bonus, "scale": scale.expand_as(loss)}
    return PolicyTerms({"policy": loss}, {f"policy_{name}": told for name, told in info.items()}, scale)
