"""Dreamer V1's world-model loss (Hafner et al., Dream to Control, 2020, eq. 10)."""

from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import averaged_free_nats
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v1.config import DreamerV1LossConfig, DreamerV1OptimizerConfig
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise


class DreamerV1ModelLoss(RSSMModelLoss):
    r"""World-model objective of Dreamer V1 on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math::
        L = \sum_k L^{rec}_k + L^{rew} + w_c L^{con} + \beta \max(\overline{KL(q \| p)}, n)

    The divergence, ``loss_divergence``, is averaged over the whole batch BEFORE it is compared with the free nats;
    nothing is balanced: one gradient reaches posterior and prior. n is ``free_nats``, beta ``kl_scale``, w_c
    ``continue_scale``.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        config: weights of the loss; the paper's if not given.
        optimizer: numbers of :meth:`make_optimizer`; the paper's if not given.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    free_nats: Tensor
    kl_scale: Tensor

    def __init__(
        self,
        world_model: RSSMWorldModel,
        config: DreamerV1LossConfig | None = None,
        *,
        optimizer: DreamerV1OptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        c = loss_part(DreamerV1LossConfig, config)
        super().__init__(
            world_model,
            continue_scale=c.continue_scale,
            coefficients={"free_nats": c.free_nats, "kl_scale": c.kl_scale},
            seed=seed,
            reduction=reduction,
        )
        self.optimizer_config = optimizer_part(DreamerV1OptimizerConfig, optimizer)

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """KL ``[B, L]``, its mean over the batch clipped."""
        kl = self.world_model.dynamics.latent.kl(filtered.posterior, prior)
        return {"divergence": self.kl_scale * averaged_free_nats(kl, self.free_nats, arrivals.weight)}

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
