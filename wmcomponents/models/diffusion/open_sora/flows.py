"""Open-Sora's networks as velocities from data to noise of films of which some frames are given."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.denoisers import DiTSize, MMDiT, MMDiTSize, STDiT3, told
from wmcomponents.functional import film_shift, token_shift
from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.diffusion.open_sora.config import MMDiTConfig, STDiT3Config


class FlowCondition(NamedTuple):
    """What a film is made under.

    Attributes:
        known: frames that are given, bool ``[N, T]``.
        present: frames that there are, bool ``[N, T]``.
        action: vectors of the actions that lead to them, ``[N, T, A]``; 0 where none does.
        text: vectors ``[N, M, E]``, of which those that are 0 say nothing; ``None`` for no text.
    """

    known: Tensor
    present: Tensor
    action: Tensor
    text: Tensor | None = None


class FilmFlow(nn.Module):
    """Base of velocities of films, as one network or the other says them.

    Args:
        text_tokens: M.
        text_width: E.
    """

    def __init__(self, text_tokens: int, text_width: int) -> None:
        super().__init__()
        self.text_tokens, self.text_width = text_tokens, text_width

    @abstractmethod
    def forward(
        self, film: Float[Tensor, "n t c h w"], time: Float[Tensor, " n"], under: FlowCondition
    ) -> Float[Tensor, "n t c h w"]:
        """The velocity from data to noise; of given frames of no meaning.

        Args:
            film: at its time, the given frames as they are.
            time: 0 for data, 1 for noise.
            under: what the film is made under.
        """

    @abstractmethod
    def shift(self, frames: int) -> float:
        """How many times the odds of noise are raised for films of this size.

        Args:
            frames: of the film.
        """


class STDiT3Flow(FilmFlow):
    """The velocity by Open-Sora 1.2's network, which knows levels up to 1000 and says the way from noise to data.

    Given frames are told as level 0. Where no text is said, the network's own that stands for none is.

    Args:
        config: sizes.
        shape: (channels, height, width) of a frame.
        action: A.
        pixels: height and width of the images.
    """

    size: Tensor

    def __init__(self, config: STDiT3Config, shape: tuple[int, int, int], action: int, pixels: tuple[int, int]) -> None:
        super().__init__(config.text_tokens, config.text_width)
        patch_grid(shape[1:], (config.patch, config.patch))
        self.net = STDiT3(
            shape[0],
            config.text_width,
            DiTSize(config.dim, config.depth, config.heads),
            patch=(1, config.patch, config.patch),
            text_length=config.text_tokens,
            square=config.square,
            action=action,
        )
        self.fps, self.channels = config.fps, shape[0]
        self.register_buffer("size", torch.tensor([float(side) for side in pixels]), persistent=False)
        self.area = pixels[0] * pixels[1]

    def forward(
        self, film: Float[Tensor, "n t c h w"], time: Float[Tensor, " n"], under: FlowCondition
    ) -> Float[Tensor, "n t c h w"]:
        """See :class:`FilmFlow`."""
        rows, nothing = len(film), self.net.no_text
        text, shown = nothing.expand(rows, *nothing.shape), None
        if under.text is not None:
            says = (under.text != 0).any(-1)
            is_said = says.any(-1, keepdim=True)
            text = torch.where(is_said.unsqueeze(-1), under.text, nothing)
            shown = says | ~is_said
        said = self.net.compute(
            film,
            1000.0 * time,
            text,
            time.new_full((rows,), self.fps),
            self.size.expand(rows, 2),
            shown,
            under.known,
            under.action,
            under.present,
        )
        return -said[:, :, : self.channels]

    def shift(self, frames: int) -> float:
        """By the pixels of a frame and the number of frames."""
        return film_shift(self.area, frames)


class MMDiTFlow(FilmFlow):
    """The velocity by Open-Sora 2.0's network, which knows levels up to 1 and says the way from data to noise.

    Given frames are told beside the film. The summary of a text is the mean of the vectors that say something.

    Args:
        config: sizes.
        shape: (channels, height, width) of a frame.
        action: A.
    """

    def __init__(self, config: MMDiTConfig, shape: tuple[int, int, int], action: int) -> None:
        super().__init__(config.text_tokens, config.text_width)
        rows, columns = patch_grid(shape[1:], (config.patch, config.patch))
        self.net = MMDiT(
            shape[0],
            config.text_width,
            config.text_width,
            MMDiTSize(config.dim, config.two_streams, config.one_stream, config.heads, config.shares),
            patch=config.patch,
            action=action,
        )
        self.tokens = rows * columns

    def forward(
        self, film: Float[Tensor, "n t c h w"], time: Float[Tensor, " n"], under: FlowCondition
    ) -> Float[Tensor, "n t c h w"]:
        """See :class:`FilmFlow`."""
        text = film.new_zeros(len(film), 1, self.text_width) if under.text is None else under.text
        shown = (text != 0).any(-1)
        summary = text.sum(1) / shown.sum(1, keepdim=True).clamp_min(1)
        given = told(film, under.known)
        return self.net.compute(film, time, text, summary, given, under.action, under.present, shown)

    def shift(self, frames: int) -> float:
        """By the tokens of a frame and the number of frames."""
        return token_shift(self.tokens, frames)


def flow_of(
    config: STDiT3Config | MMDiTConfig, shape: tuple[int, int, int], action: int, pixels: tuple[int, int]
) -> FilmFlow:
    """The velocity of films by the network that a config names.

    Args:
        config: sizes.
        shape: (channels, height, width) of a frame.
        action: numbers of an action.
        pixels: height and width of the images.

    Raises:
        ValueError: if patches do not fill a frame, or sizes do not fit each other.
    """
    if isinstance(config, MMDiTConfig):
        return MMDiTFlow(config, shape, action)
    return STDiT3Flow(config, shape, action, pixels)
