"""The video model that AVID adapts: what it is asked, one of this library, and one of the user's."""

from typing import Protocol

from torch import Tensor, nn

from wmcomponents.denoisers import FilmUNet, beside_context
from wmcomponents.nn.mode import EvalMode
from wmcomponents.nn.not_saved import NotSaved


class VideoModel(Protocol):
    """A video model that knows no actions; nothing but what it says is needed of it."""

    def __call__(self, noisy: Tensor, level: Tensor, context: Tensor) -> Tensor:
        """What it predicts of films behind past frames, ``[N, T, C, H, W]``.

        Args:
            noisy: the films, ``[N, T, C, H, W]``.
            level: of each frame, int64 ``[N, T]``, the same for all of a film.
            context: the frames before them, clean, oldest first, ``[N, M, C, H, W]``.
        """
        ...


class ContextVideoModel(nn.Module):
    """A U-Net over films that are drawn behind past frames, which every frame has beside it, along the channels.

    Args:
        network: of a film's frame beside M past ones, to a frame; it is told no action.

    Reference: Rigter et al., AVID (2024), section 5: the base in pixels.
    """

    def __init__(self, network: FilmUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor, level: Tensor, context: Tensor) -> Tensor:
        """See :class:`VideoModel`."""
        return self.network.compute(beside_context(noisy, context), level)


class GivenVideoModel(NotSaved):
    """A video model of the user's, in evaluation mode whenever it is asked.

    Args:
        module: called as :class:`VideoModel` is.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self._evaluating = EvalMode(module)

    def forward(self, noisy: Tensor, level: Tensor, context: Tensor) -> Tensor:
        """What it predicts.

        Raises:
            ValueError: if that has another shape than the films.
        """
        with self._evaluating:
            said = self.module(noisy, level, context)
        if not isinstance(said, Tensor) or said.shape != noisy.shape:
            found = [*said.shape] if isinstance(said, Tensor) else type(said).__name__
            raise ValueError(
                f"a video model says something of every number of films {[*noisy.shape]}; {type(self.module).__name__} "
                f"gave {found}: wrap it so that it takes (noisy, level, context) and gives what it predicts."
            )
        return said
