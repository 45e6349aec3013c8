"""The loss of worlds whose frames each have a noise level of their own."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wmcomponents.functional import clipped_snr, fused_snr, snr_weight
from wmcomponents.functional.diffusion.targets import PredictionTarget
from wmcomponents.models.diffusion.film_objective import Denoising, FilmLoss, FilmModel
from wmcomponents.models.diffusion.film_objective import ForcingOptimizerConfig as ForcingOptimizerConfig
from wmcomponents.models.diffusion.forcing_world import CausalFilmNetwork
from wmcomponents.nn import DiffusionProcess
from wmcomponents.objectives.configured import loss_part
from wmcomponents.objectives.films import Films
from wmcomponents.objectives.model_loss import check_model


@dataclass(frozen=True)
class ForcingLossConfig:
    """Numbers of the losses.

    Attributes:
        snr_clip: the most that a signal to noise ratio counts.
        decay: of the past's ratios in a frame's own, see :func:`~wmcomponents.functional.fused_snr`; the paper's for a
            film of every frame, to the power of the frames from one to the next. 0 weights each frame by itself.
        clip_noise: largest magnitude of the noise.
    """

    snr_clip: float = 5.0
    decay: float = 0.96
    clip_noise: float = 6.0


class ForcingModel(FilmModel, Protocol):
    """What the loss trains: a :class:`~wmcomponents.models.DiffusionForcing`, or a world made of the same parts.

    Attributes:
        process: levels of noise.
        target: what the network predicts.
    """

    process: DiffusionProcess
    target: PredictionTarget

    @property
    def network(self) -> CausalFilmNetwork:
        """What denoises films ``[P, T, ...]`` at levels ``[P, T]``, led by ``[P, T, A]``."""
        ...


class ForcingLoss(FilmLoss[ForcingModel]):
    r"""Objective of Diffusion Forcing on TorchRL-layout sequences: every frame at a level of its own.

    .. math:: L = w(k_{0..t})\, \| f(x^k_{0..t}, k_{0..t}, a_{0..t})_t - y_t \|^2, \qquad
        x^k = \alpha_k x + \sigma_k \epsilon, \qquad k_t \sim U\{0, \ldots, K - 1\}

    where y is what the network predicts, and w the weight by the signal to noise ratio that the frame has in the light
    of those before it.

    Sequences may be longer than the window and cross from episode to episode: they are cut into films of the window's
    length, each of which counts up to its first end of an episode. Where reward and end are foretold, cross entropies
    of the reward's sign and of termination along the films are added, as in DIAMOND.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: ``loss_denoising``, and detached ``squared_error``, which is not weighted by levels; where the model
    has the part ``loss_reward``, ``loss_termination``.

    Args:
        world_model: a :class:`~wmcomponents.models.DiffusionForcing`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: numbers of AdamW; the paper's if not given.
        seed: of levels and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for numbers that cannot be; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Chen et al., Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion (2024), algorithm 1.
    """

    def __init__(
        self,
        world_model: ForcingModel,
        config: ForcingLossConfig | None = None,
        *,
        optimizer: ForcingOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, ForcingModel, type(self))
        self.config = loss_part(ForcingLossConfig, config)
        if not (0.0 <= self.config.decay <= 1.0 and self.config.snr_clip > 0.0 and self.config.clip_noise > 0.0):
            raise ValueError(
                f"decay is in [0, 1], snr_clip and clip_noise are above 0; got {self.config.decay}, "
                f"{self.config.snr_clip} and {self.config.clip_noise}."
            )
        super().__init__(world_model, optimizer=optimizer, seed=seed, reduction=reduction)

    def denoised(self, films: Films, clean: Tensor, led: Tensor) -> Denoising:
        """Errors of films whose frames each have a level of their own."""
        model, shape = self.world_model, films.weight.shape
        level = torch.randint(model.process.levels, shape, generator=self.generator, device=clean.device)
        noise = torch.randn(clean.shape, generator=self.generator, device=clean.device, dtype=clean.dtype)
        error = self.denoising(clean, led, level, noise)
        return Denoising(self.level_weight(level) * error, error, films.weight)

    def denoising(self, clean: Tensor, led: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Squared errors of the network, ``[P, T]``, mean over a frame, not weighted by levels.

        Args:
            clean: frames, ``[P, T, ...]``.
            led: vectors of the actions that led to them, ``[P, T, A]``.
            level: of each frame.
            noise: standard normal, of the frames' shape.
        """
        model = self.world_model
        noise = noise.clamp(-self.config.clip_noise, self.config.clip_noise)
        said = model.network(model.process.diffuse(clean, noise, level), level, led)
        return (said - model.target.of(clean, noise, model.process.at(level))).square().flatten(2).mean(2)

    def level_weight(self, level: Tensor) -> Tensor:
        """Weights of frames at levels ``[P, T]``."""
        c, snr = self.config, self.world_model.process.snr(level)
        kept = fused_snr(snr, c.snr_clip, c.decay) if c.decay > 0.0 else clipped_snr(snr, c.snr_clip)
        return snr_weight(self.world_model.target, kept)
