"""The noise of a dream's steps: drawn, given, or none (the mode)."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite

from wmcomponents.dream.checks import layout_of, told
from wmcomponents.world_model import Noise, NoiseSource, WorldModel, items_of


class StepNoise(NamedTuple):
    """All that is left to chance in the steps of a dream, once it has begun.

    Either of one step, ``[*B, ...]``, or of T steps, ``[T, *B, ...]``.

    Attributes:
        z: the model's base noise, one entry for each key of ``noise_spec["imagine"]``; ``None`` takes the mode.
        end: uniform numbers in [0, 1), ``[..., 1]``: a row ends where the probability to go on is not above its number.
            ``None`` ends a row where that probability is below one half. Read where ``termination="sample"``.
    """

    z: Noise | None
    end: Tensor | None


MODE = StepNoise(None, None)
"""No noise: the most likely z, and the more likely of ending and going on."""

NoiseChoice = Literal["sample", "mode"] | StepNoise
"""``"sample"`` draws the noise of every step, ``"mode"`` takes modes, a :class:`StepNoise` of T steps is played."""


class NoiseUsedUpError(RuntimeError):
    """A dream that was given the noise of T steps takes one more."""


def draw_noise(model: WorldModel, steps: int, rows: int, generator: torch.Generator) -> StepNoise:
    """The noise of whole dreams, drawn before they are dreamt: for common random numbers, and to dream one again.

    Args:
        model: the world model.
        steps: T.
        rows: N.
        generator: draws it, on the model's device.

    Returns:
        Noise ``[T, N, ...]``: z by its keys, and ``end`` ``[T, N, 1]``.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), noise="normal")
        >>> noise = draw_noise(model, 50, 8, torch.Generator().manual_seed(0))
        >>> noise.z["base"].shape, noise.end.shape
        (torch.Size([50, 8, 8]), torch.Size([50, 8, 1]))
    """
    z = model.noise_source("imagine")((steps, rows), generator)
    return StepNoise(z, torch.rand((steps, rows, 1), generator=generator, device=generator.device))


class DreamNoise:
    """What is left to chance in one dream: the noise of its steps, and the generator that all else is drawn from too.

    Args:
        source: draws the model's base noise.
        device: of the generator.
        choice: the noise of the steps; looked at by whoever gives it (:func:`check_choice`).
        draws_end: whether ends are drawn.

    Attributes:
        choice: as it was given.
        played: how many steps of given noise were taken.
    """

    def __init__(self, source: NoiseSource, device: torch.device, choice: NoiseChoice, *, draws_end: bool) -> None:
        self._source, self._device, self._draws_end = source, device, draws_end
        self._draws_nothing = self._source.empty and not draws_end
        self._generator, self._seeded = torch.Generator(device), False
        self.play(choice)

    @property
    def generator(self) -> torch.Generator:
        """Without a seed it takes fresh entropy when it is first used, not when built.

        So workers that are given copies of one dream, not yet begun, dream dreams of their own.
        """
        if not self._seeded:
            self._generator.seed()
            self._seeded = True
        return self._generator

    def play(self, choice: NoiseChoice) -> None:
        """Take the noise of the next steps from here; given noise from its first step."""
        self._samples = isinstance(choice, str) and choice == "sample"
        self.choice: NoiseChoice = choice
        self.played = 0

    def seed(self, seed: int) -> None:
        """Seed the generator; given noise begins again."""
        self._generator.manual_seed(seed)
        self._seeded, self.played = True, 0

    def go_on(self, generator: Tensor, played: int) -> None:
        """Continue where another dream stands: with the state of its generator, after as many steps of given noise."""
        self._generator.set_state(generator)
        self._seeded, self.played = True, played

    def draw(self, batch_size: Sequence[int]) -> StepNoise:
        """The noise of the next step, ``[*B, ...]``.

        Raises:
            NoiseUsedUpError: if the noise of T steps was given and T were taken.
        """
        if self._samples:
            if self._draws_nothing:
                return StepNoise({}, None)
            generator = self._generator if self._seeded else self.generator
            z = self._source(batch_size, generator, self._device)
            if not self._draws_end:
                return StepNoise(z, None)
            return StepNoise(z, torch.rand((*batch_size, 1), generator=generator, device=self._device))
        if isinstance(self.choice, str):
            return MODE
        drawn = at_step(self.choice, self.played, batch_size)
        self.played += 1
        return drawn


def lead_of(noise: StepNoise) -> tuple[int, int]:
    """T and N of noise ``[T, N, ...]``; zeros where it holds no tensor, and so is of any number."""
    first = next(iter((noise.z or {}).values()), noise.end) if isinstance(noise, StepNoise) else None
    return (0, 0) if first is None else (first.shape[0], first.shape[1])


def at_step(noise: StepNoise, step: int, batch_size: Sequence[int]) -> StepNoise:
    """The noise of one of T steps, ``[*batch_size, ...]``, for N rows so laid out.

    Raises:
        NoiseUsedUpError: if it is of fewer steps.
        ValueError: if it is of another number of rows.
    """
    steps, rows = lead_of(noise)
    wanted = math.prod(batch_size)
    if steps and step >= steps:
        raise NoiseUsedUpError(
            f"noise was given for {steps} steps, and they were taken: draw it for more steps, or begin it again by a "
            f"seed."
        )
    if steps and rows != wanted:
        raise ValueError(f"noise was given for {rows} rows, and this step has {wanted}.")

    def laid_out(value: Tensor) -> Tensor:
        return value[step].reshape(*batch_size, *value.shape[2:])

    z = noise.z if noise.z is None else {key: laid_out(value) for key, value in noise.z.items()}
    return StepNoise(z, None if noise.end is None else laid_out(noise.end))


def repeated(choice: NoiseChoice, copies: int) -> NoiseChoice:
    """Noise for rows of which each is repeated: row i's for rows i*copies to (i+1)*copies - 1."""
    if isinstance(choice, str) or copies == 1:
        return choice
    z = choice.z if choice.z is None else {key: value.repeat_interleave(copies, 1) for key, value in choice.z.items()}
    return StepNoise(z, None if choice.end is None else choice.end.repeat_interleave(copies, 1))


def check_choice(model: WorldModel, choice: NoiseChoice) -> None:
    """Refuse what is no choice of noise, or noise of another model.

    Raises:
        ValueError: saying what there is to choose.
    """
    if not isinstance(choice, str):
        check_noise(model, choice, lead_of(choice))
    elif choice not in ("sample", "mode"):
        raise ValueError(f"noise is 'sample', 'mode' or a StepNoise of given steps; got {choice!r}.")


def check_noise(model: WorldModel, noise: StepNoise, lead: Sequence[int]) -> None:
    """Refuse noise that is not the model's, ``[*lead, ...]``.

    Raises:
        TypeError: if it is no :class:`StepNoise`.
        ValueError: naming the entry whose key, shape or dtype is another, or that has numbers out of their range.
    """
    if not isinstance(noise, StepNoise):
        raise TypeError(
            f"the noise of a step is a StepNoise(z, end), 'sample' or 'mode'; got {noise!r:.80}. "
            f"draw_noise(model, steps, rows, generator) draws one."
        )
    spec = cast(Composite, model.noise_spec["imagine"])
    wanted = {key: ((*lead, *leaf.shape), leaf.dtype) for key, leaf in items_of(spec)}
    if noise.z is not None and layout_of(noise.z) != wanted:
        raise ValueError(f"{type(model).__name__} takes the noise {told(wanted)}; got {told(layout_of(noise.z))}.")
    uniform = {key for key, leaf in items_of(spec) if isinstance(leaf, Bounded)}
    for key, value in (noise.z or {}).items():
        _check_range(f"noise {key!r}", value, uniform=key in uniform)
    if noise.end is not None:
        _check_end(noise.end, lead)


def _check_end(end: Tensor, lead: Sequence[int]) -> None:
    if tuple(end.shape) != (*lead, 1) or not end.dtype.is_floating_point:
        raise ValueError(f"the draws of the end are floats {[*lead, 1]}; got {end.dtype} {list(end.shape)}.")
    _check_range("the draws of the end", end, uniform=True)


def _check_range(name: str, value: Tensor, *, uniform: bool) -> None:
    if value.device.type != "cpu":
        return  # looking would wait for the device
    fits = (value >= 0) & (value < 1) if uniform else torch.isfinite(value)
    if not bool(fits.all()):
        kind = "uniform numbers in [0, 1)" if uniform else "finite numbers"
        raise ValueError(f"{name} are {kind}; got {value[~fits][0].item()}.")
