"""DreamerV2's world-model loss (Hafner et al., Mastering Atari with Discrete World Models, 2021, eq. 2)."""

from functools import partial

from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import averaged_free_nats, mixed_kl
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v2.config import DreamerV2LossConfig, DreamerV2OptimizerConfig
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise


class DreamerV2ModelLoss(RSSMModelLoss):
    r"""World-model objective of DreamerV2 on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math::
        L = \sum_k L^{rec}_k + L^{rew} + w_c L^{con}
            + \beta (\alpha \max(\overline{KL(sg(q) \| p)}, n) + (1 - \alpha) \max(\overline{KL(q \| sg(p))}, n))

    alpha, the ``balance``, weighs the side that trains the PRIOR. Each side, the two of ``loss_divergence``, is
    averaged over the whole batch before it is compared with the free nats. n is ``free_nats``, beta ``kl_scale``, w_c
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
        ValueError: for an unknown reduction or a balance outside [0, 1]; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    free_nats: Tensor
    kl_scale: Tensor

    def __init__(
        self,
        world_model: RSSMWorldModel,
        config: DreamerV2LossConfig | None = None,
        *,
        optimizer: DreamerV2OptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        c = loss_part(DreamerV2LossConfig, config)
        if not 0 <= c.balance <= 1:
            raise ValueError(f"balance is the prior's share, in [0, 1]; got {c.balance}.")
        super().__init__(
            world_model,
            continue_scale=c.continue_scale,
            coefficients={"free_nats": c.free_nats, "kl_scale": c.kl_scale},
            seed=seed,
            reduction=reduction,
        )
        self.balance = c.balance
        self.optimizer_config = optimizer_part(DreamerV2OptimizerConfig, optimizer)

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """The two sides of the KL ``[B, L]``, each with its mean over the batch clipped."""
        kl = self.world_model.dynamics.latent.kl
        free = partial(averaged_free_nats, nats=self.free_nats, weight=arrivals.weight)
        mixed = mixed_kl(kl, filtered.posterior, prior, self.balance, free)
        return {"divergence": self.kl_scale * mixed}

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam behind a clipped gradient; every step shrinks the weights.

        Args:
            lr: learning rate; the configured one if not given.
            warmup: steps over which the rate grows from 0; the configured ones if not given.
        """
        c = self.optimizer_config
        params = [p for p in self.parameters() if p.requires_grad]
        rate, steps = c.lr if lr is None else lr, c.warmup if warmup is None else warmup
        return ClippedAdam(params, rate, eps=c.eps, max_norm=c.max_norm, decay=c.decay, warmup=steps)
