"""The loss of worlds whose frames each have a noise level of their own."""

from dataclasses import dataclass
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.codecs import ActionVector
from wmcomponents.functional import clipped_snr, cross_entropy, fused_snr, snr_weight
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.functional.diffusion.targets import PredictionTarget
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.forcing_world import CausalFilmNetwork
from wmcomponents.nn import DiffusionProcess
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.films import Films, films_from
from wmcomponents.objectives.model_loss import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.optim import ClippedAdamW


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


@dataclass(frozen=True)
class ForcingOptimizerConfig:
    """Numbers of AdamW, with each network's gradient clipped by itself.

    Attributes:
        lr: learning rate.
        weight_decay: of all weights.
        betas: averaging rates.
        warmup: updates over which the rate grows from 0.
        max_norm: largest norm of the gradient.
        reward_max_norm: largest norm of the gradient of the model of reward and end.
    """

    lr: float = 8e-5
    weight_decay: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 10_000
    max_norm: float = 1.0
    reward_max_norm: float = 100.0


class ForcingModel(TrainableModel, Protocol):
    """What the loss trains: a :class:`~wmcomponents.models.DiffusionForcing`, or a world made of the same parts.

    Attributes:
        process: levels of noise.
        target: what the network predicts.
        reward_end: of reward and end, or None.
        action_vector: actions as vectors.
        window: frames of a film, at most.
        image_key: of the observation.
    """

    process: DiffusionProcess
    target: PredictionTarget
    reward_end: RewardEndHead | None
    action_vector: ActionVector
    window: int
    image_key: str

    @property
    def network(self) -> CausalFilmNetwork:
        """What denoises films ``[P, T, ...]`` at levels ``[P, T]``, led by ``[P, T, A]``."""
        ...

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Frames of images ``[*B, H, W, C]``, as the network reads them."""
        ...

    def code(self, frame: Tensor, led: Tensor, following: Tensor) -> Tensor:
        """What the memory of reward and end reads of transitions."""
        ...


class ForcingLoss(ModelLoss[ForcingModel]):
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
        self.optimizer_config = optimizer_part(ForcingOptimizerConfig, optimizer)
        if not (0.0 <= self.config.decay <= 1.0 and self.config.snr_clip > 0.0 and self.config.clip_noise > 0.0):
            raise ValueError(
                f"decay is in [0, 1], snr_clip and clip_noise are above 0; got {self.config.decay}, "
                f"{self.config.snr_clip} and {self.config.clip_noise}."
            )
        self.has_reward = world_model.reward_end is not None
        super().__init__(world_model, seed=seed, reduction=reduction)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW, with each network's gradient clipped by itself.

        Args:
            lr: learning rate; the config's if not given.
            warmup: steps over which the rate grows from 0; the config's if not given.
        """
        c = self.optimizer_config
        groups: dict[str, list[Tensor]] = {}
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                groups.setdefault(name.split(".")[0], []).append(parameter)
        return ClippedAdamW(
            [
                {
                    "params": params,
                    "weight_decay": c.weight_decay,
                    "max_norm": c.reward_max_norm if part == "reward_end" else c.max_norm,
                    "clip": part,
                }
                for part, params in groups.items()
            ],
            c.lr if lr is None else lr,
            betas=c.betas,
            warmup=c.warmup if warmup is None else warmup,
        )

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of films: denoising ``[P, T]``, reward and end ``[P, T - 1]``."""
        model = self.world_model
        films = films_from(self.arrivals(tensordict), self.observation_keys[0], model.window)
        clean = model.frames_of(films.pixels)
        led = keep_where(model.action_vector(films.action), films.is_led.unsqueeze(-1))
        shape = films.weight.shape
        level = torch.randint(model.process.levels, shape, generator=self.generator, device=clean.device)
        noise = torch.randn(clean.shape, generator=self.generator, device=clean.device, dtype=clean.dtype)
        error = self.denoising(clean, led, level, noise)
        losses, weights = {"denoising": self.level_weight(level) * error}, {"denoising": films.weight}
        if self.has_reward:
            losses |= self._outcomes(films, clean, led)
            weights |= dict.fromkeys(("reward", "termination"), films.weight[:, 1:])
        return Terms(losses, {"squared_error": error.detach()}, {**weights, "squared_error": films.weight})

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

    def _outcomes(self, films: Films, clean: Tensor, led: Tensor) -> dict[str, Tensor]:
        """Cross entropies of reward and end of each frame but the first."""
        model, head = self.world_model, self.world_model.reward_end
        assert head is not None
        code = model.code(clean[:, :-1], led[:, 1:], clean[:, 1:])
        begins = torch.zeros_like(films.is_led[:, 1:, None])
        rewards, ends = head.raw(head.unroll(code, begins))
        return {
            "reward": head.rewards.loss(rewards, films.reward[:, 1:]),
            "termination": cross_entropy(ends, films.terminated[:, 1:].long()),
        }

    def _written(self) -> list[NestedKey]:
        rewards: list[NestedKey] = ["loss_reward", "loss_termination"] if self.has_reward else []
        return ["loss_denoising", *rewards, "squared_error"]
