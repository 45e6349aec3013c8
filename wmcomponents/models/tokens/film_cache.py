"""Keys and values of a window's frames that outlive a step."""

from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, TensorSpec, Unbounded

from wmcomponents.dynamics import MaskGITDynamics
from wmcomponents.world_model import State


class FilmCache:
    """What the dynamics read of the frames of a window, kept in the state from step to step.

    State: ``kv_cache`` float ``[*B, W - 1, M, K]``, of each frame that may be past, each of its tokens (that of an
    action among them, where it stands before the frame) and all layers; ``cached`` int64 ``[*B, 1]``, of how many
    frames it is.

    Positions are counted from the window's first frame, and what a frame's keys hold comes of the frames before it:
    where a window moves, all of them are others, and are read anew. Up to there one frame is read in a step, in place
    of the whole window. Whether that is so is asked of the rows; on an accelerator the answer would have to be waited
    for, and in a compiled step it would break the graph: there the window is read in every step.

    Args:
        dynamics: of the tokens.
        frames: W.
        tokens: of a frame.
        action: size of the vectors that the dynamics read of actions.
    """

    def __init__(self, dynamics: MaskGITDynamics, frames: int, tokens: int, action: int) -> None:
        self.frames = frames - 1
        weight = next(dynamics.parameters())
        blank = torch.zeros(1, 1, tokens, dtype=torch.int64, device=weight.device)
        with torch.no_grad():
            pieces = self._read(dynamics, blank, weight.new_zeros(1, 1, action))
        self.sizes = [piece.shape[-1] for piece in pieces]
        self.shape = torch.Size([self.frames, pieces[0].shape[2], sum(self.sizes)])

    def spec(self) -> dict[str, TensorSpec]:
        """Of the state's further entries."""
        held = Bounded(0, self.frames, torch.Size([1]), dtype=torch.int64)
        return {"kv_cache": Unbounded(self.shape), "cached": held}

    def empty(self, like: Tensor) -> State:
        """Nothing is held; for rows as those of ``filled``, ``[*B, 1]``."""
        return {
            "kv_cache": torch.zeros(*like.shape[:-1], *self.shape, device=like.device),
            "cached": torch.zeros_like(like),
        }

    def past(
        self, dynamics: MaskGITDynamics, cache: Tensor, held: Tensor, tokens: Tensor, led: Tensor, place: Tensor
    ) -> list[list[Any]]:
        """What the dynamics need of the past, written into the cache that is given.

        Args:
            dynamics: of the tokens.
            cache: ``[B, W - 1, M, K]``.
            held: of how many frames it is, ``[B, 1]``.
            tokens: of the past, ``[B, W - 1, N]``.
            led: vectors of what led to its frames, ``[B, W - 1, A]``.
            place: how many frames of it there are, ``[B, 1]``.
        """
        newest = (place - 1).clamp_min(0)
        if place.device.type == "cpu" and not torch.compiler.is_compiling() and bool((held == newest).all()):
            row, at = torch.arange(len(place)), newest.squeeze(-1)
            own = dynamics.extend(self._unpacked(dynamics, cache), tokens[row, at], led[row, at], newest)
            cache[row, at] = torch.cat(own, -1)
        else:
            cache.copy_(torch.cat(self._read(dynamics, tokens, led), -1))
        return self._unpacked(dynamics, cache)

    def _read(self, dynamics: MaskGITDynamics, tokens: Tensor, led: Tensor) -> list[Tensor]:
        return dynamics.transformer.pack(dynamics.remember(tokens, led))

    def _unpacked(self, dynamics: MaskGITDynamics, cache: Tensor) -> list[list[Any]]:
        return dynamics.transformer.unpack(cache.split(self.sizes, -1))
