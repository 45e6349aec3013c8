"""The losses of a Navigation World Model: the autoencoder's first, then those of frames at other times."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.codecs import Motion
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.functional.diffusion.targets import PredictionTarget
from wmcomponents.functional.episodes import episode_span
from wmcomponents.models.diffusion.autoencoder_stage import AutoencoderStage, LatentModel
from wmcomponents.models.diffusion.film_objective import BaseFilmLoss, FilmModel
from wmcomponents.models.diffusion.nwm.config import TIME_UNIT, NWMLossConfig, NWMOptimizerConfig
from wmcomponents.nn import DiffusionProcess, HybridLoss, hybrid_loss
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.films import films_from
from wmcomponents.objectives.model_loss import Terms, check_model


class NavigationModel(FilmModel, LatentModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.NWM`, or one made of the same parts.

    Attributes:
        process: levels of noise.
        target: what the network predicts.
        motion: what several actions come to.
        context: frames that are looked at.
        frame_shape: of a latent.
    """

    process: DiffusionProcess
    target: PredictionTarget
    motion: Motion
    context: int
    frame_shape: tuple[int, ...]

    @property
    def network(self) -> torch.nn.Module:
        """A CDiT: of a noisy frame, its level, past frames, a displacement and a time."""
        ...


class Jumps(NamedTuple):
    """Frames of B rows, by their numbers.

    Attributes:
        now: the present one, ``[B, 1]``.
        past: what is looked at, oldest first, the present one last, ``[B, M]``.
        goal: what is asked for, ``[B, G]``.
    """

    now: Tensor
    past: Tensor
    goal: Tensor


class NWMLoss(BaseFilmLoss[NavigationModel], AutoencoderStage):  # pyright: ignore[reportMissingTypeArgument]
    r"""Objective of a Navigation World Model on TorchRL-layout sequences, in two stages one after the other.

    *Autoencoder*: every image by itself, as :class:`~wmcomponents.models.OasisLoss` trains one. None of it where a
    trained one was handed to the model.

    *Network*: of each sequence a present frame is drawn, and some others of the same episode, at most ``reach`` frames
    away, before or behind it. Each is noised to a level of its own, and told from the frames up to the present one,
    the displacement from there and the time:

    .. math:: L = \| \epsilon - \epsilon_\theta(x^k_{t + \Delta}, k, x_{t - M + 1..t}, d_{t, t + \Delta},
        \Delta / 128) \|^2 + L_{vb}

    where the second term trains the variance alone. Latents are drawn, and get no gradient. At the beginning of an
    episode, and of a record, the first frame stands for those before it, as in dreams that begin there.

    Where reward and end are foretold, cross entropies of the reward's sign and of termination along the sequences are
    added, as in DIAMOND. The stage follows from the step alone. Outside a training loop, say which with :attr:`stage`.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the first stage ``loss_reconstruction``, ``loss_kl``, and detached ``latent_std``; in the second
    ``loss_denoising``, ``loss_variance``, and where the model has the part ``loss_reward``, ``loss_termination``.

    Args:
        world_model: a :class:`~wmcomponents.models.NWM`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: numbers of AdamW; the paper's if not given.
        seed: of frames, levels and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``, which gives ``[B, goals]``, of
            reward and end ``[B, T]``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for numbers that cannot be; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Bar et al., Navigation World Models (2024), section 3.1, and its code.
    """

    def __init__(
        self,
        world_model: NavigationModel,
        config: NWMLossConfig | None = None,
        *,
        optimizer: NWMOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, NavigationModel, type(self))
        self.config = c = loss_part(NWMLossConfig, config)
        if c.goals < 1 or c.reach < 0:
            raise ValueError(f"goals is at least 1, reach at least 0; got {c.goals} and {c.reach}.")
        self.settle_autoencoder(c.autoencoder_steps, c.kl_scale, c.worst)
        numbers = optimizer_part(NWMOptimizerConfig, optimizer)
        super().__init__(world_model, optimizer=numbers, seed=seed, reduction=reduction)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage; the network's of each goal, ``[B, G]``, and of reward and end ``[B, T]``."""
        return self.autoencoder_terms(tensordict) if self._stage == "autoencoder" else self.network_terms(tensordict)

    def network_terms(self, tensordict: TensorDictBase) -> Terms:
        """Squared error and bits of each goal, ``[B, G]``; cross entropies of reward and end, ``[B, T]``."""
        model, arrivals = self.world_model, self.arrivals(tensordict)
        jumps = self.jumps((arrivals.is_init | ~arrivals.reward_known).squeeze(-1), arrivals.real)
        wanted = torch.cat([jumps.past, jumps.goal], 1)
        rows = torch.arange(len(wanted), device=wanted.device)[:, None]
        pixels = arrivals.observation[model.image_key][rows, wanted]
        latents = model.tokenizer.latents(pixels, self._normal((*wanted.shape, *model.frame_shape)))
        past, goal = latents.split([model.context, self.config.goals], 1)
        places = model.motion.places(model.action_vector(arrivals.action[:, 1:]))
        displacement = model.motion.between(places[rows, jumps.now], places[rows, jumps.goal])
        time = (jumps.goal - jumps.now) / TIME_UNIT
        asked, shape = goal.flatten(0, 1), jumps.goal.shape
        level = torch.randint(model.process.levels, (len(asked),), generator=self.generator, device=asked.device)
        error, bits = self.denoising(
            asked,
            past.repeat_interleave(self.config.goals, 0),
            displacement.flatten(0, 1),
            time.flatten(),
            level,
            self._normal(asked.shape),
        )
        losses = {"denoising": error.view(shape), "variance": bits.view(shape)}
        weight = arrivals.weight.gather(1, jumps.now).expand(shape)
        if not self.has_reward:
            return Terms(losses, {}, weight)
        films = films_from(arrivals, model.image_key, arrivals.weight.shape[1])
        led = keep_where(model.action_vector(films.action), films.is_led.unsqueeze(-1))
        outcome = self.outcome_terms(films, model.frames_of(films.pixels), led)
        weights = dict.fromkeys(losses, weight) | dict.fromkeys(outcome, films.weight[:, 1:])
        return Terms({**losses, **outcome}, {}, weights)

    def denoising(
        self, goal: Tensor, past: Tensor, displacement: Tensor, time: Tensor, level: Tensor, noise: Tensor
    ) -> HybridLoss:
        """Squared error of the noise, and bits of the variance, of N frames, ``[N]`` each.

        Args:
            goal: what is asked for, ``[N, ...]``.
            past: what is looked at, ``[N, M, ...]``.
            displacement: from the last of the past, as the model's motion tells it, ``[N, A]``.
            time: from there, over 128 frames, ``[N]``.
            level: of each frame.
            noise: standard normal, of the frames' shape.
        """
        model = self.world_model
        said = model.network(model.process.diffuse(goal, noise, level), level, past, displacement, time)
        return hybrid_loss(model.process, model.target, said, goal, noise, level)

    def jumps(self, begins: Tensor, real: Tensor) -> Jumps:
        """Present frames, those before them and those that are asked for, drawn evenly.

        Args:
            begins: whether a frame is the first of its episode or of its record, bool ``[B, L]``.
            real: whether it is no padding, bool ``[B, L]``.
        """
        device, (rows, _), c = begins.device, begins.shape, self.config
        begins = begins | F.pad(real[:, 1:] != real[:, :-1], (1, 0), value=True)
        dice = torch.rand(begins.shape, generator=self.generator, device=device)
        now = dice.masked_fill(~real, -1.0).argmax(1, keepdim=True)
        first, last = episode_span(begins, now)
        past = torch.maximum(now + torch.arange(1 - self.world_model.context, 1, device=device), first)
        low, high = torch.maximum(first, now - c.reach), torch.minimum(last, now + c.reach)
        dice = torch.rand(rows, c.goals, generator=self.generator, device=device)
        goal = torch.minimum(low + (dice * (high - low + 1)).long(), high)
        return Jumps(now, past, goal)

    def _normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def _written(self) -> list[NestedKey]:
        if self._stage == "autoencoder":
            return [*self.autoencoder_written]
        return ["loss_denoising", "loss_variance", *(["loss_reward", "loss_termination"] if self.has_reward else [])]
