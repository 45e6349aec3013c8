"""DreamerV2's world-model loss (Hafner et al., Mastering Atari with Discrete World Models, 2021, eq. 2)."""

from functools import partial
from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import averaged_free_nats, mixed_kl
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise


class DreamerV2ModelLoss(RSSMModelLoss):
    r"""World-model objective of DreamerV2 on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math::
        L = \sum_k L^{rec}_k + L^{rew} + w_c L^{con}
            + \beta (\alpha \max(\overline{KL(sg(q) \| p)}, n) + (1 - \alpha) \max(\overline{KL(q \| sg(p))}, n))

    The balance alpha weighs the side that trains the PRIOR. Each side, the two of ``loss_divergence``, is averaged over
    the whole batch before it is compared with the free nats.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        balance: alpha.
        free_nats: a mean KL below this has no gradient; official: 0 on Atari, 1 on the DeepMind Control Suite.
        kl_scale: beta; official: 0.1 on Atari, 1 on the DeepMind Control Suite.
        continue_scale: weight of the continue head's error; official: 5 on Atari.
        discount: the continue head learns ``discount * (1 - terminated)``.
        lr: learning rate of :meth:`make_optimizer`; official: 2e-4 on Atari, 3e-4 on the DeepMind Control Suite.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for an unknown reduction or a balance outside [0, 1]; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    divergence_terms: ClassVar[tuple[str, ...]] = ("divergence",)

    free_nats: Tensor
    kl_scale: Tensor

    def __init__(
        self,
        world_model: RSSMWorldModel,
        *,
        balance: float = 0.8,
        free_nats: float = 0.0,
        kl_scale: float = 1.0,
        continue_scale: float = 1.0,
        discount: float = 0.999,
        lr: float = 2e-4,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if not 0 <= balance <= 1:
            raise ValueError(f"balance is the prior's share, in [0, 1]; got {balance}.")
        super().__init__(
            world_model,
            continue_scale=continue_scale,
            discount=discount,
            coefficients={"free_nats": free_nats, "kl_scale": kl_scale},
            seed=seed,
            reduction=reduction,
        )
        self.balance, self.lr = balance, lr

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """The two sides of the KL, each with its mean over the batch clipped."""
        kl = self.world_model.dynamics.latent.kl
        free = partial(averaged_free_nats, nats=self.free_nats, weight=arrivals.weight)
        mixed = mixed_kl(kl, filtered.posterior, prior, self.balance, free)
        return {"divergence": self.kl_scale * mixed}

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam, the gradient's norm clipped at 100, every weight shrunk by 1e-6 a step; without warm-up.

        Args:
            lr: learning rate; the objective's own if not given.
            warmup: warm-up steps; none if not given.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        rate = self.lr if lr is None else lr
        return ClippedAdam(params, rate, eps=1e-5, max_norm=100.0, decay=1e-6, warmup=warmup or 0)
