"""PlaNet's loss (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019, eq. 3 and 7)."""

import torch
from torch import Tensor
from torch.optim import Optimizer
from torchrl.data import Composite

from wmcomponents._global_batch import global_sum
from wmcomponents.functional import excess_nats
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.models.rssm.planet.config import PlaNetLossConfig, PlaNetOptimizerConfig
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise, NoiseSource

OVERSHOOTING = "overshooting"
"""Name of the noise of open-loop steps, and of their loss."""


class PlaNetModelLoss(RSSMModelLoss):
    r"""World-model objective of PlaNet on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math::
        L = \sum_k L^{rec}_k + w_r L^{rew} + \beta \max(KL(q_t \| p_t) - n, 0)
        + \frac{\beta_o}{D - 1} \sum_{d=2}^{D} \max(KL(sg(q_t) \| p_{t|t-d}) - n, 0)

    Latent overshooting, ``loss_overshooting``, unrolls the prior from every posterior over up to D steps without
    observations, with samples, and compares it with the posteriors that it should have arrived at; these are not moved
    by it. An open-loop step across the beginning of an episode, or through padding, counts for nothing. The released
    agent trains without. n is ``free_nats``, beta ``kl_scale``, w_r ``reward_scale``, D ``overshooting``, beta_o
    ``overshooting_scale``.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        config: weights of the loss; the paper's if not given.
        optimizer: numbers of :meth:`make_optimizer`; the paper's if not given.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for negative overshooting or an unknown reduction; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    free_nats: Tensor
    kl_scale: Tensor
    overshooting_scale: Tensor

    def __init__(
        self,
        world_model: RSSMWorldModel,
        config: PlaNetLossConfig | None = None,
        *,
        optimizer: PlaNetOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        c = loss_part(PlaNetLossConfig, config)
        if c.overshooting < 0:
            raise ValueError(f"overshooting is a number of steps, at least 0; got {c.overshooting}.")
        self.distance = c.overshooting
        if self.distance > 1:
            self.divergence_terms = ("divergence", OVERSHOOTING)
        super().__init__(
            world_model,
            reward_scale=c.reward_scale,
            continue_scale=c.continue_scale,
            coefficients={
                "free_nats": c.free_nats,
                "kl_scale": c.kl_scale,
                "overshooting_scale": c.overshooting_scale,
            },
            seed=seed,
            reduction=reduction,
        )
        self._open_loop = NoiseSource(Composite({OVERSHOOTING: world_model.dynamics.latent.noise_spec()}))
        self.optimizer_config = optimizer_part(PlaNetOptimizerConfig, optimizer)

    def draw(self, arrivals: Arrivals) -> Noise | None:
        """The base's noise, and that of open-loop steps: ``[B, L, D, *latent.noise_shape]``."""
        noise = super().draw(arrivals)
        if self.distance > 1:
            steps = self._open_loop((*arrivals.is_init.shape[:-1], self.distance), self.generator)
            noise = {**(noise or {}), **steps}
        return noise

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """Excess over the free nats of each element's KL, and of that of latent overshooting, ``[B, L]``."""
        kl = self.world_model.dynamics.latent.kl(filtered.posterior, prior)
        losses = {"divergence": self.kl_scale * excess_nats(kl, self.free_nats)}
        if self.distance > 1:
            losses[OVERSHOOTING] = self.overshooting_scale * self._overshoot(filtered, arrivals, noise)
        return losses

    def _overshoot(self, filtered: Filtered, arrivals: Arrivals, noise: Noise | None) -> Tensor:
        """Excess KL at the distances 2..D, ``[B, L]``; its weighted mean is that over all pairs within an episode."""
        dynamics, length = self.world_model.dynamics, arrivals.is_init.shape[1]
        deter, stoch, action = filtered.deter, filtered.stoch, filtered.action
        target, weight = filtered.posterior.detach(), arrivals.weight
        total, count = torch.zeros_like(weight), weight.new_zeros(())
        continues = ~arrivals.is_init.squeeze(-1)
        same_episode = torch.ones_like(continues)
        base = None if noise is None else noise[OVERSHOOTING]
        for distance in range(1, min(self.distance, length - 1) + 1):
            # Row i of what remains began at arrival i and now arrives at i + distance.
            deter, stoch, prior = dynamics.imagine_step(
                deter[:, : length - distance],
                stoch[:, : length - distance],
                action[:, distance:],
                None if base is None else base[:, distance:, distance - 1],
            )
            same_episode = same_episode[:, : length - distance] & continues[:, distance:]
            if distance == 1:
                continue  # the divergence itself
            kl = excess_nats(dynamics.latent.kl(target[:, distance:], prior), self.free_nats)
            counted = torch.where(same_episode, kl, torch.zeros_like(kl))
            total = total + torch.nn.functional.pad(counted, (distance, 0))
            count = count + (same_episode * weight[:, distance:]).sum()
        return total * (global_sum(weight.sum()) / global_sum(count).clamp_min(1e-8))

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
