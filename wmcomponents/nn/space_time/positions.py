"""Where a token stands in a film, told by a vector that is added to it: frame and place within the frame."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class FilmPositions(nn.Module, ABC):
    """Base of vectors that are added to the tokens of a film.

    Args:
        frames: most frames.
        tokens: of a frame.
    """

    def __init__(self, frames: int, tokens: int) -> None:
        super().__init__()
        self.frames, self.tokens = frames, tokens

    @abstractmethod
    def at(self, frame: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch n d"]:
        """The vectors of the tokens of frames.

        Args:
            frame: their number, from 0.
        """

    def forward(self, x: Float[Tensor, "*batch t n d"]) -> Float[Tensor, "*batch t n d"]:
        """The film with positions added, from frame 0 on.

        Raises:
            ValueError: for more frames than there may be, or frames of another number of tokens.
        """
        frames, tokens = x.shape[-3:-1]
        if frames > self.frames or tokens != self.tokens:
            raise ValueError(
                f"films have up to {self.frames} frames of {self.tokens} tokens; got {frames} of {tokens}: cut the "
                f"film, or build for longer ones."
            )
        return x + self.at(torch.arange(frames, device=x.device))


class SinusoidalFilmPositions(FilmPositions):
    r"""Sines and cosines in turn of the frame's number, and the same of the place's: both are added.

    .. math:: p_{2i} = \sin(t\, 10000^{-2i/d}), \qquad p_{2i + 1} = \cos(t\, 10000^{-2i/d})

    Args:
        frames: most frames.
        tokens: of a frame.
        dim: size of a token, even.

    Raises:
        ValueError: for an odd size.

    Reference: p-doom/jasmine, an open code of Genie.
    """

    time: Tensor
    space: Tensor

    def __init__(self, frames: int, tokens: int, dim: int) -> None:
        super().__init__(frames, tokens)
        self.register_buffer("time", alternating_positions(frames, dim), persistent=False)
        self.register_buffer("space", alternating_positions(tokens, dim), persistent=False)

    def at(self, frame: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch n d"]:
        """The vectors of the tokens of frames."""
        return self.time[frame].unsqueeze(-2) + self.space


class LearnedFilmPositions(FilmPositions):
    """A learned vector for each token of each frame.

    Args:
        frames: most frames.
        tokens: of a frame.
        dim: size of a token.

    Reference: 1x-technologies/1xgpt.
    """

    def __init__(self, frames: int, tokens: int, dim: int) -> None:
        super().__init__(frames, tokens)
        self.table = nn.Parameter(torch.zeros(frames, tokens, dim))

    def at(self, frame: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch n d"]:
        """The vectors of the tokens of frames."""
        return self.table[frame]


class NoFilmPositions(FilmPositions):
    """Nothing is added, where blocks tell positions themselves; lengths are still looked at."""

    def at(self, frame: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch n d"]:
        """Zeros that fit any token, ``[*B, 1, 1]``."""
        return torch.zeros(*frame.shape, 1, 1, device=frame.device)


def alternating_positions(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """Sines at even numbers and cosines at odd ones, of positions from 0.

    Args:
        length: number of positions.
        dim: size of the vectors, even.

    Raises:
        ValueError: for an odd size.

    Reference: Vaswani et al., Attention Is All You Need (2017), section 3.5.
    """
    if dim % 2:
        raise ValueError(f"sines and cosines come in pairs, so the size is even; got {dim}.")
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    angle = torch.arange(length, dtype=torch.float32).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
