"""The losses of CausVid: a teacher of whole films, its student's beginning, and the matching of distributions."""

from typing import Protocol, cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor, nn

from wmcomponents.functional import AlphaSigma, diffused, distribution_matching, shifted_time
from wmcomponents.models.diffusion.causvid.config import CausVidLossConfig, CausVidOptimizerConfig
from wmcomponents.models.diffusion.film_objective import BaseFilmLoss, Clip, FilmModel
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import Terms, check_model
from wmcomponents.objectives.staged import StagedModelLoss


class CausalStudent(Protocol):
    """The student, as the losses know it.

    Attributes:
        block: frames that it denoises together.
    """

    block: int


class DistilledModel(FilmModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.CausVid`, or one made of the same parts.

    Attributes:
        times: at which the student is trained, falling from 1.
    """

    times: tuple[float, ...]

    @property
    def network(self) -> CausalStudent:
        """The student, of the teacher's weights."""
        ...

    @property
    def teacher(self) -> nn.Module:
        """The model of the data."""
        ...

    @property
    def critic(self) -> nn.Module:
        """The model of what the student gives, of the teacher's weights."""
        ...

    def student_guess(self, noisy: Tensor, time: Tensor, led: Tensor) -> Tensor:
        """The data, as the student guesses them."""
        ...

    def critic_velocity(self, noisy: Tensor, time: Tensor, led: Tensor) -> Tensor:
        """Where the flow of what the student gives leads."""
        ...

    def teacher_velocity(self, noisy: Tensor, time: Tensor, led: Tensor, guidance: float = 1.0) -> Tensor:
        """Where the flow of the data leads."""
        ...

    def teacher_trajectory(self, led: Tensor, noise: Tensor, steps: int = 48, guidance: float = 1.0) -> list[Tensor]:
        """Whole films by the teacher's ODE."""
        ...


class CausVidLoss(BaseFilmLoss[DistilledModel], StagedModelLoss[DistilledModel]):
    r"""Objective of CausVid on TorchRL-layout sequences, in three stages one after the other.

    *Teacher*: rectified flow of whole films, each at one time; with reward and end where the model foretells them.

    .. math:: L = \| u(x^t, t, a) - (\epsilon - x) \|^2, \qquad x^t = (1 - t) x + t \epsilon, \qquad t \sim U(0, 1)

    *ODE*: the student begins with the teacher's weights, and learns where its ODE leads: films :math:`x^{t_i}` on the
    way from noise to :math:`x^0`, each block at a step of its own; blocks that are clean already are not counted.

    .. math:: L = \| G(x^{t_i}, t_i, a) - x^0 \|^2

    *Distribution*: the critic begins with the teacher's weights. In an update the student steps once: real films,
    noised as above, become its guesses x, which are moved to where the teacher finds them likelier than the critic does
    (:func:`~wmcomponents.functional.distribution_matching`). Then the critic steps as often as the config says, on
    guesses of the student as it is then: the teacher's loss, of generated films.

    Sequences are cut into films of the window's length, each of which counts up to its first end of an episode. The
    stage follows from the step alone. Outside a training loop, say which with :attr:`stage`, and begin it with
    :meth:`begin_student` or :meth:`begin_critic`.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the first stage ``loss_denoising``, and where the model has the part ``loss_reward``,
    ``loss_termination``; in the second ``loss_regression``; in the third ``loss_matching``, ``loss_critic``, and
    detached ``score_gap``, mean square of what the teacher guesses apart from the critic.

    Args:
        world_model: a :class:`~wmcomponents.models.CausVid`, or one made of the same parts.
        config: numbers of the losses; the authors' if not given.
        optimizer: numbers of AdamW.
        seed: of times and noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for numbers that cannot be; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Yin et al., From Slow Bidirectional to Fast Autoregressive Video Diffusion Models (2024), sections 4.2 to
    4.4 and algorithm 1.
    """

    stages = ("teacher", "ode", "distribution")

    def __init__(
        self,
        world_model: DistilledModel,
        config: CausVidLossConfig | None = None,
        *,
        optimizer: CausVidOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, DistilledModel, type(self))
        self.config = c = loss_part(CausVidLossConfig, config)
        self._check(c, len(world_model.times))
        self.teacher_steps, self.ode_steps = c.teacher_steps, c.ode_steps
        numbers = optimizer_part(CausVidOptimizerConfig, optimizer)
        self.teacher_rate = numbers.teacher_lr / numbers.lr
        super().__init__(world_model, optimizer=numbers, seed=seed, reduction=reduction)

    @staticmethod
    def _check(c: CausVidLossConfig, trained: int) -> None:
        if min(c.teacher_steps, c.ode_steps) < 0 or c.critic_updates < 1:
            raise ValueError(
                f"teacher_steps and ode_steps are at least 0, critic_updates at least 1; got {c.teacher_steps}, "
                f"{c.ode_steps} and {c.critic_updates}."
            )
        if c.solver_steps < trained or c.solver_steps % trained:
            raise ValueError(
                f"the teacher's solver passes the student's {trained} times, so solver_steps is a multiple of "
                f"{trained}; got {c.solver_steps}."
            )
        low, high = c.score_range
        if not (0.0 < low <= high < 1.0 and c.score_shift > 0.0 and 0.0 <= c.action_dropout <= 1.0):
            raise ValueError(
                f"score_range lies within (0, 1) and rises, score_shift is above 0, action_dropout in [0, 1]; got "
                f"{c.score_range}, {c.score_shift} and {c.action_dropout}."
            )

    # -- stages and phases ---------------------------------------------------------------------------------------------

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        if step < self.teacher_steps:
            return "teacher"
        return "ode" if step < self.teacher_steps + self.ode_steps else "distribution"

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Updates of the teacher, and of the student towards its films."""
        return self.teacher_steps, self.ode_steps

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        self.teacher_steps, self.ode_steps = steps

    def before_update(self, step: int) -> None:
        """Enter the stage of this step; where the very first is no teacher's, begin what follows on it."""
        super().before_update(step)
        if step == 0:
            self._begin(0)

    def after_update(self, step: int) -> None:
        """Begin what follows on a stage that is over."""
        self._begin(step + 1)

    def _begin(self, step: int) -> None:
        if step == self.teacher_steps:
            self.begin_student()
        if step == self.teacher_steps + self.ode_steps:
            self.begin_critic()

    def begin_student(self) -> None:
        """Give the student the teacher's weights."""
        self._copy("network")

    def begin_critic(self) -> None:
        """Give the critic the teacher's weights."""
        self._copy("critic")

    @torch.no_grad()
    def _copy(self, part: str) -> None:
        params = self.world_model_params
        own, given = (cast(TensorDictBase, params.get(name)).flatten_keys(".") for name in (part, "teacher"))
        for name, value in own.items():
            value.copy_(given.get(name))

    @property
    def phases(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One; in the last stage the student's and the critic's."""
        return 1 + self.config.critic_updates if self._stage == "distribution" else 1

    def phase(self, tensordict: TensorDictBase, number: int) -> TensorDict:
        """In the last stage: first the student's loss, then the critic's, each on new guesses of the student.

        Args:
            tensordict: sequences ``[B, T]``.
            number: 0 for the student.
        """
        if self._stage != "distribution":
            return self(tensordict)
        with self._placed():
            clip = self.clips(tensordict)
            terms = self.critic_terms(clip) if number else self.student_terms(clip)
        return self._told(terms)

    def lr_scale(self, part: str) -> float:
        """Of a network, over the student's rate."""
        return self.teacher_rate if part in ("teacher", "reward_end") else 1.0

    # -- the objective -------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage, of films ``[P, T]``; in the last one the student's and the critic's."""
        clip = self.clips(tensordict)
        if self._stage == "teacher":
            return self.teacher_terms(clip)
        if self._stage == "ode":
            return self.regression_terms(clip)
        student, critic = self.student_terms(clip), self.critic_terms(clip)
        return Terms({**student.losses, **critic.losses}, student.info, student.weight)

    def teacher_terms(self, clip: Clip) -> Terms:
        """Flow matching of real films, and reward and end."""
        model, clean = self.world_model, clip.clean
        hidden = self._uniform(len(clean), 1, 1) < self.config.action_dropout
        led = clip.led.masked_fill(hidden, 0.0)
        time, noise = self._uniform(len(clean), 1), self._noise(clean)
        said = model.teacher_velocity(diffused(clean, noise, AlphaSigma.flow(time)), time, led)
        losses = {"denoising": _per_frame((said - (noise - clean)).square())}
        weights = {"denoising": clip.films.weight}
        if self.has_reward:
            losses |= self.outcome_terms(clip.films, clean, clip.led)
            weights |= dict.fromkeys(("reward", "termination"), clip.films.weight[:, 1:])
        return Terms(losses, {}, weights)

    def regression_terms(self, clip: Clip) -> Terms:
        """From somewhere on the teacher's ODE to where it leads."""
        model, c = self.world_model, self.config
        with torch.no_grad():
            whole = model.teacher_trajectory(clip.led, self._noise(clip.clean), c.solver_steps, c.guidance)
        path = torch.stack(whole[:: c.solver_steps // len(model.times)])
        step, time = self.student_times(clip.clean)
        row, frame = (torch.arange(size, device=step.device) for size in step.shape)
        noisy = path[step, row[:, None], frame]
        error = _per_frame((model.student_guess(noisy, time, clip.led) - path[-1]).square())
        return Terms({"regression": error}, {}, clip.films.weight * (time > 0.0))

    def student_terms(self, clip: Clip) -> Terms:
        """The student's guesses, moved to where the data are likelier than such guesses."""
        model, led = self.world_model, clip.led
        generated = self.generated(clip)
        with torch.no_grad():
            time, noise = self.score_times(len(generated)), self._noise(generated)
            at = AlphaSigma.flow(time)
            noisy = diffused(generated, noise, at)
            scale = at.over(noisy).sigma
            real = noisy - scale * model.teacher_velocity(noisy, time, led, self.config.guidance)
            fake = noisy - scale * model.critic_velocity(noisy, time, led)
        error = _per_frame(distribution_matching(generated, real, fake)).to(generated.dtype)
        return Terms({"matching": error}, {"score_gap": _per_frame((real - fake).square())}, clip.films.weight)

    def critic_terms(self, clip: Clip) -> Terms:
        """Flow matching of the student's guesses."""
        with torch.no_grad():
            generated = self.generated(clip)
        time, noise = self.score_times(len(generated)), self._noise(generated)
        noisy = diffused(generated, noise, AlphaSigma.flow(time))
        said = self.world_model.critic_velocity(noisy, time, clip.led)
        return Terms({"critic": _per_frame((said - (noise - generated)).square())}, {}, clip.films.weight)

    def generated(self, clip: Clip) -> Tensor:
        """What the student makes of real films, noised at its times, each block at its own."""
        _, time = self.student_times(clip.clean)
        noisy = diffused(clip.clean, self._noise(clip.clean), AlphaSigma.flow(time))
        return self.world_model.student_guess(noisy, time, clip.led)

    def student_times(self, film: Tensor) -> tuple[Tensor, Tensor]:
        """A step of the student's for each frame of films ``[P, T, ...]``, the same within a block, and its time.

        The last is one beyond its steps: clean, at time 0.
        """
        rows, frames = film.shape[:2]
        block, times = self.world_model.network.block, self.world_model.times
        shape = rows, -(-frames // block)
        step = torch.randint(len(times) + 1, shape, generator=self.generator, device=film.device)
        step = step.repeat_interleave(block, 1)[:, :frames]
        return step, torch.tensor([*times, 0.0], device=film.device)[step]

    def score_times(self, rows: int) -> Tensor:
        """Times at which teacher and critic are asked, one of each film, ``[P, 1]``."""
        low, high = self.config.score_range
        time = shifted_time(self._uniform(rows, 1), self.config.score_shift)
        assert isinstance(time, Tensor)
        return time.clamp(low, high)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def _written(self) -> list[NestedKey]:
        if self._stage == "teacher":
            rewards: list[NestedKey] = ["loss_reward", "loss_termination"] if self.has_reward else []
            return ["loss_denoising", *rewards]
        return ["loss_regression"] if self._stage == "ode" else ["loss_matching", "loss_critic", "score_gap"]


def _per_frame(error: Tensor) -> Tensor:
    """Means over frames ``[P, T, ...]``."""
    return error.flatten(2).mean(2)
