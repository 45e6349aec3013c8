"""What losses of worlds of diffusion over films share: films out of sequences, reward and end, the optimiser."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.codecs import ActionVector
from wmcomponents.functional import cross_entropy
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.heads import RewardEndHead
from wmcomponents.objectives.configured import optimizer_part
from wmcomponents.objectives.films import Films, films_from
from wmcomponents.objectives.model_loss import ModelLoss, Terms, TrainableModel
from wmcomponents.optim import ClippedAdamW


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


class FilmModel(TrainableModel, Protocol):
    """What the losses train: a world of diffusion over films.

    Attributes:
        reward_end: of reward and end, or None.
        action_vector: actions as vectors.
        window: frames of a film, at most.
        image_key: of the image in an observation.
        text_key: of the text, or None.
    """

    reward_end: RewardEndHead | None
    action_vector: ActionVector
    window: int
    image_key: str
    text_key: str | None

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Frames of images ``[*B, H, W, C]``, as the network reads them."""
        ...

    def code(self, frame: Tensor, led: Tensor, following: Tensor) -> Tensor:
        """What the memory of reward and end reads of transitions."""
        ...


F = TypeVar("F", bound=FilmModel)


class Clip(NamedTuple):
    """Films as the network reads them.

    Attributes:
        films: what they are made of.
        clean: their frames, ``[P, T, ...]``.
        led: vectors of the actions that led to them, ``[P, T, A]``; 0 where none did.
    """

    films: Films
    clean: Tensor
    led: Tensor


class Denoising(NamedTuple):
    """How well films are denoised, of each frame ``[P, T]``.

    Attributes:
        loss: as it is weighted by levels.
        error: the squared error, mean over a frame.
        weight: of each frame in both.
    """

    loss: Tensor
    error: Tensor
    weight: Tensor


class BaseFilmLoss(ModelLoss[F]):
    """Base of losses over films: their clips, the cross entropies of reward and end, the optimiser.

    Sequences may be longer than the window and cross from episode to episode: they are cut into films of the window's
    length, each of which counts up to its first end of an episode.

    Args:
        world_model: the model to train.
        optimizer: numbers of AdamW; the paper's if not given.
        seed: of levels and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.
    """

    def __init__(
        self,
        world_model: F,
        *,
        optimizer: ForcingOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        self.optimizer_config = optimizer_part(ForcingOptimizerConfig, optimizer)
        self.has_reward = world_model.reward_end is not None
        super().__init__(world_model, seed=seed, reduction=reduction)

    def clips(self, tensordict: TensorDictBase) -> Clip:
        """Sequences as films of the window's length, at most.

        Args:
            tensordict: sequences ``[B, T]``.
        """
        model = self.world_model
        films = films_from(self.arrivals(tensordict), model.image_key, model.window, model.text_key)
        led = keep_where(model.action_vector(films.action), films.is_led.unsqueeze(-1))
        return Clip(films, model.frames_of(films.pixels), led)

    def lr_scale(self, part: str) -> float:
        """Learning rate of a part of the model, over the optimiser's; 1 unless a family says otherwise.

        Args:
            part: the first name of its parameters.
        """
        return 1.0

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW, with each network's gradient clipped by itself.

        Args:
            lr: learning rate; the config's if not given.
            warmup: steps over which the rate grows from 0; the config's if not given.
        """
        c = self.optimizer_config
        rate = c.lr if lr is None else lr
        groups: dict[str, list[Tensor]] = {}
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                groups.setdefault(name.split(".")[0], []).append(parameter)
        return ClippedAdamW(
            [
                {
                    "params": params,
                    "lr": rate * self.lr_scale(part),
                    "weight_decay": c.weight_decay,
                    "max_norm": c.reward_max_norm if part == "reward_end" else c.max_norm,
                    "clip": part,
                }
                for part, params in groups.items()
            ],
            rate,
            betas=c.betas,
            warmup=c.warmup if warmup is None else warmup,
        )

    def outcome_terms(self, films: Films, clean: Tensor, led: Tensor) -> dict[str, Tensor]:
        """Cross entropies of reward and end of each frame but the first, ``[P, T - 1]``.

        Args:
            films: what they are made of.
            clean: their frames, ``[P, T, ...]``.
            led: vectors of the actions that led to them, ``[P, T, A]``; 0 where none did.
        """
        model, head = self.world_model, self.world_model.reward_end
        assert head is not None
        code = model.code(clean[:, :-1], led[:, 1:], clean[:, 1:])
        begins = torch.zeros_like(films.is_led[:, 1:, None])
        rewards, ends = head.raw(head.unroll(code, begins))
        return {
            "reward": head.rewards.loss(rewards, films.reward[:, 1:]),
            "termination": cross_entropy(ends, films.terminated[:, 1:].long()),
        }


class FilmLoss(BaseFilmLoss[F]):
    """Base of losses over films: a family writes how well they are denoised.

    Where reward and end are foretold, cross entropies of the reward's sign and of termination along the films are
    added, as in DIAMOND.

    Args:
        world_model: the model to train.
        optimizer: numbers of AdamW; the paper's if not given.
        seed: of levels and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.
    """

    @abstractmethod
    def denoised(self, films: Films, clean: Tensor, led: Tensor) -> Denoising:
        """How well films are denoised.

        Args:
            films: what they are made of.
            clean: their frames, ``[P, T, ...]``.
            led: vectors of the actions that led to them, ``[P, T, A]``; 0 where none did.
        """

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of films: denoising ``[P, T]``, reward and end ``[P, T - 1]``."""
        films, clean, led = self.clips(tensordict)
        found = self.denoised(films, clean, led)
        losses = {"denoising": found.loss}
        weights: dict[str, Tensor] = {"denoising": found.weight, "squared_error": found.weight}
        if self.has_reward:
            losses |= self.outcome_terms(films, clean, led)
            weights |= dict.fromkeys(("reward", "termination"), films.weight[:, 1:])
        return Terms(losses, {"squared_error": found.error.detach()}, weights)

    def _written(self) -> list[NestedKey]:
        rewards: list[NestedKey] = ["loss_reward", "loss_termination"] if self.has_reward else []
        return ["loss_denoising", *rewards, "squared_error"]
