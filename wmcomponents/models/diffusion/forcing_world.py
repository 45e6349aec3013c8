"""Worlds whose network gives each frame of a film its own noise level, and sees no later frame (Diffusion Forcing)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torchrl.data import TensorSpec, Unbounded

from wmcomponents.functional import (
    DDIMSampler,
    SamplingStep,
    cosine_betas,
    denoised,
    levels_from_clean,
    linear_betas,
    sigmoid_betas,
)
from wmcomponents.functional.diffusion.context import CONTEXTS, ContextName
from wmcomponents.functional.diffusion.scheduling import SCHEDULES, ScheduleName, pyramid_schedule, trapezoid_schedule
from wmcomponents.functional.diffusion.targets import Denoised, LevelTargetName, PredictionTarget, target_named
from wmcomponents.models.diffusion.film_world import FilmDiffusionWorld, FilmPast
from wmcomponents.nn import DiffusionProcess, ForcingSampler
from wmcomponents.nn.space_time.branches import PastFrames

BETAS = {"linear": linear_betas, "cosine": cosine_betas, "sigmoid": sigmoid_betas}
"""Schedules by their names in configs."""


@dataclass(frozen=True)
class ForcingProcessConfig:
    """The process that frames are noised by, and what the network says of it.

    Attributes:
        levels: K, how many there are.
        noise_schedule: name of the betas, which say how fast frames drown in noise.
        target: what the network predicts.
    """

    levels: int = 1000
    noise_schedule: Literal["linear", "cosine", "sigmoid"] = "sigmoid"
    target: LevelTargetName = "v"


def process_of(config: ForcingProcessConfig) -> DiffusionProcess:
    """The process of a config.

    Args:
        config: levels, and the schedule's name.

    Raises:
        ValueError: if the name is unknown.
    """
    if config.noise_schedule not in BETAS:
        raise ValueError(f"noise_schedule is one of {', '.join(map(repr, BETAS))}; got {config.noise_schedule!r}.")
    return DiffusionProcess(BETAS[config.noise_schedule](config.levels))


@dataclass(frozen=True)
class ForcingSamplingConfig:
    """How frames are drawn; ``model.sampling`` may be set later.

    Attributes:
        steps: of DDIM, for each frame.
        eta: how much of the noise is fresh in each of them.
        context: how frames that are clean are shown: ``"scaled"``, ``"untouched"`` or ``"noised"``.
        stabilization: how many of the lowest levels clean frames are told as: they are at the last of these.
        clip_noise: largest magnitude of the noise.
        schedule: of several frames that are drawn at once.
        uncertainty: how many rounds a frame of a pyramid or a trapezoid is behind its neighbour.
    """

    steps: int = 100
    eta: float = 0.0
    context: ContextName = "scaled"
    stabilization: int = 15
    clip_noise: float = 6.0
    schedule: ScheduleName = "autoregressive"
    uncertainty: float = 1.0


class CausalFilmNetwork(Protocol):
    """A network over films of which no frame sees a later one: ``FilmUNet``, ``SpaceTimeDiT``."""

    def __call__(self, noisy: Tensor, level: Tensor, action: Tensor) -> Tensor:
        """What it says of whole films ``[N, T, ...]``, at levels ``[N, T]``, led by ``[N, T, A]``."""
        ...

    def remember(self, noisy: Tensor, level: Tensor, action: Tensor) -> list[PastFrames]:
        """What :meth:`follow` needs of frames of the past."""
        ...

    def follow(
        self, noisy: Tensor, level: Tensor, action: Tensor, past: Sequence[PastFrames], start: Tensor
    ) -> tuple[Tensor, list[PastFrames]]:
        """What it says of frames behind remembered ones."""
        ...


class ForcingWorld(FilmDiffusionWorld[ForcingSamplingConfig]):
    """Base of worlds that were trained with a noise level for each frame: a new frame is noise, the past is clean.

    The past is gone through once for each new frame, and remembered while that is denoised: nothing sees ahead, so what
    comes of it is what the whole film in every step would give.

    A family sets the network and calls :meth:`settle`.

    Noise of a dream's step: ``frame``, normal, where sampling begins; ``fresh``, normal, where steps add noise;
    ``context``, normal, where the past is shown noisy; ``reward``, uniform, where rewards are foretold.

    Attributes:
        network: what denoises.
        process: levels of noise.
        target: what the network predicts.
    """

    network: CausalFilmNetwork
    process: DiffusionProcess
    target: PredictionTarget

    def settle(self, process: ForcingProcessConfig, sampling: ForcingSamplingConfig) -> None:
        """Make the process, and say how frames are drawn.

        Raises:
            ValueError: if steps or levels do not fit each other, or a name is unknown.
        """
        self.process = process_of(process)
        self.target = target_named(process.target)
        self.settle_sampling(sampling)

    def make_sampler(self, sampling: ForcingSamplingConfig) -> None:
        """Make what draws frames from now on.

        Raises:
            ValueError: if steps or levels do not fit the process, or a name is unknown.
        """
        s = sampling
        if s.context not in CONTEXTS:
            raise ValueError(f"context is one of {', '.join(map(repr, CONTEXTS))}; got {s.context!r}.")
        if s.schedule not in SCHEDULES or s.uncertainty < 0.0:
            raise ValueError(
                f"schedule is one of {', '.join(map(repr, SCHEDULES))}, uncertainty at least 0; got {s.schedule!r} and "
                f"{s.uncertainty}."
            )
        if not s.clip_noise > 0.0:
            raise ValueError(f"clip_noise is above 0; got {s.clip_noise}.")
        levels = levels_from_clean(self.process.levels, s.steps)
        context = CONTEXTS[s.context](s.stabilization - 1)
        self.sampler = ForcingSampler(self.process, levels, context, s.eta)
        self._alone = DDIMSampler(self.process.betas, levels, s.eta)  # the same of a single frame, without look-ups

    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Where sampling begins, what its steps add, and what is added to the past."""
        found: dict[str, TensorSpec] = {"frame": Unbounded(torch.Size([frames, *self.frame_shape]))}
        if self.sampling.eta > 0.0:
            rounds = len(self._schedule(frames)) - 1
            found["fresh"] = Unbounded(torch.Size([rounds, frames, *self.frame_shape]))
        if self.sampler.context.uses_noise:
            found["context"] = Unbounded(torch.Size([self.window, *self.frame_shape]))
        return found

    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """New frames, along the schedule."""
        clip, count = self.sampling.clip_noise, led.shape[1]
        level, device = self.sampler.context.level, led.device
        added, room = None, past.frames.shape[1]
        if "context" in noise:
            added = noise["context"].clamp(-clip, clip)
        told = torch.full(past.frames.shape[:2], level, device=device)
        of_past = None if added is None else added[:, :room]
        shown = self.sampler.context.shown(past.frames, self.process.at(told), of_past)
        remembered = self.network.remember(shown, told, past.led)
        film = noise.get("frame")
        if film is None:
            film = past.frames.new_zeros(len(led), count, *self.frame_shape)

        def said(x: Tensor, level: Tensor) -> Tensor:
            return self.network.follow(x, level, led, remembered, past.count)[0]

        def guess(x: Tensor, level: Tensor) -> Denoised:
            return denoised(self.target, said(x, level), x, self.process.at(level))

        def guess_alone(x: Tensor, step: SamplingStep) -> Denoised:
            return denoised(self.target, said(x, torch.full_like(told[:, :1], step.level)), x, step.now)

        film, fresh = film.clamp(-clip, clip), noise.get("fresh")
        if fresh is not None:
            fresh = fresh.transpose(0, 1).clamp(-clip, clip)
        if count == 1:
            return self._alone.sample(guess_alone, film, fresh)
        rounds = self._schedule(count).to(device)
        shown_noise = None if added is None else added[:, room:].expand(len(rounds), *added[:, room:].shape)
        return self.sampler.sample(guess, film, rounds, noise=fresh, context_noise=shown_noise)

    def _schedule(self, frames: int) -> Tensor:
        """Rounds of so many frames, on the CPU."""
        s = self.sampling
        if s.schedule == "pyramid":
            return pyramid_schedule(frames, s.steps, s.uncertainty)
        if s.schedule == "trapezoid":
            return trapezoid_schedule(frames, s.steps, s.uncertainty)
        return SCHEDULES[s.schedule](frames, s.steps)
