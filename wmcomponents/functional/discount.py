"""Discounts from the length of episodes."""


def episode_discount(length: int, parts: float = 5.0, low: float = 0.95, high: float = 0.995) -> float:
    """TD-MPC2's heuristic: the discount whose horizon is a fifth of an episode, within bounds.

    ``1 - 1 / (length / parts)``, clipped: 0.99 for 500 steps, 0.95 for 100 and fewer, 0.995 for 1,000 and more.

    Args:
        length: of an episode, in agent steps.
        parts: horizons in an episode.
        low: smallest discount.
        high: largest discount.

    Raises:
        ValueError: if the length is below 1.

    Reference: Hansen, Su, Wang, TD-MPC2 (2024), appendix on implementation details.

    >>> episode_discount(500), episode_discount(50)
    (0.99, 0.95)
    """
    if length < 1:
        raise ValueError(f"an episode has at least one step; got a length of {length}.")
    horizon = length / parts
    return min(max((horizon - 1.0) / horizon, low), high)
