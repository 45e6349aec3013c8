"""EfficientZero's loss (Ye et al., Mastering Atari Games with Limited Data, 2021, eq. 4 and appendix A)."""

import torch
from torch import Tensor

from wmcomponents.functional.n_step import Ahead
from wmcomponents.objectives.value_equivalent import ValueEquivalentLoss


class EfficientZeroLoss(ValueEquivalentLoss):
    """EfficientZero's objective: value prefixes in the place of rewards, and latents that agree with encoded ones.

    The whole is divided by K. What lies beyond an episode's end is masked. For everything else see
    :class:`~wmcomponents.objectives.ValueEquivalentLoss`.
    """

    @property
    def absorbing(self) -> bool:
        """Nothing is learned beyond an episode's end."""
        return False

    def step_weights(self, before: Ahead) -> Tensor:
        """1 / K for every step."""
        return torch.full((1, 1, self.unroll + 1), 1.0 / self.unroll, device=before.left.device)
