"""CausVid: a causal world of a few steps, distilled from a model that sees films both ways (Yin et al., 2024)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.denoisers import FilmUNet
from wmcomponents.functional import (
    AlphaSigma,
    CleanTarget,
    EulerFlowSampler,
    FewStepSampler,
    VelocityTarget,
    classifier_free,
    few_step_times,
)
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.edm import from_bytes, to_bytes
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.causvid.config import CausVidConfig, CausVidSamplingConfig
from wmcomponents.models.diffusion.causvid.objective import CausVidLoss
from wmcomponents.models.diffusion.film_world import FilmDiffusionWorld, FilmPast

LEVELS = 1000.0
"""What a network is told in place of the time 1; time 0 is clean."""

TARGETS = {"velocity": VelocityTarget, "clean": CleanTarget}
"""What networks predict, by the names in configs."""

EARLIEST = 0.05
"""Time below which a velocity is not told from a guess of the frame: the error of the guess is divided by the time."""


class CausVid(FilmDiffusionWorld[CausVidSamplingConfig]):
    """CausVid: frames drawn in a few steps by a student that sees no later frame, from a teacher that sees all.

    The teacher denoises a whole film with one noise level; the student one block of frames behind clean ones, with a
    level for each block. A third network, the critic, has the teacher's form and models what the student gives; dreams
    do not need it, nor the teacher.

    State: ``window`` float ``[*B, W, C, H, W]``, the last frames in [-1, 1], oldest first; ``led`` float
    ``[*B, W, A]``, the vector of the action that led to each, 0 where none did; ``filled`` int64 ``[*B, 1]``, how many
    there are; ``h`` and ``c`` float ``[*B, hidden]``, the memory of the model of reward and termination, if there is
    one.

    Noise of a dream's step: ``frame``, normal, where sampling begins; ``fresh``, normal, for each further step;
    ``reward``, uniform.

    In how many steps frames are drawn is a property of the model: :attr:`sampling`, which may be set.

    Args:
        config: sizes; a preset such as ``CausVidConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C).
        action_spec: spec of one real action: a choice, several bits, or numbers.

    Attributes:
        teacher: the model of the data, of whole films.
        network: the student.
        critic: the model of what the student gives.
        times: of the flow, at which the student is trained, falling from 1.

    Raises:
        ValueError: if the observation is not a single image, or sizes do not fit each other.

    Reference: Yin et al., From Slow Bidirectional to Fast Autoregressive Video Diffusion Models (CausVid, 2024).

    Example:
        >>> from torchrl.data import Bounded, OneHot
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = CausVid(CausVidConfig.tiny(), pixels, OneHot(4))
        >>> model.times, sorted(model.capabilities)
        ((1.0, 0.75, 0.5, 0.25), ['continue', 'decode', 'objective', 'reward'])
    """

    config_class = CausVidConfig
    config: CausVidConfig

    def __init__(self, config: CausVidConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net = config.network
        image_key, (height, width, channels) = image_of(observation_spec, "CausVid")
        action, shape = ActionVector(action_spec).size, (channels, height, width)
        reward_end = None
        if net.reward_end is not None:
            r = net.reward_end
            size = (height, width, channels)
            reward_end = RewardEndHead(size, action, r.hidden, r.cond, r.depths, r.channels, r.attends)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            frames=net.frames,
            shape=shape,
            reward_end=reward_end,
        )
        self.config, self.target = config, TARGETS[net.target]()
        u = net.unet
        sizes = (shape, action, u.dim, u.multiples, u.heads, u.head_dim)
        self.teacher = FilmUNet(*sizes, frames=net.frames, is_causal=False)
        self.network = FilmUNet(*sizes, frames=net.frames, block=net.block)
        self.critic = FilmUNet(*sizes, frames=net.frames, is_causal=False)
        self.times = few_step_times(net.trained_steps)
        self.settle_sampling(net.sampling)

    def objective(self) -> CausVidLoss:
        """The teacher's loss, the student's towards its films, then the matching of distributions."""
        return CausVidLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Images as floats in [-1, 1], channels first."""
        return from_bytes(pixels).movedim(-1, -3)

    def pixels_of(self, frames: Tensor) -> Tensor:
        """Frames as the nearest bytes."""
        return to_bytes(frames.detach()).movedim(-3, -1).contiguous()

    # -- how frames are drawn ------------------------------------------------------------------------------------------

    def make_sampler(self, sampling: CausVidSamplingConfig) -> None:
        """Make what draws frames from now on.

        Raises:
            ValueError: if there is none, or more than the student was trained for.
        """
        self.sampler = FewStepSampler(few_step_times(sampling.steps, of=len(self.times)))

    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Where sampling begins, and what guesses are noised with."""
        film = (frames, *self.frame_shape)
        found: dict[str, TensorSpec] = {"frame": Unbounded(torch.Size(film))}
        if self.sampler.fresh:
            found["fresh"] = Unbounded(torch.Size([self.sampler.fresh, *film]))
        return found

    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """New frames behind the past, which is gone through once, clean, and remembered."""
        clean = past.frames.new_zeros(past.frames.shape[:2])
        remembered = self.network.remember(past.frames, clean, past.led, past.count)
        film, fresh = noise.get("frame"), noise.get("fresh")
        if film is None:
            film = past.frames.new_zeros(*led.shape[:2], *self.frame_shape)

        def guess(x: Tensor, time: float) -> Tensor:
            level = x.new_full(led.shape[:2], LEVELS * time)
            said = self.network.follow(x, level, led, remembered, past.count)[0]
            return self.target.clean(said, x, AlphaSigma.flow(time))

        return self.sampler.sample(guess, film, None if fresh is None else fresh.transpose(0, 1))

    # -- what it is distilled from -------------------------------------------------------------------------------------

    def student_guess(self, noisy: Tensor, time: Tensor, led: Tensor) -> Tensor:
        """The data, as the student guesses them from whole films.

        Args:
            noisy: ``[N, T, C, H, W]``.
            time: of the flow, ``[N, T]``; the same within a block.
            led: vectors of the actions that led to the frames, ``[N, T, A]``.
        """
        said = self.network.compute(noisy, LEVELS * time, led)
        return self.target.clean(said, noisy, AlphaSigma.flow(time))

    def critic_velocity(self, noisy: Tensor, time: Tensor, led: Tensor) -> Tensor:
        """Where the flow of what the student gives leads, as the critic says.

        Args:
            noisy: ``[N, T, C, H, W]``.
            time: of the flow, ``[N, 1]``.
            led: ``[N, T, A]``.
        """
        said = self.critic.compute(noisy, LEVELS * time.expand(noisy.shape[:2]), led)
        return self._velocity(said, noisy, time)

    def teacher_velocity(self, noisy: Tensor, time: Tensor, led: Tensor, guidance: float = 1.0) -> Tensor:
        """Where the flow of the data leads, as the teacher says.

        Args:
            noisy: ``[N, T, C, H, W]``.
            time: of the flow, ``[N, 1]``.
            led: ``[N, T, A]``.
            guidance: scale of the guidance by actions, away from where none are known; 1 for none.
        """
        level = LEVELS * time.expand(noisy.shape[:2])
        known = self._velocity(self.teacher.compute(noisy, level, led), noisy, time)
        if guidance == 1.0:
            return known
        blind = self._velocity(self.teacher.compute(noisy, level, torch.zeros_like(led)), noisy, time)
        return classifier_free(known, blind, guidance)

    def _velocity(self, said: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Where the flow leads, of what a network says of whole films at times ``[N, 1]``."""
        if isinstance(self.target, VelocityTarget):
            return said
        return (noisy - said) / aligned(time.clamp_min(EARLIEST), noisy)

    def teacher_trajectory(self, led: Tensor, noise: Tensor, steps: int = 48, guidance: float = 1.0) -> list[Tensor]:
        """Whole films by the teacher's ODE, from noise to data: ``steps + 1`` of ``[N, T, C, H, W]``.

        Args:
            led: vectors of the actions that lead to the frames, ``[N, T, A]``.
            noise: standard normal, ``[N, T, C, H, W]``.
            steps: of Euler.
            guidance: see :meth:`teacher_velocity`.
        """

        def velocity(x: Tensor, time: float, step: int) -> Tensor:
            return self.teacher_velocity(x, x.new_full((len(x), 1), time), led, guidance)

        return EulerFlowSampler(steps).trajectory(velocity, noise)
