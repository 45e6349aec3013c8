"""DreamerV3's world-model loss (Hafner et al., Mastering Diverse Domains through World Models, eq. 4 and 5)."""

from torch import Tensor

from wmcomponents.functional import balanced_kl
from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.models.rssm.objective import RSSMModelLoss
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.world_model import Noise


class DreamerV3ModelLoss(RSSMModelLoss):
    r"""World-model objective of DreamerV3 on TorchRL-layout sequences; see :class:`RSSMModelLoss` for keys.

    .. math:: L = \sum_k L^{rec}_k + L^{rew} + L^{con} + \beta_{dyn} L^{dyn} + \beta_{rep} L^{rep}

    The divergences are ``loss_dyn``, which trains the prior, and ``loss_rep``, which trains the posterior.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        free_nats: KL below this has no gradient; per element, summed over the latent's groups.
        dyn_scale: weight of the dynamics loss (1.0; 0.5 in the 2023 generation).
        rep_scale: weight of the representation loss.
        discount: the continue head learns ``discount * (1 - terminated)``, official 1 - 1/333.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
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
        self,
        world_model: RSSMWorldModel,
        *,
        free_nats: float = 1.0,
        dyn_scale: float = 1.0,
        rep_scale: float = 0.1,
        discount: float = 1.0 - 1.0 / 333,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            world_model,
            discount=discount,
            coefficients={"free_nats": free_nats, "dyn_scale": dyn_scale, "rep_scale": rep_scale},
            seed=seed,
            reduction=reduction,
        )

    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """KL clipped for each element, once for the prior and once for the posterior."""
        kl = self.world_model.dynamics.latent.kl
        dyn, rep = balanced_kl(kl, filtered.posterior, prior, self.free_nats)
        return {"dyn": self.dyn_scale * dyn, "rep": self.rep_scale * rep}
