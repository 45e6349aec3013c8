"""The world-model loss of DreamerV3's preprint (Hafner et al., arXiv 2301.04104v1, 2023)."""

from torch.optim import Optimizer

from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3.objective import BalancedKLModelLoss
from wmcomponents.models.rssm.dreamer_v3_preprint.config import (
    DreamerV3PreprintLossConfig,
    DreamerV3PreprintOptimizerConfig,
)
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.optim import ClippedAdam


class DreamerV3PreprintModelLoss(BalancedKLModelLoss):
    """DreamerV3's objective as its preprint has it: dynamics loss weighted by 0.5, hard continue targets, Adam.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        config: weights of the loss; the preprint's if not given.
        optimizer: numbers of :meth:`make_optimizer`; the preprint's if not given.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``).

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    def __init__(
        self,
        world_model: RSSMWorldModel,
        config: DreamerV3PreprintLossConfig | None = None,
        *,
        optimizer: DreamerV3PreprintOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(world_model, loss_part(DreamerV3PreprintLossConfig, config), seed=seed, reduction=reduction)
        self.optimizer_config = optimizer_part(DreamerV3PreprintOptimizerConfig, optimizer)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam behind a clipped gradient.

        Args:
            lr: learning rate; the configured one if not given.
            warmup: steps over which the rate grows from 0; the configured ones if not given.
        """
        c = self.optimizer_config
        params = [p for p in self.parameters() if p.requires_grad]
        steps = c.warmup if warmup is None else warmup
        return ClippedAdam(params, c.lr if lr is None else lr, eps=c.eps, max_norm=c.max_norm, warmup=steps)
