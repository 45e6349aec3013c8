"""The world-model loss of DreamerV3's preprint (Hafner et al., arXiv 2301.04104v1, 2023)."""

from torch.optim import Optimizer

from wmcomponents.models.rssm.base import RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3.objective import DreamerV3ModelLoss
from wmcomponents.optim import ClippedAdam


class DreamerV3PreprintModelLoss(DreamerV3ModelLoss):
    """DreamerV3's objective as its preprint has it: dynamics loss weighted by 0.5, hard continue targets, Adam.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        free_nats: KL below this has no gradient; per element, summed over the latent's groups.
        dyn_scale: weight of the dynamics loss.
        rep_scale: weight of the representation loss.
        discount: the continue head learns ``discount * (1 - terminated)``; the preprint multiplies with its discount
            outside the head.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``).

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    def __init__(
        self,
        world_model: RSSMWorldModel,
        *,
        free_nats: float = 1.0,
        dyn_scale: float = 0.5,
        rep_scale: float = 0.1,
        discount: float = 1.0,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            world_model,
            free_nats=free_nats,
            dyn_scale=dyn_scale,
            rep_scale=rep_scale,
            discount=discount,
            seed=seed,
            reduction=reduction,
        )

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam at 1e-4, the gradient's norm clipped at 1000, without warm-up.

        Args:
            lr: learning rate; the preprint's if not given.
            warmup: warm-up steps; none if not given.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        return ClippedAdam(params, 1e-4 if lr is None else lr, eps=1e-8, max_norm=1000.0, warmup=warmup or 0)
