"""The losses of DIAMOND: denoising on frames of its own making, reward and termination."""

from typing import Any, NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.denoisers import EDMDenoiser
from wmcomponents.functional import cross_entropy
from wmcomponents.functional.edm import edm_target, from_bytes, log_normal_sigma, on_byte_grid, to_bytes, with_noise
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.model_loss import ModelLoss, Terms
from wmcomponents.optim import ClippedAdamW, decayed_names
from wmcomponents.world_model import WorldModel


class StepNoise(NamedTuple):
    """Standard normal noise of one training step of a denoiser, for N rows.

    Attributes:
        sigma: of the noise level, ``[N]``.
        offset: that all pixels of a channel share, ``[N, C, 1, 1]``.
        noise: ``[N, C, H, W]``.
        context: the same three for the context, ``None`` where it has no noise; its channels are those of all frames.
    """

    sigma: Tensor
    offset: Tensor
    noise: Tensor
    context: "StepNoise | None" = None


class FrameSegments(NamedTuple):
    """N windows of L frames of one episode each; what lies before it is padding.

    Attributes:
        frames: float ``[N, L, H, W, C]`` in [-1, 1], zero where padding.
        actions: vectors of the actions taken at each frame but the last, ``[N, L - 1, A]``.
        weight: of each frame as a target, ``[N, L]``; 0 where padding.
        real: false where padding, bool ``[N, L]``.
    """

    frames: Tensor
    actions: Tensor
    weight: Tensor
    real: Tensor


class DiamondLoss(ModelLoss):
    r"""Objective of DIAMOND on TorchRL-layout sequences: two models (three with an upsampler) that share nothing.

    *Denoising*, on windows of the context, one frame and ``autoregressive`` more, each the target in turn:

    .. math:: L = \frac{1}{k} \sum_i \| F(c_{in} \tilde x_i, \ldots) - (x_i - c_{skip} \tilde x_i) / c_{out} \|^2,
        \qquad \tilde x = x + \sigma_{offset} n_1 + \sigma n_2

    with a fresh noise level :math:`\ln \sigma \sim N(loc, scale^2)` for each row and target. What the model makes of
    :math:`\tilde x_i`, quantised and without gradient, stands in the context of the next target, whose truth stays the
    real frame. Windows end at a frame drawn evenly from each training sequence; before an episode's start they hold
    zeros (mid-grey) and the first action.

    *Reward and end*: cross entropies of the reward's sign and of termination, along windows of ``reward_steps``
    transitions, memory zero at their start and at an episode's.

    *Upsampling* (CS:GO): denoising of the large frame, given past large frames and the small one.

    Keys read (rename with ``set_keys``): the observation key, ``action``, ``is_init``; under ``next`` the observation
    key, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and
    ``priority_weight``.

    Keys written: ``loss_denoising``; where the model has the part ``loss_reward``, ``loss_termination``,
    ``loss_upsampling``.

    Args:
        world_model: a :class:`~wmcomponents.models.Diamond`.
        segments: windows of each sequence for the denoisers.
        autoregressive: targets after the first.
        reward_steps: transitions in a window for reward and end; all of the sequence where that is shorter.
        reward_windows: windows of each sequence for reward and end.
        upsampler_autoregressive: as ``autoregressive``, of the upsampler.
        lr: learning rate.
        weight_decay: AdamW's, on weights of linear, convolutional and recurrent layers.
        warmup: steps over which the rate grows from 0.
        max_norm: largest norm of a denoiser's gradient.
        reward_max_norm: likewise of the model of reward and end.
        seed: of windows and noise.
        reduction: of the losses: ``"mean"`` (for denoising over the rows of each target first), ``"sum"`` or
            ``"none"``, element by element.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: on call, if the sequences have no batch ``[B, T]`` or are shorter than a window.
        KeyError: on call, if a key is missing.

    Reference: Alonso et al., DIAMOND (2024), section 3 and appendix.
    """

    def __init__(
        self,
        world_model: WorldModel,
        *,
        segments: int = 1,
        autoregressive: int = 1,
        reward_steps: int = 18,
        reward_windows: int = 1,
        upsampler_autoregressive: int = 1,
        lr: float = 1e-4,
        weight_decay: float = 1e-2,
        warmup: int = 100,
        max_norm: float = 1.0,
        reward_max_norm: float = 100.0,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        model = cast(Any, world_model)
        if not isinstance(getattr(world_model, "denoiser", None), EDMDenoiser):
            raise TypeError(
                f"this loss trains a frame denoiser (models.Diamond); {type(world_model).__name__} has none: use its "
                f"own objective()."
            )
        self.segments, self.autoregressive = segments, autoregressive
        self.reward_steps, self.reward_windows = reward_steps, reward_windows
        self.upsampler_autoregressive = upsampler_autoregressive
        self.has_reward, self.has_upsampler = model.reward_end is not None, model.upsampler is not None
        self.optimization = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup}
        self.norms = {"denoiser": max_norm, "upsampler": max_norm, "reward_end": reward_max_norm}
        self._decayed = decayed_names(world_model)
        super().__init__(world_model, seed=seed, reduction=reduction)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW, with each model's gradient clipped by itself."""
        rate = self.optimization["lr"] if lr is None else lr
        steps = self.optimization["warmup"] if warmup is None else warmup
        groups: dict[tuple[str, bool], list[Tensor]] = {}
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                groups.setdefault((name.split(".")[0], name in self._decayed), []).append(parameter)
        return ClippedAdamW(
            [
                {
                    "params": params,
                    "weight_decay": self.optimization["weight_decay"] if decays else 0.0,
                    "max_norm": self.norms[part],
                    "clip": part,
                }
                for (part, decays), params in groups.items()
            ],
            rate,
            warmup=int(steps),
        )

    def _written(self) -> list[NestedKey]:
        rewards: list[NestedKey] = ["loss_reward", "loss_termination"] if self.has_reward else []
        return ["loss_denoising", *rewards, *(["loss_upsampling"] if self.has_upsampler else [])]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms, on windows and noise drawn anew; denoising ``[N, targets]``, reward and end ``[N, steps]``."""
        model = self.world_model
        arrivals = self.arrivals(tensordict)
        losses: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        context = model.config.context
        segments = self.draw_segments(arrivals, context + 1 + self.autoregressive)
        if self.has_upsampler:
            small = from_bytes(model.downsampled(to_bytes(segments.frames)))
            padding = ~segments.real[:, :, None, None, None]
            losses["denoising"] = self.denoising(segments._replace(frames=small.masked_fill(padding, 0.0)))
            wide = model.config.upsampler.context + 1 + self.upsampler_autoregressive
            large = self.draw_segments(arrivals, wide)
            losses["upsampling"] = self.upsampling(large)
            weights["upsampling"] = _targets(large.weight, self.upsampler_autoregressive)
        else:
            losses["denoising"] = self.denoising(segments)
        weights["denoising"] = _targets(segments.weight, self.autoregressive)
        if self.has_reward:
            losses["reward"], losses["termination"], weight = self._reward_end(tensordict)
            weights["reward"] = weights["termination"] = weight
        return Terms(losses, {}, weights)

    def draw_segments(self, arrivals: Arrivals, length: int) -> FrameSegments:
        """Windows that end at frames drawn evenly among those whose past is known.

        Args:
            arrivals: ``[B, L]`` arrivals.
            length: of a window.

        Raises:
            ValueError: if the sequences are shorter.
        """
        rows, steps = arrivals.weight.shape
        if steps < length:
            raise ValueError(
                f"a training window has {length} frames, and the sequences {steps} (one more than transitions): sample "
                f"sequences of at least {length - 1} steps (sequence_length)."
            )
        device = arrivals.weight.device
        index = torch.arange(steps, device=device)
        first = arrivals.is_init.squeeze(-1)
        start = torch.where(first, index, 0).cummax(1).values  # where the episode of each frame begins, as far as known
        is_whole = (first & arrivals.reward_known.squeeze(-1)).gather(1, start)
        eligible = (arrivals.weight > 0) & (is_whole | (index - start >= length - 1))
        draws = torch.rand(rows, self.segments, steps, generator=self.generator, device=device)
        last = (draws * eligible[:, None]).argmax(-1)  # (B, S)
        place = last[..., None] + torch.arange(1 - length, 1, device=device)  # (B, S, L)
        begin = start.gather(1, last)[..., None]
        is_real = place >= begin
        row = torch.arange(rows, device=device)[:, None, None]
        pixels = arrivals.observation[self.observation_keys[0]][row, place.clamp(min=0)].flatten(0, 1)
        # The action taken at a frame is the one that led to the next; a real frame's next one is real too.
        vector = self.world_model.action_vector(arrivals.action)[row, (place[..., :-1] + 1).clamp(min=0)]
        actions = torch.where(is_real[..., :-1, None], vector, self.world_model.no_action).flatten(0, 1)
        is_real = (is_real & eligible.gather(1, last)[..., None]).flatten(0, 1)
        weight = arrivals.weight[row, place.clamp(min=0)].flatten(0, 1) * is_real
        frames = torch.where(is_real[:, :, None, None, None], from_bytes(pixels), 0.0)
        return FrameSegments(frames, actions, weight, is_real)

    def draw_noise(self, like: Tensor, context: int = 0) -> StepNoise:
        """Fresh noise of a step on images ``[N, C, H, W]``; with that of a context of so many frames, if any."""
        n, c, h, w = like.shape

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=self.generator, device=like.device, dtype=like.dtype)

        planes = c * context
        noised = StepNoise(normal(n), normal(n, planes, 1, 1), normal(n, planes, h, w)) if context else None
        return StepNoise(normal(n), normal(n, c, 1, 1), normal(n, c, h, w), noised)

    def denoising(self, segments: FrameSegments, noise: list[StepNoise] | None = None) -> Tensor:
        """Squared errors of the network, ``[N, targets]``, mean over an image.

        Args:
            segments: windows of (small) frames.
            noise: of each target, and of its context where the configuration says so; drawn if not given.
        """
        model, n = self.world_model, self.world_model.config.context
        noised = n if model.config.denoiser.noised_context else 0
        frames = list(segments.frames.permute(0, 1, 4, 2, 3).unbind(1))
        errors = []
        for i in range(len(frames) - n):
            step = self.draw_noise(frames[0], noised) if noise is None else noise[i]
            context = torch.cat(frames[i : i + n], 1)
            error, frames[i + n] = self._denoise(
                model.denoiser, model.config.denoiser, frames[i + n], context, segments.actions[:, i : i + n], step
            )
            errors.append(error)
        return torch.stack(errors, 1)

    def upsampling(
        self, segments: FrameSegments, small: Tensor | None = None, noise: list[StepNoise] | None = None
    ) -> Tensor:
        """Squared errors of the upsampler's network, ``[N, targets]``.

        Args:
            segments: windows of large frames.
            small: the small ones, floats ``[N, L, h, w, C]``; made from the large if not given.
            noise: of each target; drawn if not given.
        """
        model, n = self.world_model, self.world_model.config.upsampler.context
        if small is None:
            small = from_bytes(model.downsampled(to_bytes(segments.frames)))
        frames = list(segments.frames.permute(0, 1, 4, 2, 3).unbind(1))
        errors = []
        for i in range(len(frames) - n):
            step = self.draw_noise(frames[0]) if noise is None else noise[i]
            context = torch.cat([*frames[i : i + n], model.upsampled(small[:, i + n].permute(0, 3, 1, 2))], 1)
            error, frames[i + n] = self._denoise(
                model.upsampler, model.config.upsampler.denoiser, frames[i + n], context, None, step
            )
            errors.append(error)
        return torch.stack(errors, 1)

    def _denoise(
        self,
        denoiser: EDMDenoiser,
        config: Any,
        target: Tensor,
        context: Tensor,
        actions: Tensor | None,
        step: StepNoise,
    ) -> tuple[Tensor, Tensor]:
        """The error of each row, and what the denoiser makes of the noisy target."""
        spread = (config.loc, config.scale, config.sigma_min, config.sigma_max)
        sigma_context = None
        if step.context is not None:
            sigma_context = log_normal_sigma(step.context.sigma, *spread)
            context = with_noise(context, sigma_context, step.context.noise, step.context.offset, denoiser.sigma_offset)
        sigma = log_normal_sigma(step.sigma, *spread)
        noisy = with_noise(target, sigma, step.noise, step.offset, denoiser.sigma_offset)
        coefficients = denoiser.coefficients(sigma)
        raw = denoiser.raw(noisy, coefficients, context, actions, sigma_context)
        error = (raw - edm_target(target, noisy, coefficients)).square().flatten(1).mean(1)
        return error, on_byte_grid(denoiser.mean(raw.detach(), noisy, coefficients))

    def reward_end(
        self, frames: Tensor, actions: Tensor, following: Tensor, reward: Tensor, terminated: Tensor, begins: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross entropies of reward and end, each ``[N, T]``.

        Args:
            frames: x_t, floats ``[N, T, H, W, C]``.
            actions: vectors of a_t, ``[N, T, A]``.
            following: x_{t+1}, at an episode's end the final one.
            reward: r_{t+1}, ``[N, T]``; its sign counts.
            terminated: bool ``[N, T]``.
            begins: whether an episode begins at x_t, bool ``[N, T, 1]``.
        """
        model = self.world_model
        h = model.reward_end.unroll(model.code(frames, actions, following), begins)
        rewards, ends = model.reward_end.raw(h)
        return (
            model.reward_end.rewards.loss(rewards, reward),
            cross_entropy(ends, terminated.long()),
        )

    def _reward_end(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """The cross entropies on windows of the sequences, and their weights."""
        (rows, steps), key = tensordict.batch_size, self.observation_keys[0]
        length = min(self.reward_steps, steps)
        found = self.transitions(tensordict)
        device = found.weight.device
        begins = found.begins.clone()
        begins[:, 1:] |= found.ends[:, :-1] | ~found.real[:, :-1]
        shape = (rows, self.reward_windows, 1)
        spare = steps - length + 1
        first = (torch.rand(shape, generator=self.generator, device=device) * spare).long().clamp(max=spare - 1)
        place = first + torch.arange(length, device=device)
        row = torch.arange(rows, device=device)[:, None, None]

        def window(value: Tensor) -> Tensor:
            return value[row, place].flatten(0, 1)

        vector = self.world_model.action_vector(tensordict.get(self.tensor_keys.action))
        losses = self.reward_end(
            from_bytes(window(tensordict.get(key))),
            window(vector),
            from_bytes(window(tensordict.get(("next", key)))),
            window(found.reward),
            window(found.terminated),
            window(begins).unsqueeze(-1),
        )
        return *losses, window(found.weight)


def _targets(weight: Tensor, autoregressive: int) -> Tensor:
    """Weights of the targets, so that each target's rows are averaged first, and then the targets that have any."""
    weight = weight[:, -1 - autoregressive :]
    return weight / weight.sum(0).clamp(min=1e-8)
