"""Actions inside the bounds that the real environment would clip them to."""

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchrl.data import Bounded, TensorSpec

from wmcomponents.codecs.entry import SpaceError

FEW = 8
"""Numbers that are added up one by one."""


def all_finite(values: np.ndarray | Tensor) -> bool:
    """Whether floats on the host hold neither NaN nor infinity; well below a microsecond for a small array."""
    # A sum shows what is not finite, and now and then what is too large to add up: then each is looked at. For few
    # numbers Python's own sum costs less than any call of a kernel; for many, the sum of squares runs at memory speed.
    if isinstance(values, Tensor):
        if values.numel() == 1:
            return math.isfinite(values.item())
        array = values.detach().numpy() if values.requires_grad else values.numpy()
    else:
        array = values
    total = sum(array.ravel().tolist()) if array.size <= FEW else np.vdot(array, array)
    return math.isfinite(total) or bool(np.isfinite(array).all())


class ActionBounds:
    """Brings actions into the bounds of their spec, as real environments do, and refuses what is no number.

    Environments clip (MuJoCo, Pendulum), or agents do for them; a model was never shown what lies beyond, and would
    extrapolate there. Every adapter does this once, on the tensor that the model then gets.

    Args:
        spec: the model's action spec.
        device: where actions are.
    """

    def __init__(self, spec: TensorSpec, device: torch.device) -> None:
        self.is_float = spec.dtype.is_floating_point
        self.device = device
        self._looks = device.type == "cpu" and spec.dtype in (torch.float32, torch.float64)
        self._low: Any = None
        self._high: Any = None
        self._ends: tuple[np.ndarray, np.ndarray] | None = None
        if isinstance(spec, Bounded):
            box = cast(Any, spec.space)
            self._low, self._high = (bound.expand(spec.shape).to(device) for bound in (box.low, box.high))
            ends = [*box.low.unique().tolist(), *box.high.unique().tolist()]
            if len(ends) == 2 and self.is_float:  # one pair for all: numbers are clipped faster than by tensors
                self._low, self._high = ends
                if self._looks:  # in their own dtype, and no Python numbers, which NumPy would convert at every step
                    dtype = torch.empty(0, dtype=spec.dtype).numpy().dtype
                    self._ends = (np.array(ends[0], dtype), np.array(ends[1], dtype))
        self._width = spec.shape.numel()

    def __call__(self, action: Tensor) -> Tensor:
        """Actions ``[*B, *shape]``, clipped.

        Raises:
            SpaceError: if a number is not finite, naming the rows. Tensors on an accelerator are not looked into.
        """
        if self._looks:
            if not all_finite(action):
                self._refuse(action.detach())
        return action if self._low is None else torch.clamp(action, self._low, self._high)

    def of_array(self, action: np.ndarray) -> Tensor:
        """Actions ``[N, *shape]`` of floats that are still NumPy's, clipped, on the CPU: fewer calls for few numbers.

        Raises:
            SpaceError: if a number is not finite, naming the rows.
        """
        if action.size > FEW:
            is_finite = math.isfinite(np.vdot(action, action)) or all_finite(action)
        else:
            numbers = action.ravel().tolist()
            is_finite = math.isfinite(sum(numbers)) or all_finite(action)
            if is_finite and self._ends is not None and self._low <= min(numbers) and max(numbers) <= self._high:
                return torch.from_numpy(action.copy())
        if not is_finite:
            self._refuse(torch.from_numpy(np.ascontiguousarray(action)))
        if not action.flags.carray:
            action = action.copy()
        if self._ends is not None:
            return torch.from_numpy(action.clip(*self._ends))
        tensor = torch.from_numpy(action)
        return tensor if self._low is None else torch.clamp(tensor, self._low, self._high)

    def _refuse(self, action: Tensor) -> None:
        strange = ~torch.isfinite(action.reshape(-1, self._width)).all(-1)
        if bool(strange.any()):
            rows = strange.nonzero().flatten().tolist()
            first = action.reshape(-1, self._width)[rows[0]].tolist()
            raise SpaceError(
                f"actions must be finite numbers; rows {rows} are not (the first is {first}). Look at the policy: its "
                f"weights or its inputs hold NaN."
            )
