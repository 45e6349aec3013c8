"""The losses of Oasis: the autoencoder's first, then Diffusion Forcing's over its latents."""

from typing import Protocol

from tensordict import NestedKey, TensorDictBase

from wmcomponents.models.diffusion.autoencoder_stage import AutoencoderStage, LatentModel
from wmcomponents.models.diffusion.forcing_objective import ForcingLoss, ForcingModel, ForcingOptimizerConfig
from wmcomponents.models.diffusion.oasis.config import OasisLossConfig
from wmcomponents.objectives.configured import loss_part
from wmcomponents.objectives.model_loss import Terms, check_model


class LatentForcingModel(ForcingModel, LatentModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.Oasis`, or one made of the same parts."""


class OasisLoss(ForcingLoss, AutoencoderStage):  # pyright: ignore[reportMissingTypeArgument]
    r"""Objective of Oasis on TorchRL-layout sequences, in two stages one after the other.

    *Autoencoder*: every image by itself.

    .. math:: L = \overline{(x - \hat x(z))^2} + s\, \overline{KL(q(z | x) \| N(0, 1))}

    *Network*: :class:`~wmcomponents.models.ForcingLoss` over the latents' means, of the autoencoder of that moment,
    which gets no gradient; with reward and end where the model foretells them.

    The stage follows from the step alone. Outside a training loop, say which with :attr:`stage`. How Oasis was trained
    is not published: a level for each frame is what its authors say, the rest is Diffusion Forcing's.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the first stage ``loss_reconstruction``, ``loss_kl``, and detached ``latent_std``; in the second
    those of :class:`~wmcomponents.models.ForcingLoss`.

    Args:
        world_model: a :class:`~wmcomponents.models.Oasis`, or one made of the same parts.
        config: numbers of the losses.
        optimizer: numbers of AdamW.
        seed: of levels and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for numbers that cannot be; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    def __init__(
        self,
        world_model: LatentForcingModel,
        config: OasisLossConfig | None = None,
        *,
        optimizer: ForcingOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, LatentForcingModel, type(self))
        c = loss_part(OasisLossConfig, config)
        self.settle_autoencoder(c.autoencoder_steps, c.kl_scale, c.worst)
        super().__init__(world_model, c, optimizer=optimizer, seed=seed, reduction=reduction)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage."""
        return self.autoencoder_terms(tensordict) if self._stage == "autoencoder" else super().elements(tensordict)

    def _written(self) -> list[NestedKey]:
        if self._stage == "autoencoder":
            return [*self.autoencoder_written]
        return super()._written()
