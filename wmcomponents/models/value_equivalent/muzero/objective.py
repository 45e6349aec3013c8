"""MuZero's loss (Schrittwieser et al., 2020, eq. 1 and appendix G)."""

import torch
from torch import Tensor

from wmcomponents.functional.n_step import EpisodeTail
from wmcomponents.models.value_equivalent.objective import ValueEquivalentLoss


class MuZeroLoss(ValueEquivalentLoss):
    """MuZero's objective, in muzero-general's weighting.

    Steps after the start weigh 1 / min(K, steps left in the game). Beyond a game's end the model is held to absorbing
    states: no reward, no value, a uniform policy, under random actions; unless it has a continue head, with which
    dreams end there, and rewards are those of a dream that goes on. For everything else see
    :class:`~wmcomponents.models.ValueEquivalentLoss`.
    """

    @property
    def absorbing(self) -> bool:
        """As in the paper; but where a head predicts terminations, dreams end, and nothing is to be known beyond."""
        return self.world_model.continue_head is None

    def step_weights(self, before: EpisodeTail) -> Tensor:
        """1 at the start, then 1 / min(K, steps left, the final observation among them)."""
        left = torch.where(before.ends, (before.left + 1).clamp(max=self.unroll), self.unroll)
        steps = torch.arange(self.unroll + 1, device=left.device)
        return torch.where(steps > 0, 1.0 / left.unsqueeze(-1), 1.0)
