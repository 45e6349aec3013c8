"""The losses of Oasis: the autoencoder's first, then Diffusion Forcing's over its latents."""

from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase

from wmcomponents.models.diffusion.forcing_objective import ForcingLoss, ForcingModel, ForcingOptimizerConfig
from wmcomponents.models.diffusion.oasis.config import OasisLossConfig
from wmcomponents.objectives.configured import loss_part
from wmcomponents.objectives.model_loss import Terms, check_model
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.tokenizers import LatentTokenizer
from wmcomponents.tokenizers.image import network_image


class LatentForcingModel(ForcingModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.Oasis`, or one made of the same parts.

    Attributes:
        tokenizer: images as latents, and back.
    """

    tokenizer: LatentTokenizer


class OasisLoss(ForcingLoss, StagedModelLoss):  # pyright: ignore[reportMissingTypeArgument]
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

    stages = ("autoencoder", "network")

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
        if c.autoencoder_steps < 0 or c.kl_scale < 0.0:
            raise ValueError(
                f"autoencoder_steps and kl_scale are at least 0; got {c.autoencoder_steps} and {c.kl_scale}."
            )
        self.autoencoder_steps, self.kl_scale = c.autoencoder_steps, c.kl_scale
        super().__init__(world_model, c, optimizer=optimizer, seed=seed, reduction=reduction)

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        return "autoencoder" if step < self.autoencoder_steps else "network"

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Updates of the autoencoder before those of the network."""
        return (self.autoencoder_steps,)

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        (self.autoencoder_steps,) = steps

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage."""
        return self.autoencoder_terms(tensordict) if self._stage == "autoencoder" else super().elements(tensordict)

    def autoencoder_terms(self, tensordict: TensorDictBase) -> Terms:
        """Losses of the autoencoder, of each image, ``[B, L]``, with fresh noise."""
        arrivals = self.arrivals(tensordict)
        part = self.world_model.tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        pixels = arrivals.observation[self.observation_keys[0]]
        lead, image = pixels.shape[:2], network_image(pixels.flatten(0, 1))
        moments = part.moments(image)
        noise = torch.randn(moments.mean.shape, generator=self.generator, device=image.device, dtype=image.dtype)
        error = (part.decode(part.scaled(moments.drawn(noise))) - image).square().flatten(1).mean(1)
        mean, log_variance = moments
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).flatten(1).mean(1)
        spread = part.scaled(mean.detach()).flatten(1).std(1)
        losses = {"reconstruction": error, "kl": self.kl_scale * kl}
        rows = {key: value.unflatten(0, lead) for key, value in losses.items()}
        return Terms(rows, {"latent_std": spread.unflatten(0, lead)}, arrivals.weight)

    def _written(self) -> list[NestedKey]:
        if self._stage == "autoencoder":
            return ["loss_reconstruction", "loss_kl", "latent_std"]
        return super()._written()
