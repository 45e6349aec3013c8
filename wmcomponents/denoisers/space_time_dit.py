"""A diffusion transformer over films: each frame has its own noise level and action, and no frame sees a later one."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.dit import DiTSize
from wmcomponents.denoisers.rows import check_latent, one_batch
from wmcomponents.functional.patches import patch_grid, unpatchify
from wmcomponents.nn.attention.axial_rope import PixelAxialRoPE, unit_coordinates
from wmcomponents.nn.diffusion.embeddings import NumberEmbedding
from wmcomponents.nn.diffusion.output import AdaptiveOutput, dit_init_
from wmcomponents.nn.diffusion.space_time import AdaptiveSpaceTimeBlock, Following, space_time_blocks
from wmcomponents.nn.space_time.branches import PastFrames
from wmcomponents.nn.vit.patch_embedding import PatchEmbedding

OASIS_500M = DiTSize(1024, 16, 16)
"""How large the published network of Oasis is."""


class SpaceTimeDiT(Component):
    """From noisy frames, a noise level and an action for each to what a diffusion process asks for, frame by frame.

    Blocks look within a frame, then along time; rotary positions tell places and times, so that only differences count.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, T, C, H, W] | float, oldest first | read |
        | "level" | [*B, T] | int or float, as it is | read |
        | "action" | [*B, T, A] | float, what leads TO each frame | read, may be absent: 0 is added then |
        | "network_output" | [*B, T, C, H, W] | float | written |

    Args:
        shape: (C, H, W) of a frame's latent.
        action: A, numbers of an action; 0 for a network that is told none.
        size: how large.
        frames: most frames.
        patch: side of a patch.
        mlp_ratio: the feed-forwards' width over the token's.
        frequency: highest one of the rotary positions within a frame, see :class:`wmcomponents.nn.PixelAxialRoPE`.
        in_keys: frames, levels, and actions where there are any.
        out_keys: the output.

    Raises:
        ValueError: if patches do not fill the latent, or heads do not divide the size. On call, for latents of another
            shape, more frames than there may be, or actions of another size.

    Reference: Oasis: A Universe in a Transformer (Decart and Etched, 2024), and its code.

    Example:
        >>> net = SpaceTimeDiT((4, 4, 6), 5, DiTSize(16, depth=1, heads=2), frames=3)
        >>> film, level, action = torch.zeros(1, 3, 4, 4, 6), torch.full((1, 3), 14), torch.zeros(1, 3, 5)
        >>> net(film, level, action).shape
        torch.Size([1, 3, 4, 4, 6])
        >>> past = net.remember(film[:, :2], level[:, :2], action[:, :2])
        >>> last, _ = net.follow(film[:, 2:], level[:, 2:], action[:, 2:], past, torch.tensor([[2]]))
        >>> torch.allclose(last, net(film, level, action)[:, 2:])
        True
    """

    place: Tensor

    def __init__(
        self,
        shape: Sequence[int] = (16, 18, 32),
        action: int = 25,
        size: DiTSize = OASIS_500M,
        *,
        frames: int = 32,
        patch: int = 2,
        mlp_ratio: float = 4.0,
        frequency: float = 256.0,
        in_keys: Sequence[NestedKey] = ("noisy", "level", "action"),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        kept = in_keys if action else in_keys[:2]
        super().__init__(kept, out_keys, optional_keys=kept[2:])
        channels, *sides = self.shape = tuple(shape)
        dim, self.patch, self.frames, self.actions = size.dim, patch, frames, action
        self.grid = patch_grid(sides, (patch, patch))
        self.patches = PatchEmbedding(channels, dim, (patch, patch))
        self.level = NumberEmbedding(dim)
        self.action = nn.Linear(action, dim) if action else None
        rope = PixelAxialRoPE(dim // size.heads, frequency=frequency)
        self.blocks = space_time_blocks(size.depth, dim, size.heads, int(dim * mlp_ratio), rope)
        self.out = AdaptiveOutput(dim, patch**2 * channels)
        self.register_buffer("place", unit_coordinates(self.grid), persistent=False)
        dit_init_(self)

    def compute(
        self,
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        action: Float[Tensor, "*batch t a"] | None = None,
    ) -> Float[Tensor, "*batch t c h w"]:
        """See the table of keys."""
        x, condition = self._told(noisy, level, action, self.frames)
        for block in self.blocks:
            x = block(x, condition, self.place)
        return self._frames(x, condition, noisy)

    def remember(
        self,
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        action: Float[Tensor, "*batch t a"] | None = None,
    ) -> list[PastFrames]:
        """What :meth:`follow` needs of the frames of the past, for each block: ``[B, N, heads, T, d]`` each.

        Args:
            noisy: the frames, as they stay while others are denoised behind them; rows may have fewer that mean
                anything, which stand first.
            level: of each frame.
            action: of each frame.
        """
        x, condition = self._told(noisy, level, action, self.frames)
        kept = []
        for block in self.blocks:
            x, past = cast(AdaptiveSpaceTimeBlock, block).remember(x, condition, self.place)
            kept.append(past)
        return kept

    def follow(
        self,
        noisy: Float[Tensor, "*batch k c h w"],
        level: Float[Tensor, "*batch k"] | Int[Tensor, "*batch k"],
        action: Float[Tensor, "*batch k a"] | None,
        past: Sequence[PastFrames],
        start: Int[Tensor, "b 1"],
    ) -> tuple[Float[Tensor, "*batch k c h w"], list[PastFrames]]:
        """The output for frames behind remembered ones, as :meth:`compute` would give it for the whole film.

        Args:
            noisy: the new frames.
            level: of each.
            action: of each.
            past: as :meth:`remember` gave it, of as many frames as the rows have at most.
            start: how many of these frames are each row's own, which is also where its first new frame stands.

        Returns:
            The output, and the keys and values of the new frames, which :func:`wmcomponents.denoisers.appended` puts
            behind those of the past.

        Raises:
            ValueError: if past and new frames together are more than there may be.
        """
        remembered = past[0].keys.shape[-2]
        x, condition = self._told(noisy, level, action, self.frames - remembered)
        frames, kept = Following(start, x.shape[1], remembered, x.dtype), []
        for block, before in zip(self.blocks, past, strict=True):
            x, new = cast(AdaptiveSpaceTimeBlock, block).follow(x, condition, self.place, before, frames)
            kept.append(new)
        return self._frames(x, condition, noisy), kept

    def _told(self, noisy: Tensor, level: Tensor, action: Tensor | None, most: int) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, T, N, D]`` and conditions ``[B, T, D]``."""
        check_latent(noisy, 4, self.shape)
        lead, frames = noisy.shape[:-3], noisy.shape[-4]
        if not 0 < frames <= most:
            raise ValueError(
                f"from 1 to {most} frames are expected here, with those that are remembered {self.frames}; got "
                f"{frames}: cut the film, or build for longer ones."
            )
        x, level, action = one_batch(lead, noisy=noisy, level=level, action=action)
        condition = self.level(level)
        if action is not None:
            if self.action is None or action.shape[-1] != self.actions:
                raise ValueError(
                    f"actions of {self.actions} numbers are expected for each frame; got {[*action.shape[1:]]}."
                )
            condition = condition + self.action(action)
        tokens = self.patches(x)
        return tokens.unflatten(0, (-1, frames)), condition.unflatten(0, (-1, frames))

    def _frames(self, x: Tensor, condition: Tensor, noisy: Tensor) -> Tensor:
        out = self.out(x, condition.unsqueeze(2)).flatten(0, 1)
        return unpatchify(out, self.patch, self.grid).reshape(noisy.shape)


def appended(past: Sequence[PastFrames], new: Sequence[PastFrames], start: Int[Tensor, "b 1"]) -> list[PastFrames]:
    """Keys and values of the past with those of new frames in them, for each block; nothing is changed in place.

    Args:
        past: as :meth:`SpaceTimeDiT.remember` gave it, with room behind each row's own frames.
        new: as :meth:`SpaceTimeDiT.follow` gave it, for frames as they stay.
        start: how many frames of the past are each row's own.

    Raises:
        ValueError: if there are more new ones than room.
    """
    room, count = past[0].keys.shape[-2], new[0].keys.shape[-2]
    if count > room:
        raise ValueError(f"there is room for {room} frames; got {count} new ones.")
    at = (start + torch.arange(count, device=start.device)).view(len(start), 1, 1, count, 1)

    def put(old: Tensor, fresh: Tensor) -> Tensor:
        return old.scatter(-2, at.expand_as(fresh), fresh)

    return [
        PastFrames(put(old.keys, fresh.keys), put(old.values, fresh.values))
        for old, fresh in zip(past, new, strict=True)
    ]
