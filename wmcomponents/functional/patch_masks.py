"""Which patches are seen and which are predicted: the masks of MAE, I-JEPA and V-JEPA, drawn as indices."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Masks(NamedTuple):
    """Masks of a batch, as patches by number.

    Attributes:
        context: those that are seen, int64 ``[B, K]``.
        target: those that are predicted, in M sets, int64 ``[B, M, L]``.
    """

    context: Tensor
    target: Tensor


class PatchMasks(ABC):
    """Interface of what draws masks.

    Attributes:
        grid: patches along each axis.
    """

    grid: tuple[int, ...]

    @abstractmethod
    def draw(self, batch: int, places: torch.Generator | None = None, sizes: torch.Generator | None = None) -> Masks:
        """Masks of a batch.

        Args:
            batch: B.
            places: draws where blocks lie, on the CPU; torch's global generator if not given.
            sizes: draws how large the blocks of the whole batch are, where masks have blocks; the global one if not
                given. The papers' codes seed it with the number of the batch.
        """


@dataclass(frozen=True)
class RandomMasks(PatchMasks):
    """MAE's masks: a share of the patches, each as likely as any other, is hidden, and all of them are predicted.

    Attributes:
        grid: patches along each axis.
        ratio: share that is hidden, in (0, 1).

    Raises:
        ValueError: if no patch is left, or none is hidden.

    Reference: He et al., Masked Autoencoders Are Scalable Vision Learners (2022), section 3.
    """

    grid: tuple[int, ...]
    ratio: float = 0.75

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if not 0 < self.kept < math.prod(self.grid):
            raise ValueError(f"a ratio of {self.ratio} of a grid {self.grid} leaves {self.kept} patches.")

    @property
    def kept(self) -> int:
        """How many patches are seen."""
        return int(math.prod(self.grid) * (1.0 - self.ratio))

    def draw(self, batch: int, places: torch.Generator | None = None, sizes: torch.Generator | None = None) -> Masks:
        """See :meth:`PatchMasks.draw`."""
        return masks_of_noise(torch.rand(batch, math.prod(self.grid), generator=places), self.kept)


def masks_of_noise(noise: Float[Tensor, "b n"], keep: int) -> Masks:
    """The patches with the least noise are seen, all others are one set of targets, in the order of their noise.

    Args:
        noise: a number for each patch.
        keep: how many are seen.

    Reference: the code of MAE (2022), whose ``ids_restore`` is the inverse of both, one behind the other.
    """
    order = noise.argsort(dim=1, stable=True)
    return Masks(order[:, :keep], order[:, None, keep:])


@dataclass(frozen=True)
class RandomTubeMasks(PatchMasks):
    """V-JEPA's tubes: a share of the places is hidden in every frame, each as likely as any other.

    Attributes:
        grid: (time, rows, columns).
        ratio: share of the places that is hidden, in (0, 1).

    Raises:
        ValueError: if the grid is not one of clips, or no place is left or hidden.

    Reference: Bardes et al., V-JEPA (2024), and its code.
    """

    grid: tuple[int, ...]
    ratio: float = 0.9

    def __post_init__(self) -> None:
        _, rows, columns = _clip_grid(self)
        if not 0 < int(rows * columns * (1.0 - self.ratio)) < rows * columns:
            raise ValueError(f"a ratio of {self.ratio} of {rows} x {columns} places leaves none, or all, of them.")

    def draw(self, batch: int, places: torch.Generator | None = None, sizes: torch.Generator | None = None) -> Masks:
        """See :meth:`PatchMasks.draw`."""
        _, rows, columns = self.grid
        noise = torch.rand(batch, rows * columns, generator=places)
        seen = noise.argsort(1).argsort(1) < int(rows * columns * (1.0 - self.ratio))
        return self.of_places(seen)

    def of_places(self, seen: Bool[Tensor, "b hw"]) -> Masks:
        """The masks of given places.

        Args:
            seen: which places are seen, as many in each row.
        """
        tubes = seen.unsqueeze(1).expand(-1, self.grid[0], -1).flatten(1)
        context, target = _indices(list(tubes)), _indices(list(~tubes))
        return Masks(context, target.unsqueeze(1))


@dataclass(frozen=True)
class MultiBlockMasks(PatchMasks):
    """I-JEPA's masks: blocks that are predicted, each by itself, and one large block without them that is seen.

    All images of a batch have blocks of one size, for which a single number is drawn: larger blocks are wider ones. The
    context is cut to the smallest of the batch, which keeps its first patches.

    Attributes:
        grid: (rows, columns).
        targets: number of blocks that are predicted; they may overlap.
        target_scale: least and largest share of the image of such a block.
        context_scale: of the block that is seen, a square.
        aspect: least and largest ratio of height to width of a predicted block.
        least: patches that a context must have more of.
        reach_borders: whether a block may lie in the last row and column. I-JEPA's never do.

    Raises:
        ValueError: if the grid is not one of images, a share or the count is out of range, or the least cannot be had.

    Reference: Assran et al., I-JEPA (2023), section 3, and its code.
    """

    grid: tuple[int, ...]
    targets: int = 4
    target_scale: tuple[float, float] = (0.15, 0.2)
    context_scale: tuple[float, float] = (0.85, 1.0)
    aspect: tuple[float, float] = (0.75, 1.5)
    least: int = 10
    reach_borders: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if len(self.grid) != 2 or min(self.grid) < 2:
            raise ValueError(f"blocks of images lie on a grid (rows, columns) of at least 2 each; got {self.grid}.")
        for name, (low, high) in (("target_scale", self.target_scale), ("context_scale", self.context_scale)):
            if not 0.0 < low <= high <= 1.0:
                raise ValueError(f"{name} is a least and a largest share of the image in (0, 1]; got {low}, {high}.")
        if self.targets < 1 or not 0.0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"at least 1 target, of a positive aspect; got {self.targets}, {self.aspect}.")
        height, width = self._size(0.0, self.context_scale, (1.0, 1.0))
        if height * width <= self.least:
            raise ValueError(f"a context of {height} x {width} patches never has more than {self.least}: lower least.")

    def sizes(self, generator: torch.Generator | None = None) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the predicted blocks, and of the block that is seen.

        Args:
            generator: draws them.
        """
        target, context = (float(torch.rand(1, generator=generator)) for _ in range(2))
        return self._size(target, self.target_scale, self.aspect), self._size(context, self.context_scale, (1.0, 1.0))

    def draw(self, batch: int, places: torch.Generator | None = None, sizes: torch.Generator | None = None) -> Masks:
        """See :meth:`PatchMasks.draw`."""
        target_size, context_size = self.sizes(sizes)
        contexts, targets = [], []
        for _ in range(batch):
            blocks = [self._block(target_size, places) for _ in range(self.targets)]
            targets.append(_indices([block.flatten() for block in blocks]))
            contexts.append(self._context(context_size, blocks, places).flatten())
        return Masks(_indices(contexts), torch.stack(targets))

    def _size(self, share: float, scale: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int]:
        rows, columns = self.grid
        count = int(rows * columns * (scale[0] + share * (scale[1] - scale[0])))
        ratio = aspect[0] + share * (aspect[1] - aspect[0])
        height, width = round(math.sqrt(count * ratio)), round(math.sqrt(count / ratio))
        return max(1, min(height, rows - 1)), max(1, min(width, columns - 1))

    def _block(self, size: tuple[int, int], generator: torch.Generator | None) -> Tensor:
        block = torch.zeros(self.grid, dtype=torch.bool)
        # One is added where the last place is meant to be reached.
        free = (side - part + self.reach_borders for side, part in zip(self.grid, size, strict=True))
        top, left = (int(torch.randint(0, room, (1,), generator=generator)) for room in free)
        block[top : top + size[0], left : left + size[1]] = True
        return block

    def _context(self, size: tuple[int, int], blocks: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        """A block without the predicted ones; where too little is left, without the last of them less and less."""
        for respected in range(len(blocks), -1, -1):
            for _ in range(TRIES):
                seen = self._block(size, generator)
                for block in blocks[:respected]:
                    seen = seen & ~block
                if int(seen.sum()) > self.least:
                    return seen
        raise AssertionError("a whole block has more than the least")  # seen to at construction


TRIES = 20
"""Places that are tried for a context before one predicted block less is left out of it."""


@dataclass(frozen=True)
class BlockTubeMasks(PatchMasks):
    """V-JEPA's masks: blocks in space, all through time, are predicted together; everything else is seen.

    All clips of a batch have blocks of one size. Context and target are cut to the smallest of the batch, which keeps
    the first patches: some are neither seen nor predicted.

    Attributes:
        grid: (time, rows, columns).
        blocks: number of blocks; they may overlap.
        spatial_scale: least and largest share of the image of a block.
        temporal_scale: of the steps of time.
        aspect: least and largest ratio of height to width.
        seen_time: share of the steps of time after which nothing is seen; 1 shows all.

    Raises:
        ValueError: if the grid is not one of clips, or a share or the count is out of range.

    Reference: Bardes et al., V-JEPA (2024), section 3 and its code: 8 blocks of 0.15 beside 2 of 0.7.
    """

    grid: tuple[int, ...]
    blocks: int = 8
    spatial_scale: tuple[float, float] = (0.15, 0.15)
    temporal_scale: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (0.75, 1.5)
    seen_time: float = 1.0

    def __post_init__(self) -> None:
        _clip_grid(self)
        for name in ("spatial_scale", "temporal_scale"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= 1.0:
                raise ValueError(f"{name} is a least and a largest share in (0, 1]; got {low}, {high}.")
        if self.blocks < 1 or not 0.0 < self.aspect[0] <= self.aspect[1] or not 0.0 < self.seen_time <= 1.0:
            raise ValueError(
                f"at least 1 block, of a positive aspect, seen for a share of the time in (0, 1]; got {self.blocks}, "
                f"{self.aspect}, {self.seen_time}."
            )

    def size(self, generator: torch.Generator | None = None) -> tuple[int, int, int]:
        """Steps of time, height and width of the blocks.

        Args:
            generator: draws them.
        """
        time, rows, columns = self.grid
        temporal, spatial, shape = (float(torch.rand(1, generator=generator)) for _ in range(3))
        steps = max(1, int(time * _between(self.temporal_scale, temporal)))
        count = int(rows * columns * _between(self.spatial_scale, spatial))
        ratio = _between(self.aspect, shape)
        height, width = round(math.sqrt(count * ratio)), round(math.sqrt(count / ratio))
        return steps, max(1, min(height, rows)), max(1, min(width, columns))

    def draw(self, batch: int, places: torch.Generator | None = None, sizes: torch.Generator | None = None) -> Masks:
        """See :meth:`PatchMasks.draw`.

        Raises:
            RuntimeError: if blocks of this size leave nothing to be seen, wherever they lie.
        """
        size = self.size(sizes)
        contexts, targets = [], []
        for _ in range(batch):
            hidden = self._hidden(size, places)
            seen = ~hidden
            seen[max(1, int(self.grid[0] * self.seen_time)) :] = False
            contexts.append(seen.flatten())
            targets.append(hidden.flatten())
        return Masks(_indices(contexts), _indices(targets).unsqueeze(1))

    def _hidden(self, size: tuple[int, int, int], generator: torch.Generator | None) -> Tensor:
        steps, height, width = size
        time, rows, columns = self.grid
        for _ in range(MOST_DRAWS):
            hidden = torch.zeros(self.grid, dtype=torch.bool)
            for _ in range(self.blocks):
                room = (rows - height + 1, columns - width + 1, time - steps + 1)
                top, left, start = (int(torch.randint(0, free, (1,), generator=generator)) for free in room)
                hidden[start : start + steps, top : top + height, left : left + width] = True
            if not bool(hidden[: max(1, int(time * self.seen_time))].all()):
                return hidden
        raise RuntimeError(
            f"{self.blocks} blocks of {size} patches leave nothing of a grid {self.grid} to be seen: take fewer or "
            f"smaller ones."
        )


MOST_DRAWS = 1000
"""Of the places of blocks, before it is clear that they always hide everything."""


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])


def _clip_grid(masks: RandomTubeMasks | BlockTubeMasks) -> tuple[int, int, int]:
    object.__setattr__(masks, "grid", tuple(masks.grid))
    if len(masks.grid) != 3 or min(masks.grid) < 1:
        raise ValueError(f"masks of clips lie on a grid (time, rows, columns); got {masks.grid}.")
    time, rows, columns = masks.grid
    return time, rows, columns


def _indices(chosen: Sequence[Bool[Tensor, " n"]]) -> Int[Tensor, "b k"]:
    """Places where masks are true, cut to the fewest."""
    places = [row.nonzero().squeeze(1) for row in chosen]
    fewest = min(len(row) for row in places)
    return torch.stack([row[:fewest] for row in places])
