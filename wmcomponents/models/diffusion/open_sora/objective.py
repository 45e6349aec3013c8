"""The losses of Open-Sora as a world: the autoencoder's first, then that of the flow with given frames."""

from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.functional import (
    GIVEN,
    AlphaSigma,
    VelocityTarget,
    diffused,
    given_frames,
    logit_normal_time,
    shifted_time,
)
from wmcomponents.functional.broadcast import aligned, keep_where
from wmcomponents.models.diffusion.autoencoder_stage import AutoencoderStage, LatentModel
from wmcomponents.models.diffusion.film_objective import Denoising, FilmLoss, FilmModel, ForcingOptimizerConfig
from wmcomponents.models.diffusion.open_sora.config import OpenSoraLossConfig
from wmcomponents.models.diffusion.open_sora.flows import FilmFlow, FlowCondition
from wmcomponents.objectives.configured import loss_part
from wmcomponents.objectives.films import Films
from wmcomponents.objectives.model_loss import Terms, check_model


class FlowModel(FilmModel, LatentModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.OpenSora`, or a world made of the same parts.

    Attributes:
        network: velocities of films.
        shift: how many times the odds of noise are raised.
    """

    network: FilmFlow
    shift: float


class OpenSoraLoss(FilmLoss[FlowModel], AutoencoderStage):  # pyright: ignore[reportMissingTypeArgument]
    r"""Objective of Open-Sora on TorchRL-layout sequences, in two stages one after the other.

    *Autoencoder*: every image by itself, see :class:`~wmcomponents.models.OasisLoss`.

    *Network*: the velocity from data to noise of a film at one time, of which some frames are given as they are.

    .. math:: L = \overline{\| v(x_u, u, a, c)_t - (\epsilon_t - x_t) \|^2}, \qquad
        x_u = (1 - u) x + u \epsilon \text{ where not given}, \qquad u = \frac{r s}{1 + (r - 1) s},
        \quad s = \operatorname{sigmoid}(N(0, 1))

    over frames that are not given; a film counts up to its first end of an episode, behind which nothing is looked at.
    Where reward and end are foretold, cross entropies of the reward's sign and of termination along the films are
    added, as in DIAMOND. The stage follows from the step alone. Outside a training loop, say which with :attr:`stage`.

    Keys read (rename with ``set_keys``): the image, the text where there is one, ``action``, ``is_init``; under
    ``next`` the image, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and
    ``priority_weight``.

    Keys written: in the first stage ``loss_reconstruction``, ``loss_kl``, and detached ``latent_std``; in the second
    ``loss_denoising``, and detached ``squared_error``, the same; where the model has the part ``loss_reward``,
    ``loss_termination``.

    Args:
        world_model: a :class:`~wmcomponents.models.OpenSora`, or one made of the same parts.
        config: numbers of the losses.
        optimizer: numbers of AdamW.
        seed: of times, noise, given frames and hidden texts.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for numbers that cannot be; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Zheng et al., Open-Sora (2024); Esser et al., Scaling Rectified Flow Transformers (2024), section 3.1.
    """

    def __init__(
        self,
        world_model: FlowModel,
        config: OpenSoraLossConfig | None = None,
        *,
        optimizer: ForcingOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, FlowModel, type(self))
        self.config = c = loss_part(OpenSoraLossConfig, config)
        self.settle_autoencoder(c.autoencoder_steps, c.kl_scale, c.worst)
        if not 0.0 <= c.text_dropout <= 1.0 or not c.time_std > 0.0:
            raise ValueError(f"text_dropout is in [0, 1], time_std above 0; got {c.text_dropout} and {c.time_std}.")
        self.shares = [getattr(c.given, kind) for kind in GIVEN]
        given_frames(self.shares, *(torch.zeros(shape) for shape in ((1,), (1, 2), (1, 2))))  # refuses wrong ones
        super().__init__(world_model, optimizer=optimizer, seed=seed, reduction=reduction)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage."""
        return self.autoencoder_terms(tensordict) if self._stage == "autoencoder" else super().elements(tensordict)

    def denoised(self, films: Films, clean: Tensor, led: Tensor) -> Denoising:
        """Errors of the velocity of films at one time each, of which some frames are given."""
        c, (rows, frames) = self.config, films.weight.shape

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=self.generator, device=clean.device)

        normal = torch.randn(rows, generator=self.generator, device=clean.device)
        time = shifted_time(logit_normal_time(normal, c.time_mean, c.time_std), self.world_model.shift)
        assert isinstance(time, Tensor)
        noise = torch.randn(clean.shape, generator=self.generator, device=clean.device, dtype=clean.dtype)
        known = given_frames(self.shares, uniform(rows), uniform(rows, 2), uniform(rows, frames))
        text = films.text
        if text is not None:
            text = keep_where(text.float(), uniform(rows) >= c.text_dropout)
        error = self.velocity_error(clean, time, noise, FlowCondition(known, films.present, led, text))
        return Denoising(error, error, films.weight * ~known)

    def velocity_error(self, clean: Tensor, time: Tensor, noise: Tensor, under: FlowCondition) -> Tensor:
        """Squared errors of the network, ``[P, T]``, mean over a frame; of given frames of no meaning.

        Args:
            clean: frames, ``[P, T, ...]``.
            time: of each film, ``[P]``.
            noise: standard normal, of the frames' shape.
            under: what is given, present, done and said.
        """
        level = AlphaSigma.flow(time)
        film = torch.where(aligned(under.known, clean), clean, diffused(clean, noise, level))
        said = self.world_model.network(film, time, under)
        return (said - VelocityTarget().of(clean, noise, level)).square().flatten(2).mean(2)

    def _written(self) -> list[NestedKey]:
        if self._stage == "autoencoder":
            return [*self.autoencoder_written]
        return super()._written()
