"""DreamerV3's world-model loss (Hafner et al., Mastering Diverse Domains through World Models, eq. 4 and 5)."""

from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import balanced_kl
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3LossConfig, DreamerV3OptimizerConfig
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.optim import LaProp
from wmcomponents.world_model import Noise


class BalancedKLModelLoss(RSSMModelLoss):
    r"""What both generations of DreamerV3 minimise, on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math:: L = \sum_k L^{rec}_k + L^{rew} + L^{con} + \beta_{dyn} L^{dyn} + \beta_{rep} L^{rep}

    The divergences are ``loss_dyn``, which trains the prior, and ``loss_rep``, which trains the posterior; each is
    clipped at the free nats, element by element.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        config: weights of the loss.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    divergence_terms: tuple[str, ...] = ("dyn", "rep")

    free_nats: Tensor
    dyn_scale: Tensor
    rep_scale: Tensor

    def __init__(
        self, world_model: RSSMWorldModel, config: DreamerV3LossConfig, *, seed: int = 0, reduction: str = "mean"
    ) -> None:
        weights = {"free_nats": config.free_nats, "dyn_scale": config.dyn_scale, "rep_scale": config.rep_scale}
        super().__init__(world_model, coefficients=weights, seed=seed, reduction=reduction)

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """KL ``[B, L]`` clipped for each element, once for the prior and once for the posterior."""
        dyn, rep = balanced_kl(self.world_model.dynamics.latent.kl, filtered.posterior, prior, self.free_nats)
        return {"dyn": self.dyn_scale * dyn, "rep": self.rep_scale * rep}


class DreamerV3ModelLoss(BalancedKLModelLoss):
    """World-model objective of DreamerV3; see :class:`BalancedKLModelLoss`.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        config: weights of the loss; the paper's if not given.
        optimizer: numbers of :meth:`make_optimizer`; the paper's if not given.
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
        config: DreamerV3LossConfig | None = None,
        *,
        optimizer: DreamerV3OptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(world_model, loss_part(DreamerV3LossConfig, config), seed=seed, reduction=reduction)
        self.optimizer_config = optimizer_part(DreamerV3OptimizerConfig, optimizer)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """LaProp behind adaptive gradient clipping.

        Args:
            lr: learning rate; the configured one if not given.
            warmup: steps over which the rate grows from 0; the configured ones if not given.
        """
        c = self.optimizer_config
        params = [p for p in self.parameters() if p.requires_grad]
        steps = c.warmup if warmup is None else warmup
        return LaProp(params, c.lr if lr is None else lr, eps=c.eps, agc=c.agc, warmup=steps)
