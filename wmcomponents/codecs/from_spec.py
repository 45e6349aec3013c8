"""What kind of thing each observation is: read once from TorchRL specs, shared by encoders and decoders."""

import torch
from torch import Tensor
from torchrl.data import Binary, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.codecs.image_layout import image_axes
from wmcomponents.codecs.observation import (
    BinaryCodec,
    BoardCodec,
    DiscreteCodec,
    ImageCodec,
    ObservationCodec,
    VectorCodec,
)

LARGEST_PLANE_RANGE = 255  # integers with a wider range are numbers, not symbols on a board


def codec_from_spec(spec: TensorSpec) -> ObservationCodec:
    """Read one spec (no batch dimensions).

    Categories are discrete; images (:func:`image_axes`) are images; other bool or small-integer arrays of three
    axes are planes; other bits are binary; all the rest are vectors of numbers.

    Raises:
        ValueError: for a spec that cannot be encoded: nested, not a tensor, or a matrix of one-hot vectors.
    """
    if isinstance(spec, Composite):
        raise ValueError("nested observations are not supported; flatten the keys first (torchrl's RenameTransform).")
    shape, dtype = tuple(spec.shape), spec.dtype
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"cannot encode {type(spec).__name__} with dtype {dtype}; drop this key from the spec.")
    discrete = _discrete(spec, shape, dtype)
    if discrete is not None:
        return discrete
    if dtype == torch.bool or isinstance(spec, Binary):
        return BoardCodec(shape, dtype) if len(shape) == 3 else BinaryCodec(shape, dtype)
    return _numbers(shape, dtype, *_bounds(spec, dtype))


def codecs_from_spec(spec: Composite) -> dict[str, ObservationCodec]:
    """Read the spec of all observations; keys come back sorted, the order in which features are concatenated.

    Raises:
        ValueError: if there is nothing to observe, or a key cannot be encoded.
    """
    found = {}
    for key in sorted(spec.keys()):
        if spec[key] is None:
            continue
        try:
            found[key] = codec_from_spec(spec[key])
        except ValueError as error:
            raise ValueError(f"ObservationCodec {key!r}: {error}") from error
    if not found:
        raise ValueError(f"No observation in {spec}; expected a Composite with at least one tensor spec.")
    return found


def _discrete(spec: TensorSpec, shape: tuple[int, ...], dtype: torch.dtype) -> DiscreteCodec | None:
    """The description of a spec made of categories, or None for another."""
    is_one_hot = isinstance(spec, OneHot | MultiOneHot)
    if isinstance(spec, MultiOneHot | MultiCategorical) and len(shape) != 1:
        raise ValueError(f"expected one vector of unequal categories; got shape {shape}. Flatten it first.")
    if isinstance(spec, MultiOneHot | MultiCategorical):
        classes = tuple(int(box.n) for box in spec.space.boxes)  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(spec, OneHot):  # a row for each of several equal choices
        classes = (int(spec.space.n),) * torch.Size(shape[:-1]).numel()
    elif isinstance(spec, Categorical) and not isinstance(spec, Binary):
        classes = (int(spec.space.n),) * torch.Size(shape).numel()
    else:
        return None
    return DiscreteCodec(shape, dtype, classes, is_one_hot)


def _numbers(shape: tuple[int, ...], dtype: torch.dtype, low: Tensor | None, high: Tensor | None) -> ObservationCodec:
    """An image, a board, or a vector."""
    if image_axes(shape, dtype, low, high):
        white = 255.0 if high is None else float(high.flatten()[0])
        return ImageCodec(shape, dtype, 255.0 if dtype == torch.uint8 else white)
    if dtype.is_floating_point or len(shape) != 3 or low is None or high is None:
        return VectorCodec(shape, dtype, low, high)
    is_board = bool((high - low <= LARGEST_PLANE_RANGE).all())
    return (BoardCodec if is_board else VectorCodec)(shape, dtype, low, high)


def _bounds(spec: TensorSpec, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """Finite bounds as floats, or None where there are none."""
    low, high = getattr(spec.space, "low", None), getattr(spec.space, "high", None)
    if low is None or high is None:
        return None, None
    kind = dtype if dtype.is_floating_point else torch.float32
    low, high = low.expand(spec.shape).to(kind).clone(), high.expand(spec.shape).to(kind).clone()
    limits = torch.finfo(kind)
    is_unbounded = bool((low <= limits.min).all() and (high >= limits.max).all())
    return (None, None) if is_unbounded else (low, high)
