"""Images and clips as rows of patches, and back; positions on the grid that the patches form."""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate


def patch_grid(size: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """How many patches lie along each axis of an image (height, width) or a clip (time, height, width).

    Args:
        size: pixels, and frames, along each axis.
        patch: of a patch along each axis.

    Raises:
        ValueError: if the axes are not as many, or patches do not fill one exactly.

    >>> patch_grid((16, 224, 224), (2, 16, 16))
    (8, 14, 14)
    """
    size, patch = tuple(size), tuple(patch)
    if len(size) != len(patch):
        raise ValueError(f"patches {patch} have {len(patch)} axes and what is cut {size} has {len(size)}.")
    if any(part < 1 for part in patch) or any(
        side < part or side % part for side, part in zip(size, patch, strict=True)
    ):
        what = "frames" if len(size) == 3 and (size[0] < patch[0] or size[0] % patch[0]) else "pixels"
        raise ValueError(
            f"patches {patch} do not fill {size} exactly: resize or cut to a multiple of the patch along each axis "
            f"(the {what} do not come out)."
        )
    return tuple(side // part for side, part in zip(size, patch, strict=True))


def patchify(image: Float[Tensor, "*batch c h w"], patch: int) -> Float[Tensor, "*batch n p"]:
    """Each square of an image as a vector, row by row; inside a vector the order is (row, column, channel).

    Args:
        image: channels first.
        patch: side of a square.

    Raises:
        ValueError: if squares do not fill the image.

    Reference: He et al., Masked Autoencoders Are Scalable Vision Learners (2022).
    """
    patch_grid(image.shape[-2:], (patch, patch))
    return rearrange(image, "... c (h p) (w q) -> ... (h w) (p q c)", p=patch, q=patch)


def unpatchify(patches: Float[Tensor, "*batch n p"], patch: int, grid: Sequence[int]) -> Float[Tensor, "*batch c h w"]:
    """The image of :func:`patchify`'s vectors.

    Args:
        patches: as many as the grid has places.
        patch: side of a square.
        grid: rows and columns of squares.

    Raises:
        ValueError: if the vectors are not as many, or no squares of whole channels.
    """
    rows, columns = grid
    if patches.shape[-2] != rows * columns or patches.shape[-1] % patch**2:
        raise ValueError(
            f"a grid of {rows} x {columns} squares of {patch} x {patch} pixels has {rows * columns} vectors of a "
            f"multiple of {patch**2} numbers; got {[*patches.shape[-2:]]}."
        )
    return rearrange(patches, "... (h w) (p q c) -> ... c (h p) (w q)", h=rows, w=columns, p=patch, q=patch)


def grid_coordinates(grid: Sequence[int], device: torch.device | str | None = None) -> Int[Tensor, "n axes"]:
    """Where each patch stands, along each axis, in the order in which patches are numbered: the last axis runs first.

    Args:
        grid: patches along each axis.
        device: of the result.

    >>> grid_coordinates((2, 2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    axes = [torch.arange(side, device=device) for side in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(math.prod(grid), len(axes))


def take_tokens(tokens: Float[Tensor, "b n d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens of each row at its own places.

    Args:
        tokens: one sequence a row.
        index: places in each sequence.
    """
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def sincos_axis(position: Float[Tensor, " n"] | Int[Tensor, " n"], dim: int) -> Float[Tensor, "n dim"]:
    r"""Sines, then cosines, of positions along one axis, :math:`\omega_k = 10000^{-k / (d / 2)}`; made in float64.

    Args:
        position: along the axis.
        dim: size of the vectors, even.

    Raises:
        ValueError: for an odd size.
    """
    if dim % 2:
        raise ValueError(f"sines and cosines come in pairs, so the size along an axis is even; got {dim}.")
    rate = 10_000.0 ** (-torch.arange(dim // 2, dtype=torch.float64, device=position.device) / (dim / 2))
    angle = position.double().unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], -1).float()


def sincos_grid(grid: Sequence[int], dims: Sequence[int], order: Sequence[int] | None = None) -> Float[Tensor, "n d"]:
    """Fixed positions on a grid: :func:`sincos_axis` along each axis, one behind the other.

    MAE and I-JEPA put the column before the row (``order=(1, 0)``), V-JEPA time, row, column; neither is visible
    until weights of the one are used with positions of the other.

    Args:
        grid: patches along each axis.
        dims: size along each axis.
        order: the axes in the order in which their channels stand; that of the grid if not given.

    Raises:
        ValueError: for an odd size, or axes that are not those of the grid.
    """
    order = tuple(range(len(grid))) if order is None else tuple(order)
    if len(dims) != len(grid) or sorted(order) != list(range(len(grid))):
        raise ValueError(f"a grid {tuple(grid)} has a size for each axis and each axis once; got {dims} and {order}.")
    at = grid_coordinates(grid)
    return torch.cat([sincos_axis(at[:, axis], dims[axis]) for axis in order], -1)


def resample_grid(
    table: Float[Tensor, "n d"],
    grid: Sequence[int],
    to: Sequence[int],
    *,
    antialias: bool = False,
    offset: float = 0.0,
) -> Float[Tensor, "m d"]:
    """Positions of one grid, interpolated for another: bicubic on images, trilinear on clips.

    Args:
        table: one vector a patch.
        grid: of the table.
        to: the grid that is asked for.
        antialias: whether a smaller grid averages (timm, DINOv2 with registers); images alone.
        offset: the scale is ``(to + offset) / grid``; DINOv2 without registers has 0.1.

    Raises:
        ValueError: if the grids have different axes, or the table is not of the first.

    Reference: Dosovitskiy et al., ViT (2021), section 3.2; Oquab et al., DINOv2 (2023); Bardes et al., V-JEPA (2024).
    """
    grid, to = tuple(grid), tuple(to)
    if len(grid) != len(to) or math.prod(grid) != len(table):
        raise ValueError(f"a table of {len(table)} positions on the grid {grid} has none for the grid {to}.")
    if grid == to:
        return table
    volume = table.T.reshape(1, -1, *grid)
    if len(grid) == 3:
        scaled = interpolate(volume, size=to, mode="trilinear")
    elif offset:
        scale = [(new + offset) / old for new, old in zip(to, grid, strict=True)]
        scaled = interpolate(volume, scale_factor=scale, mode="bicubic", antialias=antialias)
        scaled = scaled[..., : to[0], : to[1]]
    else:
        scaled = interpolate(volume, size=to, mode="bicubic", antialias=antialias)
    return scaled.flatten(2).squeeze(0).T
