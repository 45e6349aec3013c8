"""MuZero's loss (Schrittwieser et al., 2020, eq. 1 and appendix G)."""

import torch
from torch import Tensor

from wmcomponents.functional.n_step import EpisodeTail
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel
from wmcomponents.models.value_equivalent.muzero.config import MuZeroLossConfig, MuZeroOptimizerConfig
from wmcomponents.models.value_equivalent.objective import ValueEquivalentLoss
from wmcomponents.objectives.configured import loss_part, optimizer_part


class MuZeroLoss(ValueEquivalentLoss):
    """MuZero's objective, in muzero-general's weighting.

    Steps after the start weigh 1 / min(K, steps left in the game). Beyond a game's end the model is held to absorbing
    states: no reward, no value, a uniform policy, under random actions; unless it has a continue head, with which
    dreams end there, and rewards are those of a dream that goes on. For everything else see
    :class:`~wmcomponents.models.ValueEquivalentLoss`.

    Args:
        world_model: a MuZero.
        config: numbers of the loss.
        optimizer: numbers of :meth:`make_optimizer`.
        seed: of starts and random actions.
        reduction: of the losses: ``"mean"``, ``"sum"`` or ``"none"`` (``[B, S]``).
    """

    def __init__(
        self,
        world_model: ValueEquivalentModel,
        config: MuZeroLossConfig | None = None,
        *,
        optimizer: MuZeroOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        config = loss_part(MuZeroLossConfig, config)
        optimizer = optimizer_part(MuZeroOptimizerConfig, optimizer)
        super().__init__(world_model, config, optimizer=optimizer, seed=seed, reduction=reduction)

    @property
    def absorbing(self) -> bool:
        """As in the paper; but where a head predicts terminations, dreams end, and nothing is to be known beyond."""
        return self.world_model.continue_head is None

    def step_weights(self, tail: EpisodeTail) -> Tensor:
        """1 at the start, then 1 / min(K, steps left, the final observation among them); ``[B, S, K + 1]``.

        Args:
            tail: what is known of the episode after each start, ``[B, S]``.
        """
        left = torch.where(tail.terminates, (tail.steps_remaining + 1).clamp(max=self.unroll), self.unroll)
        steps = torch.arange(self.unroll + 1, device=left.device)
        return torch.where(steps > 0, 1.0 / left.unsqueeze(-1), 1.0)
