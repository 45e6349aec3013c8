"""The losses of AVID: the video model's, where it is trained here, then the adapter's beside it."""

from collections.abc import Callable
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from wmcomponents.denoisers import OutputAdapter
from wmcomponents.functional import clipped_snr, snr_weight
from wmcomponents.functional.diffusion.targets import PredictionTarget
from wmcomponents.models.diffusion.avid.base import GivenVideoModel
from wmcomponents.models.diffusion.avid.config import AVIDLossConfig
from wmcomponents.models.diffusion.film_objective import BaseFilmLoss, FilmModel, ForcingOptimizerConfig
from wmcomponents.nn import DiffusionProcess
from wmcomponents.objectives.configured import loss_part
from wmcomponents.objectives.model_loss import Terms, check_model
from wmcomponents.objectives.staged import StagedModelLoss


class AdaptedModel(FilmModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.AVID`, or one made of the same parts.

    Attributes:
        process: levels of noise.
        target: what base and mixture predict.
        context: past frames beside each.
        base: the video model.
        adapter: what takes the actions, and mixes.
    """

    process: DiffusionProcess
    target: PredictionTarget
    context: int
    base: nn.Module
    adapter: OutputAdapter


class AVIDLoss(BaseFilmLoss[AdaptedModel], StagedModelLoss[AdaptedModel]):
    r"""Objective of AVID on TorchRL-layout sequences, in two stages one after the other.

    *Base*: the video model, told no actions, on films that have one level each behind past frames c.

    .. math:: L = w(k)\, \| f(x^k, k, c) - y \|^2, \qquad x^k = \alpha_k x + \sigma_k \epsilon, \qquad
        k \sim U\{0, \ldots, K - 1\}

    *Adapter*: the same loss of the mixture, whose base gets no gradient; with reward and end where the model foretells
    them.

    .. math:: L = w(k)\, \| m \odot f(x^k, k, c) + (1 - m) \odot g(x^k, f, k, c, a) - y \|^2

    where y is what both predict. A base that was handed over is not trained: the first stage is empty then.

    Sequences are cut into pieces of as many frames as past and film have together, each of which counts up to its first
    end of an episode. The stage follows from the step alone. Outside a training loop, say which with :attr:`stage`.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: ``loss_denoising`` and detached ``squared_error``, which is not weighted by levels; in the second
    stage also detached ``mask``, the share that is left to the base, and where the model has the part ``loss_reward``,
    ``loss_termination``.

    Args:
        world_model: an :class:`~wmcomponents.models.AVID`, or one made of the same parts.
        config: numbers of the losses; the authors' if not given.
        optimizer: numbers of AdamW.
        seed: of levels and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for numbers that cannot be; on call, if the sequences have no batch ``[B, T]``, or no frame behind
            the past ones.
        KeyError: on call, if a key is missing.

    Reference: Rigter et al., AVID: Adapting Video Diffusion Models to World Models (2024), section 4.
    """

    stages = ("base", "adapter")

    def __init__(
        self,
        world_model: AdaptedModel,
        config: AVIDLossConfig | None = None,
        *,
        optimizer: ForcingOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, AdaptedModel, type(self))
        self.config = c = loss_part(AVIDLossConfig, config)
        is_weight = c.snr_clip is None or c.snr_clip > 0.0
        if not (c.base_steps >= 0 and is_weight and 0.0 <= c.short_context <= 1.0):
            raise ValueError(
                f"base_steps is at least 0, snr_clip above 0 or None, short_context in [0, 1]; got {c.base_steps}, "
                f"{c.snr_clip} and {c.short_context}."
            )
        self.has_given_base = isinstance(world_model.base, GivenVideoModel)
        self.base_steps = 0 if self.has_given_base else c.base_steps
        super().__init__(world_model, optimizer=optimizer, seed=seed, reduction=reduction)

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        return "base" if step < self.base_steps else "adapter"

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Updates of the base before those of the adapter."""
        return (self.base_steps,)

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        if self.has_given_base and steps != (0,):
            raise ValueError(
                f"the video model was handed over and stays as it is: plan 0 updates of the stage 'base'; got {steps}."
            )
        (self.base_steps,) = steps

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of films: denoising ``[P, T]``, reward and end of past and film, ``[P, M + T - 1]``."""
        model = self.world_model
        films, frames, led = self.clips(tensordict)
        past = model.context
        if frames.shape[1] <= past:
            raise ValueError(
                f"films are drawn behind {past} past frames, so sequences have at least {past} transitions; got "
                f"{frames.shape[1] - 1}: sample longer ones, or build with a smaller context."
            )
        context, clean, weight = self.shown(frames[:, :past]), frames[:, past:], films.weight[:, past:]
        generator, device = self.generator, clean.device
        level = torch.randint(model.process.levels, (len(clean), 1), generator=generator, device=device)
        level = level.expand(clean.shape[:2])
        noise = torch.randn(clean.shape, generator=generator, device=device, dtype=clean.dtype)
        error, mask = self.denoising(context, clean, led[:, past:], level, noise)
        losses, weights = {"denoising": self.level_weight(level) * error}, {"denoising": weight}
        info = {"squared_error": error.detach()}
        if mask is not None:
            info["mask"] = mask.detach().flatten(2).mean(2)
        if self.has_reward and self._stage == "adapter":
            losses |= self.outcome_terms(films, frames, led)
            weights |= dict.fromkeys(("reward", "termination"), films.weight[:, 1:])
        return Terms(losses, info, {**weights, **dict.fromkeys(info, weight)})

    def shown(self, context: Tensor) -> Tensor:
        """Past frames ``[P, M, ...]`` as they are shown: of some films only the newest few, see the config."""
        rows, past = context.shape[:2]
        generator, device = self.generator, context.device
        if past == 1 or self.config.short_context == 0.0:
            return context
        is_short = torch.rand(rows, 1, generator=generator, device=device) < self.config.short_context
        missing = torch.randint(1, past, (rows, 1), generator=generator, device=device) * is_short
        place = torch.maximum(torch.arange(past, device=device), missing)
        return context[torch.arange(rows, device=device)[:, None], place]

    def denoising(
        self, context: Tensor, clean: Tensor, led: Tensor, level: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Squared errors of the present stage's network, ``[P, T]``, mean over a frame; and the mask, if it has one.

        Args:
            context: past frames, ``[P, M, ...]``.
            clean: frames, ``[P, T, ...]``.
            led: vectors of the actions that led to them, ``[P, T, A]``.
            level: of each frame.
            noise: standard normal, of the frames' shape.
        """
        model, mask = self.world_model, None
        noisy = model.process.diffuse(clean, noise, level)
        base: Callable[..., Tensor] = model.base
        if self._stage == "base":
            said = base(noisy, level, context)
        else:
            with torch.no_grad():
                of_base = base(noisy, level, context)
            said, mask = model.adapter.compute(of_base, noisy, level, context, led)
        target = model.target.of(clean, noise, model.process.at(level))
        return (said - target).square().flatten(2).mean(2), mask

    def level_weight(self, level: Tensor) -> Tensor:
        """Weights of frames at levels ``[P, T]``."""
        clip = torch.inf if self.config.snr_clip is None else self.config.snr_clip
        return snr_weight(self.world_model.target, clipped_snr(self.world_model.process.snr(level), clip))

    def _written(self) -> list[NestedKey]:
        if self._stage == "base":
            return ["loss_denoising", "squared_error"]
        rewards: list[NestedKey] = ["loss_reward", "loss_termination"] if self.has_reward else []
        return ["loss_denoising", *rewards, "squared_error", "mask"]
