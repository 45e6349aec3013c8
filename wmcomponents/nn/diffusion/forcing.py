"""Films sampled with a level of noise for each frame, along a scheduling matrix (Diffusion Forcing)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.diffusion.context import ContextStabilization
from wmcomponents.functional.diffusion.steps import ddim_step
from wmcomponents.functional.diffusion.targets import Denoised
from wmcomponents.nn.diffusion.process import DiffusionProcess

DenoiseFilm = Callable[[Tensor, Tensor], Denoised]
"""What a network makes of a film ``[N, T, ...]`` whose frames are at levels ``[N, T]``."""


class ForcingSampler(nn.Module):
    """DDIM steps from one row of a scheduling matrix to the next.

    Entries of a matrix count steps: 0 is clean, S is noise. A frame whose entry does not change stays as it is. Clean
    frames are shown to the network as ``context`` has it.

    Args:
        process: that the network was trained on.
        levels: the process's level of each entry, S + 1 rising numbers from -1, such as
            :func:`~wmcomponents.functional.levels_from_clean` gives.
        context: how clean frames are shown.
        eta: how much of the noise is fresh.

    Attributes:
        steps: S.

    Raises:
        ValueError: unless the levels rise from -1, and ``context`` is at a level of the process.

    Reference: Chen et al., Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion (2024), algorithm 2.
    """

    level_of: Tensor

    def __init__(
        self,
        process: DiffusionProcess,
        levels: Sequence[int],
        context: ContextStabilization,
        eta: float = 0.0,
    ) -> None:
        super().__init__()
        numbers = list(levels)
        rises = all(low < high for low, high in zip(numbers[:-1], numbers[1:], strict=True))
        if len(numbers) < 2 or numbers[0] != -1 or not rises or numbers[-1] >= process.levels:
            raise ValueError(
                f"the levels of sampling rise from -1, which is clean, to at most {process.levels - 1}; got {numbers}."
            )
        if not 0 <= context.level < process.levels:
            raise ValueError(
                f"clean frames are told as one of the levels 0 to {process.levels - 1}; got {context.level}: change "
                f"the stabilization level."
            )
        if eta < 0.0:
            raise ValueError(f"eta is at least 0; got {eta}.")
        self.process, self.context, self.eta, self.steps = process, context, eta, len(numbers) - 1
        self.register_buffer("level_of", torch.tensor(numbers, device="cpu"), persistent=False)

    def step(
        self,
        denoise: DenoiseFilm,
        film: Float[Tensor, "n t *event"],
        now: Int[Tensor, "n t"],
        after: Int[Tensor, "n t"],
        *,
        noise: Tensor | None = None,
        context_noise: Tensor | None = None,
    ) -> Float[Tensor, "n t *event"]:
        """The film at the entries of the next row.

        Args:
            denoise: the network's guess.
            film: at the entries of this row.
            now: this row, or one of each film.
            after: the next one.
            noise: fresh, of the film's shape, where ``eta`` is above 0; 0 if not given.
            context_noise: of the film's shape, where the context is noised; 0 if not given.
        """
        level = self.level_of[now]
        is_clean = level < 0
        told = torch.where(is_clean, self.context.level, level)
        at = self.process.at(told)
        shown = torch.where(aligned(is_clean, film), self.context.shown(film, at, context_noise), film)
        guess = denoise(shown, told)
        moved = ddim_step(guess, at, self.process.at(self.level_of[after]), eta=self.eta, noise=noise)
        return torch.where(aligned(now == after, film), film, moved)

    def sample(
        self,
        denoise: DenoiseFilm,
        film: Float[Tensor, "n t *event"],
        schedule: Int[Tensor, "rounds t"] | Int[Tensor, "rounds n t"],
        *,
        noise: Tensor | None = None,
        context_noise: Tensor | None = None,
    ) -> Float[Tensor, "n t *event"]:
        """The film along all rows of a schedule.

        Args:
            denoise: the network's guess.
            film: at the entries of the first row.
            schedule: the rows, the same for all films or one of each.
            noise: fresh, of the film's shape, for each step, ``[rounds - 1, n, t, ...]``.
            context_noise: likewise.
        """
        rows = schedule if schedule.ndim == 3 else schedule[:, None].expand(-1, len(film), -1)
        for i, (now, after) in enumerate(zip(rows[:-1], rows[1:], strict=True)):
            film = self.step(
                denoise,
                film,
                now,
                after,
                noise=None if noise is None else noise[i],
                context_noise=None if context_noise is None else context_noise[i],
            )
        return film
