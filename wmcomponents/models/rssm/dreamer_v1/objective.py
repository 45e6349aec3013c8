"""Dreamer V1's world-model loss (Hafner et al., Dream to Control, 2020, eq. 10)."""

from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import averaged_free_nats
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise


class DreamerV1ModelLoss(RSSMModelLoss):
    r"""World-model objective of Dreamer V1 on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math::
        L = \sum_k L^{rec}_k + L^{rew} + w_c L^{con} + \beta \max(\overline{KL(q \| p)}, n)

    The divergence, ``loss_divergence``, is averaged over the whole batch BEFORE it is compared with the free nats;
    nothing is balanced: one gradient reaches posterior and prior.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        free_nats: a mean KL below this has no gradient.
        kl_scale: weight of the divergence; paper: 1, on Atari 0.1.
        continue_scale: weight of the continue head's error.
        discount: the continue head learns ``discount * (1 - terminated)``.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
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
        *,
        free_nats: float = 3.0,
        kl_scale: float = 1.0,
        continue_scale: float = 10.0,
        discount: float = 0.99,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            world_model,
            continue_scale=continue_scale,
            discount=discount,
            coefficients={"free_nats": free_nats, "kl_scale": kl_scale},
            seed=seed,
            reduction=reduction,
        )

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """KL, its mean over the batch clipped."""
        kl = self.world_model.dynamics.latent.kl(filtered.posterior, prior)
        return {"divergence": self.kl_scale * averaged_free_nats(kl, self.free_nats, arrivals.weight)}

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam at 6e-4, the gradient's norm clipped at 100, without warm-up.

        Args:
            lr: learning rate; the paper's if not given.
            warmup: warm-up steps; none if not given.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        return ClippedAdam(params, 6e-4 if lr is None else lr, eps=1e-7, max_norm=100.0, warmup=warmup or 0)
