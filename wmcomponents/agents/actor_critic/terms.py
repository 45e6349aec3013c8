"""The terms of an actor-critic's loss on an imagined trajectory, element by element."""

from jaxtyping import Float
from torch import Tensor

from wmcomponents.agents.actor_critic.estimators import GradientEstimator
from wmcomponents.agents.actor_critic.normalizers import ReturnNormalizer
from wmcomponents.agents.actor_critic.targets import Targets
from wmcomponents.heads.head import Head


def actor_term(
    targets: Targets,
    baseline: Float[Tensor, "*batch h1"],
    log_prob: Float[Tensor, "*batch h"],
    entropy: Float[Tensor, "*batch h"],
    estimator: GradientEstimator,
    normalizer: ReturnNormalizer,
    entropy_scale: float | Tensor,
) -> Float[Tensor, "*batch a"]:
    r"""What the actor minimises for each action that the targets value, ``[*B, A]``.

    .. math:: -w_t \left(J(\log \pi(a_t), R_t, (R_t - v_t) / S) + \eta H(\pi_t)\right)

    Args:
        targets: of the dream.
        baseline: v of s_0 .. s_H; only its number is used.
        log_prob: of a_0 .. a_{H-1}.
        entropy: of the policy in s_0 .. s_{H-1}.
        estimator: J.
        normalizer: S; updated by whoever calls this.
        entropy_scale: :math:`\eta`.
    """
    steps = targets.action_value.shape[-1]
    advantage = normalizer(targets.action_value - baseline[..., :steps].detach())
    objective = estimator(log_prob[..., :steps], targets.action_value, advantage)
    return -targets.action_weight * (objective + entropy_scale * entropy[..., :steps])


def critic_term(
    head: Head,
    raw: Float[Tensor, "*batch h1 n"],
    targets: Targets,
    slow_value: Float[Tensor, "*batch h1"] | None = None,
    slow_scale: float | Tensor = 1.0,
) -> Float[Tensor, "*batch c"]:
    """What the critic minimises for each valued state, ``[*B, C]``: its error, and its distance to a slow copy.

    Args:
        head: the critic.
        raw: its raw outputs in s_0 .. s_H.
        targets: of the dream.
        slow_value: what a slowly following copy of the critic says of s_0 .. s_H (DreamerV3's regulariser); none
            without.
        slow_scale: weight of the distance.
    """
    states = slice(targets.first_state, targets.first_state + targets.state_value.shape[-1])
    raw = raw[..., states, :]
    value = targets.state_value.unsqueeze(-1)
    if slow_value is None:
        return targets.state_weight * head.loss(raw, value)
    error, distance = head.losses(raw, [value, slow_value.detach()[..., states].unsqueeze(-1)])
    return targets.state_weight * (error + slow_scale * distance)
