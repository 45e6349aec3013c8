"""Rows of images that are computed at once."""

import torch

CPU_PIXELS = 2**15
"""Pixels that a CPU's convolutions take at once: more would push each other's activations out of its caches, and out of
the memory that its allocator keeps."""


def row_chunks(rows: int, pixels: int, device: torch.device, most: int | None = None) -> list[slice]:
    """Rows to be taken at once: on a CPU few enough for its caches, where no gradient keeps them alive.

    Args:
        rows: how many there are.
        pixels: of one row's image.
        device: that computes them.
        most: rows at once on any device; no limit if not given.

    >>> row_chunks(5, 2**14, torch.device("cuda"))
    [slice(0, 5, None)]
    """
    size = max(rows, 1) if most is None else most
    if device.type == "cpu" and not torch.is_grad_enabled():
        size = min(size, max(1, CPU_PIXELS // pixels))
    return [slice(begin, min(begin + size, rows)) for begin in range(0, max(rows, 1), size)]
