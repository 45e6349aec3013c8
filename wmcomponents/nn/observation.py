"""What kind of thing each observation is: read once from TorchRL specs, shared by encoders and decoders."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchrl.data import Binary, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.functional.categorical import one_hot

Kind = Literal["vector", "binary", "discrete", "image", "planes"]
SMALLEST_IMAGE = 16  # with a shorter side, a picture is a board: no pooling
LARGEST_PLANE_RANGE = 255  # integers with a wider range are numbers, not symbols on a board


class Observation(nn.Module):
    """One observation of an environment: its kind, and the way to features and exactly back.

    Attributes:
        kind: "vector" (numbers), "binary" (bits, not a board), "discrete" (one or more categories), "image"
            (uint8 picture), "planes" (small bool or integer board).
        shape: shape in the environment, without batch dimensions.
        dtype: dtype in the environment.
        size: number of features when flattened for an MLP (one-hot for "discrete").
        classes: for "discrete", the classes of each category.

    Args:
        kind: see above.
        shape: see above.
        dtype: see above.
        low: lower bounds of ``shape``, or None.
        high: upper bounds of ``shape``, or None.
        classes: see above.
        is_one_hot: for "discrete", whether the environment itself shows one-hot vectors.
    """

    low: Tensor | None
    high: Tensor | None

    def __init__(
        self,
        kind: Kind,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        low: Tensor | None = None,
        high: Tensor | None = None,
        classes: tuple[int, ...] = (),
        is_one_hot: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.shape, self.dtype = kind, shape, dtype
        self.classes, self.is_one_hot = classes, is_one_hot
        self.size = sum(classes) if kind == "discrete" else torch.Size(shape).numel()
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def extra_repr(self) -> str:
        return f"{self.kind}, shape={self.shape}, dtype={self.dtype}"

    def lead(self, x: Tensor) -> torch.Size:
        """The batch dimensions of ``x``, ``[*batch, *shape]``."""
        return x.shape[: x.ndim - len(self.shape)]

    def flatten(self, x: Tensor) -> Tensor:
        """``[*batch, *shape]`` as float features ``[*batch, size]`` (one-hot for "discrete")."""
        lead = self.lead(x)
        if self.kind != "discrete" or self.is_one_hot:
            return x.reshape(*lead, self.size).to(torch.float32)
        indices = x.reshape(*lead, len(self.classes)).unbind(-1)
        return torch.cat([one_hot(i, n) for i, n in zip(indices, self.classes, strict=True)], -1)

    def unflatten(self, x: Tensor) -> Tensor:
        """``[*batch, size]`` as the environment shows it: the nearest point of its space, in its shape and dtype."""
        lead = x.shape[:-1]
        if self.kind == "discrete":
            winners = [part.argmax(-1) for part in x.split(self.classes, -1)]
            if self.is_one_hot:
                x = torch.cat([one_hot(i, n) for i, n in zip(winners, self.classes, strict=True)], -1)
            else:
                x = torch.stack(winners, -1)
            return x.reshape(*lead, *self.shape).to(self.dtype)
        x = x.reshape(*lead, *self.shape)
        if self.dtype == torch.bool:
            return x > 0.5
        if not self.dtype.is_floating_point:
            x = x.round()
        if self.low is not None or self.high is not None:
            x = x.clamp(self.low, self.high)
        return x.to(self.dtype)

    def to_unit(self, x: Tensor) -> Tensor:
        """Bits, boards and pictures as floats in [0, 1], same shape."""
        x = x.to(torch.float32)
        if self.low is None or self.high is None:
            return x
        return (x - self.low) / (self.high - self.low).clamp(min=1)

    def from_unit(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`to_unit`, rounded into the environment's space: ``[*batch, *shape]`` both ways."""
        if self.low is not None and self.high is not None:
            x = x * (self.high - self.low) + self.low
        return self.unflatten(x.reshape(*self.lead(x), self.size))


def _bounds(spec: TensorSpec) -> tuple[Tensor | None, Tensor | None]:
    low, high = getattr(spec.space, "low", None), getattr(spec.space, "high", None)
    if spec.dtype == torch.bool or low is None or high is None:
        return None, None
    dtype = spec.dtype if spec.dtype.is_floating_point else torch.float32
    low, high = low.expand(spec.shape).to(dtype).clone(), high.expand(spec.shape).to(dtype).clone()
    limits = torch.finfo(dtype)
    is_unbounded = bool((low <= limits.min).all() and (high >= limits.max).all())
    return (None, None) if is_unbounded else (low, high)


def _categories(spec: TensorSpec) -> tuple[int, ...] | None:
    """Classes of each category, or None if ``spec`` is not made of categories."""
    if isinstance(spec, Binary):
        return None
    if isinstance(spec, MultiOneHot | MultiCategorical):
        return tuple(box.n for box in spec.space.boxes)
    if isinstance(spec, OneHot):
        return (spec.space.n,)
    if isinstance(spec, Categorical):
        return (spec.space.n,) * max(1, torch.Size(spec.shape).numel())
    return None


def describe_observation(spec: TensorSpec) -> Observation:
    """Read one spec (no batch dimensions).

    Raises:
        ValueError: for a spec that cannot be encoded: nested, not a tensor, or a matrix of one-hot vectors.
    """
    if isinstance(spec, Composite):
        raise ValueError("nested observations are not supported; flatten the keys first (torchrl's RenameTransform).")
    shape, dtype = tuple(spec.shape), spec.dtype
    is_one_hot = isinstance(spec, OneHot | MultiOneHot)
    if isinstance(spec, OneHot | MultiOneHot | MultiCategorical) and len(shape) != 1:
        raise ValueError(f"expected one vector of categories; got shape {shape}. Flatten it first.")
    if dtype is None or dtype.is_complex:
        raise ValueError(f"cannot encode {type(spec).__name__} with dtype {dtype}; drop this key from the spec.")
    classes = _categories(spec)
    if classes is not None:
        return Observation("discrete", shape, dtype, classes=classes, is_one_hot=is_one_hot)
    low, high = _bounds(spec)
    if dtype == torch.bool or isinstance(spec, Binary):
        return Observation("planes" if len(shape) == 3 else "binary", shape, dtype)
    if dtype.is_floating_point or len(shape) != 3 or low is None or high is None:
        return Observation("vector", shape, dtype, low, high)
    if dtype == torch.uint8 and min(shape[:2]) >= SMALLEST_IMAGE:
        return Observation("image", shape, dtype, torch.zeros(()), torch.full((), 255.0))
    kind = "planes" if bool((high - low <= LARGEST_PLANE_RANGE).all()) else "vector"
    return Observation(kind, shape, dtype, low, high)


def describe_observations(spec: Composite) -> dict[str, Observation]:
    """Read the spec of all observations; keys come back sorted, the order in which features are concatenated.

    Raises:
        ValueError: if there is nothing to observe, or a key cannot be encoded.
    """
    found = {}
    for key in sorted(spec.keys()):
        if spec[key] is None:
            continue
        try:
            found[key] = describe_observation(spec[key])
        except ValueError as error:
            raise ValueError(f"Observation {key!r}: {error}") from error
    if not found:
        raise ValueError(f"No observation in {spec}; expected a Composite with at least one tensor spec.")
    return found


def common_image_shape(images: dict[str, Observation]) -> tuple[int, int, int]:
    """Height, width and summed channels of pictures that are stacked along their channels.

    Raises:
        ValueError: if their heights or widths differ.
    """
    sizes = {key: image.shape[:2] for key, image in images.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"Images that are observed together need one size; got {sizes}. Resize them to one.")
    height, width = next(iter(sizes.values()))
    return height, width, sum(image.shape[2] for image in images.values())
