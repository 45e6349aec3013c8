"""The losses of DIAMOND: denoising on frames of its own making, reward and termination."""

from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer

from wmcomponents.codecs import ActionVector
from wmcomponents.denoisers import EDMDenoiser
from wmcomponents.functional import cross_entropy
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.functional.edm import edm_target, from_bytes, log_normal_sigma, on_byte_grid, to_bytes, with_noise
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.diamond.config import (
    DiamondConfig,
    DiamondLossConfig,
    DiamondOptimizerConfig,
    NoiseLevelConfig,
)
from wmcomponents.models.diffusion.diamond.segments import (
    DenoisingNoise,
    FrameSegments,
    pieces_drawn,
    target_weight,
    windows_drawn,
)
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.optim import ClippedAdamW, decayed_names


class FrameDiffusionModel(TrainableModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.Diamond`, or a model made of the same parts.

    Attributes:
        config: its config.
        denoiser: of (small) frames.
        reward_end: of reward and termination, if any.
        upsampler: of large frames, if any.
        action_vector: actions as vectors.
        no_action: vector that stands where there was no action, ``[A]``.
    """

    config: DiamondConfig
    denoiser: EDMDenoiser
    reward_end: RewardEndHead | None
    upsampler: EDMDenoiser | None
    action_vector: ActionVector
    no_action: Tensor

    def code(self, frame: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """What the memory reads of transitions between float frames ``[*B, H, W, C]``: ``[*B, F]``."""
        ...

    def downsampled(self, pixels: Tensor) -> Tensor:
        """Large frames as small ones, uint8 ``[*B, H, W, C]``."""
        ...

    def upsampled(self, small: Tensor) -> Tensor:
        """Small float images ``[n, C, H, W]`` as the upsampler's network sees them."""
        ...


class DiamondLoss(ModelLoss[FrameDiffusionModel]):
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
        config: windows and noise of training; the defaults if not given.
        optimizer: numbers of AdamW; the paper's if not given.
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
        world_model: FrameDiffusionModel,
        config: DiamondLossConfig | None = None,
        *,
        optimizer: DiamondOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, FrameDiffusionModel, type(self))
        self.config = loss_part(DiamondLossConfig, config)
        self.optimizer_config = optimizer_part(DiamondOptimizerConfig, optimizer)
        self.has_reward, self.has_upsampler = world_model.reward_end is not None, world_model.upsampler is not None
        parts: dict[str, nn.Module | None] = {
            "denoiser": world_model.denoiser,
            "reward_end": world_model.reward_end,
            "upsampler": world_model.upsampler,
        }
        self._decayed = {
            f"{part}.{name}" for part, module in parts.items() if module is not None for name in decayed_names(module)
        }
        super().__init__(world_model, seed=seed, reduction=reduction)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW, with each model's gradient clipped by itself.

        Args:
            lr: learning rate; the config's if not given.
            warmup: steps over which the rate grows from 0; the config's if not given.
        """
        c = self.optimizer_config
        groups: dict[tuple[str, bool], list[Tensor]] = {}
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                groups.setdefault((name.split(".")[0], name in self._decayed), []).append(parameter)
        return ClippedAdamW(
            [
                {
                    "params": params,
                    "weight_decay": c.weight_decay if decays else 0.0,
                    "max_norm": c.reward_max_norm if part == "reward_end" else c.max_norm,
                    "clip": part,
                }
                for (part, decays), params in groups.items()
            ],
            c.lr if lr is None else lr,
            warmup=c.warmup if warmup is None else warmup,
        )

    def _written(self) -> list[NestedKey]:
        rewards: list[NestedKey] = ["loss_reward", "loss_termination"] if self.has_reward else []
        return ["loss_denoising", *rewards, *(["loss_upsampling"] if self.has_upsampler else [])]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms, on windows and noise drawn anew; denoising ``[N, targets]``, reward and end ``[N, steps]``."""
        model, c, up = self.world_model, self.config, self.world_model.config.network.upsampler
        arrivals = self.arrivals(tensordict)
        losses: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        segments = self.draw_segments(arrivals, model.config.network.context + 1 + c.autoregressive)
        if up is not None:
            small = from_bytes(model.downsampled(to_bytes(segments.frames)))
            losses["denoising"] = self.denoising(segments._replace(frames=keep_where(small, segments.real)))
            large = self.draw_segments(arrivals, up.context + 1 + c.upsampler_autoregressive)
            losses["upsampling"] = self.upsampling(large)
            weights["upsampling"] = target_weight(large.weight, c.upsampler_autoregressive)
        else:
            losses["denoising"] = self.denoising(segments)
        weights["denoising"] = target_weight(segments.weight, c.autoregressive)
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
        windows = windows_drawn(arrivals, length, self.config.segments, self.generator)
        row = torch.arange(len(windows.place), device=windows.place.device)[:, None, None]
        place, is_real = windows.place.clamp(min=0), windows.in_episode
        pixels = arrivals.observation[self.observation_keys[0]][row, place].flatten(0, 1)
        # The action taken at a frame is the one that led to the next; a real frame's next one is real too.
        vector = self.world_model.action_vector(arrivals.action)[row, (windows.place[..., :-1] + 1).clamp(min=0)]
        actions = torch.where(is_real[..., :-1, None], vector, self.world_model.no_action).flatten(0, 1)
        is_real = (is_real & windows.counts).flatten(0, 1)
        weight = arrivals.weight[row, place].flatten(0, 1) * is_real
        return FrameSegments(keep_where(from_bytes(pixels), is_real), actions, weight, is_real)

    def denoising(self, segments: FrameSegments, noise: list[DenoisingNoise] | None = None) -> Tensor:
        """Squared errors of the network, ``[N, targets]``, mean over an image.

        Args:
            segments: windows of (small) frames.
            noise: of each target, and of its context where the configuration says so; drawn if not given.
        """
        model, n = self.world_model, self.world_model.config.network.context
        noised = n if model.config.network.denoiser.noised_context else 0
        frames = list(segments.frames.permute(0, 1, 4, 2, 3).unbind(1))
        errors = []
        for i in range(len(frames) - n):
            step = DenoisingNoise.drawn(frames[0], noised, self.generator) if noise is None else noise[i]
            context = torch.cat(frames[i : i + n], 1)
            error, frames[i + n] = self._denoise(
                model.denoiser, self.config.noise, frames[i + n], context, segments.actions[:, i : i + n], step
            )
            errors.append(error)
        return torch.stack(errors, 1)

    def upsampling(
        self, segments: FrameSegments, small: Tensor | None = None, noise: list[DenoisingNoise] | None = None
    ) -> Tensor:
        """Squared errors of the upsampler's network, ``[N, targets]``.

        Args:
            segments: windows of large frames.
            small: the small ones, floats ``[N, L, h, w, C]``; made from the large if not given.
            noise: of each target; drawn if not given.
        """
        model, sizes = self.world_model, self.world_model.config.network.upsampler
        upsampler = model.upsampler
        assert upsampler is not None and sizes is not None
        n = sizes.context
        if small is None:
            small = from_bytes(model.downsampled(to_bytes(segments.frames)))
        frames = list(segments.frames.permute(0, 1, 4, 2, 3).unbind(1))
        errors = []
        for i in range(len(frames) - n):
            step = DenoisingNoise.drawn(frames[0], 0, self.generator) if noise is None else noise[i]
            context = torch.cat([*frames[i : i + n], model.upsampled(small[:, i + n].permute(0, 3, 1, 2))], 1)
            error, frames[i + n] = self._denoise(
                upsampler, self.config.upsampler_noise, frames[i + n], context, None, step
            )
            errors.append(error)
        return torch.stack(errors, 1)

    def _denoise(
        self,
        denoiser: EDMDenoiser,
        levels: NoiseLevelConfig,
        target: Tensor,
        context: Tensor,
        actions: Tensor | None,
        step: DenoisingNoise,
    ) -> tuple[Tensor, Tensor]:
        """The error of each row, and what the denoiser makes of the noisy target."""
        spread = (levels.loc, levels.scale, levels.sigma_min, levels.sigma_max)
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
        model, head = self.world_model, self.world_model.reward_end
        assert head is not None
        rewards, ends = head.raw(head.unroll(model.code(frames, actions, following), begins))
        return head.rewards.loss(rewards, reward), cross_entropy(ends, terminated.long())

    def _reward_end(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """The cross entropies on windows of the sequences, and their weights."""
        (rows, steps), key = tensordict.batch_size, self.observation_keys[0]
        length = min(self.config.reward_steps, steps)
        found = self.transitions(tensordict)
        begins = found.begins.clone()
        begins[:, 1:] |= found.ends[:, :-1] | ~found.real[:, :-1]
        place = pieces_drawn(rows, steps, length, self.config.reward_windows, self.generator)
        row = torch.arange(rows, device=place.device)[:, None, None]

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
