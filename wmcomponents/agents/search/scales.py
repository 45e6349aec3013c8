"""How an action value is brought to the scale of the prior."""

import torch
from torch import Tensor

from wmcomponents.agents.search.bounds import HIGH, LOW
from wmcomponents.agents.search.tree import Tree


class ExactRange:
    """The tree's range becomes [0, 1]; values stay as they are until two different ones were seen.

    Reference: Schrittwieser et al., MuZero (2020), appendix B.
    """

    def __call__(self, tree: Tree, q: Tensor) -> Tensor:
        """Values ``[B, K]`` of any edges."""
        low, high = tree.extra[LOW].unsqueeze(1), tree.extra[HIGH].unsqueeze(1)
        span = high - low
        is_known = span > 0
        return torch.where(is_known, (q - low) / torch.where(is_known, span, 1.0), q)


class SoftRange:
    """The same with a least width, so that small differences in an early tree are not blown up; cut to [0, 1].

    Args:
        least: width of the range that is taken at least.

    Reference: Ye et al., EfficientZero (2021), appendix, "soft" min-max.
    """

    def __init__(self, least: float = 0.01) -> None:
        self.least = least

    def __call__(self, tree: Tree, q: Tensor) -> Tensor:
        """Values ``[B, K]`` of any edges."""
        low, high = tree.extra[LOW].unsqueeze(1), tree.extra[HIGH].unsqueeze(1)
        is_known = high > low
        scaled = (q - low) / (high - low).clamp(min=self.least)
        return torch.where(is_known, scaled, q).clamp(0.0, 1.0)
