"""How transposed convolutions grow a small map to exactly the size of an image."""

from typing import NamedTuple

from wmcomponents.nn.conv.halving import halved


class DeconvPlan(NamedTuple):
    """How transposed convolutions of stride 2 grow a map to an image, along one side.

    Attributes:
        start: side of the map.
        kernels: of each stage, from the map to the image.
        padding: what each stage cuts off at both ends.
    """

    start: int
    kernels: tuple[int, ...]
    padding: int


def unpadded_deconv_plan(size: int, stages: int) -> DeconvPlan:
    """Kernels of 5 and 6 without padding (PlaNet, Dreamer, DreamerV2): 64 pixels from 1 by kernels 5, 5, 6, 6.

    Any size is reached exactly: a stage that ends on an even side has a kernel of 6, one on an odd side of 5.

    Raises:
        ValueError: if the size is too small for that many stages.
    """
    kernels, start = [], size
    for _ in range(stages):
        kernel = 6 if start % 2 == 0 else 5
        start = (start - kernel) // 2 + 1
        kernels.insert(0, kernel)
        if start < 1:
            raise ValueError(
                f"{stages} transposed convolutions without padding make more than {size} pixels a side of one. Resize "
                f"the image (64x64) or pass fewer mults."
            )
    return DeconvPlan(start, tuple(kernels), 0)


def padded_deconv_plan(size: int, stages: int) -> DeconvPlan:
    """Kernels of 4 that double exactly (DreamerV3, the preprint): 64 pixels from 4 by four of them.

    Raises:
        ValueError: if the size cannot be halved that often.
    """
    return DeconvPlan(halved(size, stages), (4,) * stages, 1)
