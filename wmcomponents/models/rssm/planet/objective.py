"""PlaNet's loss (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019, eq. 3 and 7)."""

import torch
from torch import Tensor
from torch.optim import Optimizer
from torchrl.data import Composite

from wmcomponents.functional import excess_nats
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise, NoiseSource

OVERSHOOTING = "overshooting"
"""Name of the noise of open-loop steps, and of their loss."""


class PlaNetModelLoss(RSSMModelLoss):
    r"""World-model objective of PlaNet on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math::
        L = \sum_k L^{rec}_k + w_r L^{rew} + \beta \max(KL(q_t \| p_t) - n, 0)
        + \frac{\beta_o}{D - 1} \sum_{d=2}^{D} \max(KL(sg(q_t) \| p_{t|t-d}) - n, 0)

    Latent overshooting, ``loss_overshooting``, unrolls the prior from every posterior over up to ``distance`` steps
    without observations, with samples, and compares it with the posteriors that it should have arrived at; these are
    not moved by it. An open-loop step across the beginning of an episode, or through padding, counts for nothing. The
    released agent trains without.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        free_nats: subtracted from each element's KL; below it there is neither loss nor gradient.
        kl_scale: weight of the divergence.
        distance: longest distance of latent overshooting, in steps; 0 and 1: none.
        overshooting_scale: weight of latent overshooting.
        reward_scale: weight of the reward's error.
        continue_scale: weight of the continue head's error, which the paper does not have.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for a negative distance or an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    free_nats: Tensor
    kl_scale: Tensor
    overshooting_scale: Tensor

    def __init__(
        self,
        world_model: RSSMWorldModel,
        *,
        free_nats: float = 3.0,
        kl_scale: float = 1.0,
        distance: int = 0,
        overshooting_scale: float = 1.0,
        reward_scale: float = 10.0,
        continue_scale: float = 1.0,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if distance < 0:
            raise ValueError(f"distance of latent overshooting is a number of steps, at least 0; got {distance}.")
        self.distance = distance
        if distance > 1:
            self.divergence_terms = ("divergence", OVERSHOOTING)
        super().__init__(
            world_model,
            reward_scale=reward_scale,
            continue_scale=continue_scale,
            coefficients={
                "free_nats": free_nats,
                "kl_scale": kl_scale,
                "overshooting_scale": overshooting_scale,
            },
            seed=seed,
            reduction=reduction,
        )
        spec = Composite({OVERSHOOTING: world_model.dynamics.latent.noise_spec()})
        self._open_loop = NoiseSource(spec)

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
        """What is left of each element's KL, and of that of latent overshooting."""
        kl = self.world_model.dynamics.latent.kl(filtered.posterior, prior)
        losses = {"divergence": self.kl_scale * excess_nats(kl, self.free_nats)}
        if self.distance > 1:
            losses[OVERSHOOTING] = self.overshooting_scale * self._overshoot(filtered, arrivals, noise)
        return losses

    def _overshoot(self, filtered: Filtered, arrivals: Arrivals, noise: Noise | None) -> Tensor:
        """What is left of the KL at the distances 2..D, ``[B, L]``; its weighted mean is that over all valid pairs."""
        dynamics, length = self.world_model.dynamics, arrivals.is_init.shape[1]
        deter, stoch, action = filtered.deter, filtered.stoch, filtered.action
        target, weight = filtered.posterior.detach(), arrivals.weight
        total, count = torch.zeros_like(weight), weight.new_zeros(())
        goes_on = ~arrivals.is_init.squeeze(-1)
        joined = torch.ones_like(goes_on)
        base = None if noise is None else noise[OVERSHOOTING]
        for distance in range(1, min(self.distance, length - 1) + 1):
            # Row i of what remains began at arrival i and now arrives at i + distance.
            deter, stoch, prior = dynamics.imagine_step(
                deter[:, : length - distance],
                stoch[:, : length - distance],
                action[:, distance:],
                None if base is None else base[:, distance:, distance - 1],
            )
            joined = joined[:, : length - distance] & goes_on[:, distance:]
            if distance == 1:
                continue  # the divergence itself
            kl = excess_nats(dynamics.latent.kl(target[:, distance:], prior), self.free_nats)
            left = torch.where(joined, kl, torch.zeros_like(kl))
            total = total + torch.nn.functional.pad(left, (distance, 0))
            count = count + (joined * weight[:, distance:]).sum()
        return total * (weight.sum() / count.clamp_min(1e-8))

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam at 1e-3 with an epsilon of 1e-4, the gradient's norm clipped at 1000, without warm-up.

        Args:
            lr: learning rate; the paper's if not given.
            warmup: warm-up steps; none if not given.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        return ClippedAdam(params, 1e-3 if lr is None else lr, eps=1e-4, max_norm=1000.0, warmup=warmup or 0)
