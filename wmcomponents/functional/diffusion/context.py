"""How frames that are clean already are shown to a network that was trained on noisy ones.

A dream feeds on its own frames, and their small faults grow. A network that takes them for slightly noisy mends them.
"""

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor

from wmcomponents.functional.diffusion.path import AlphaSigma, diffused


class ContextStabilization(Protocol):
    """How clean frames are shown.

    Attributes:
        level: number of the level that the network is told; 0 is the cleanest.
        uses_noise: whether noise is added.
    """

    level: int
    uses_noise: bool

    def shown(self, frames: Tensor, level: AlphaSigma, noise: Tensor | None = None) -> Tensor:
        """Clean frames as the network reads them.

        Args:
            frames: ``[*shape]``.
            level: alpha and sigma of :attr:`level`.
            noise: standard normal, of the frames' shape; 0 if not given.
        """
        ...


class UntouchedContext:
    """Clean frames as they are, told as slightly noisy (Oasis).

    Args:
        level: the level that is told.
    """

    uses_noise = False

    def __init__(self, level: int) -> None:
        self.level = level

    def shown(self, frames: Tensor, level: AlphaSigma, noise: Tensor | None = None) -> Tensor:
        """The frames themselves."""
        return frames


class ScaledContext:
    """Clean frames made as faint as at a slightly noisy level, without the noise (Diffusion Forcing with DDIM).

    Args:
        level: the level that is told.
    """

    uses_noise = False

    def __init__(self, level: int) -> None:
        self.level = level

    def shown(self, frames: Tensor, level: AlphaSigma, noise: Tensor | None = None) -> Tensor:
        """The frames by alpha."""
        return level.over(frames).alpha * frames


class NoisedContext:
    """Clean frames with the noise of the level (Diffusion Forcing with ancestral steps; GameNGen).

    Args:
        level: the level that is told.
    """

    uses_noise = True

    def __init__(self, level: int) -> None:
        self.level = level

    def shown(self, frames: Tensor, level: AlphaSigma, noise: Tensor | None = None) -> Tensor:
        """The frames by alpha, and noise by sigma."""
        return level.over(frames).alpha * frames if noise is None else diffused(frames, noise, level)


ContextName = Literal["untouched", "scaled", "noised"]
"""Names of ways to show clean frames in configs."""

CONTEXTS: dict[ContextName, Callable[[int], ContextStabilization]] = {
    "untouched": UntouchedContext,
    "scaled": ScaledContext,
    "noised": NoisedContext,
}
