"""The supports of reward and value in MuZero's family."""

import torch

from wmcomponents.codecs import RewardUnit, Support
from wmcomponents.functional.value_transform import inverse_value_transform


def reward_and_value_supports(
    reward_limit: int,
    value_limit: int,
    rewards: str,
    discount: float,
    *,
    steps: int = 1,
    dead_zone: float = 0.0,
) -> tuple[Support, Support]:
    """The supports of reward and value: integers on the scale of MuZero's h, in the units that rewards come in.

    Args:
        reward_limit: the outermost integer of the reward's support.
        value_limit: the outermost integer of the value's support.
        rewards: ``"plain"``, or ``"scaled"``: in units of a power of ten where the data's rewards do not fit into the
            one support, or their sums into the other.
        discount: gamma of those sums, below 1 if they are to be bounded.
        steps: number of rewards that the first support holds the sum of.
        dead_zone: size below which a decoded number is 0 (:class:`~wmcomponents.codecs.Support`).

    Raises:
        ValueError: for another kind of rewards.
    """
    if rewards not in ("plain", "scaled"):
        raise ValueError(f"rewards must be 'plain' or 'scaled'; got {rewards!r}.")

    def unit() -> RewardUnit | None:
        if rewards == "plain":
            return None
        limits = torch.tensor([reward_limit, value_limit], dtype=torch.float64, device="cpu")
        reward, value = inverse_value_transform(limits).tolist()
        return RewardUnit(reward / steps, value * (1.0 - discount) if discount < 1.0 else reward)

    return (
        Support.integers(reward_limit, dead_zone, unit()),
        Support.integers(value_limit, dead_zone, unit()),
    )
