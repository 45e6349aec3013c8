"""What a dream is given and what it shows, looked at where that costs next to nothing."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from wmcomponents.codecs import all_finite

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype by name."""


class NotFiniteError(ValueError):
    """A dream shows or is given a NaN or an infinity."""


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """Shapes and dtypes of named tensors."""
    return {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}


def told(layout: Layout) -> str:
    """A layout in words."""
    entries = (f"{key!r} {list(shape)} {str(dtype).removeprefix('torch.')}" for key, (shape, dtype) in layout.items())
    return ", ".join(entries) or "nothing"


def check_layout(states: Mapping[str, Tensor], layout: Layout, what: str, model: nn.Module) -> None:
    """Refuse states ``[N, ...]`` that are not the model's.

    Raises:
        ValueError: telling what the model's state is and what came.
    """
    if layout_of(states) != layout:
        rows = next(iter(layout.values()))[0][0]
        raise ValueError(
            f"{type(model).__name__} has the state {told(layout)}; {what} are {told(layout_of(states))}. Build them "
            f"with this model (ReplayStarts, PriorStarts), for {rows} rows and in these dtypes."
        )


def rows_not_finite(array: np.ndarray) -> list[int]:
    """The rows of ``[N, ...]`` that hold a NaN or an infinity."""
    return np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1)).tolist()


def check_finite_states(states: Mapping[str, Tensor], what: str, remedy: str) -> None:
    """Refuse states ``[N, ...]`` that are not finite.

    Raises:
        NotFiniteError: naming the entry and its rows.
    """
    for key, value in states.items():
        if value.dtype.is_floating_point and not _is_finite(value):
            rows = (~value.isfinite()).reshape(len(value), -1).any(1).nonzero().flatten().tolist()
            raise NotFiniteError(f"{what} {key!r} is not finite in {_rows(rows)} of {len(value)}: {remedy}")


def _is_finite(value: Tensor) -> bool:
    on_host = value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64)
    return all_finite(value) if on_host else bool(value.isfinite().all())


def not_finite(what: str, rows: list[int], model: nn.Module) -> NotFiniteError:
    """The error for a dream that shows what is not finite; it says whether the weights are to blame."""
    broken = [name for name, weights in model.named_parameters() if not bool(weights.isfinite().all())]
    if broken:
        reason = (
            f"the weights of {type(model).__name__} are not finite, {broken[0]!r} among {len(broken)}; load others."
        )
    else:
        reason = (
            f"the weights of {type(model).__name__} are finite, so its numbers grew out of range in the dream, or came "
            f"in with a state or an action; a shorter horizon keeps it nearer to its data."
        )
    return NotFiniteError(f"{what} is not finite in {_rows(rows)}: {reason}")


def _rows(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:5]))
    return f"rows [{shown}{', ...' if len(rows) > 5 else ''}]"
