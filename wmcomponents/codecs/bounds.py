"""Actions inside the bounds that the real environment would clip them to."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import Bounded, TensorSpec

from wmcomponents.codecs.entry import SpaceError


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
        self._low = self._high = None
        self._floor, self._ceiling = -math.inf, math.inf
        if self.is_float:
            limits = torch.finfo(spec.dtype)
            self._floor, self._ceiling = limits.min, limits.max
        if isinstance(spec, Bounded):
            box = cast(Any, spec.space)
            self._low, self._high = (bound.expand(spec.shape).to(device) for bound in (box.low, box.high))
            self._floor = max(self._floor, box.low.max().item())
            self._ceiling = min(self._ceiling, box.high.min().item())
        self._width = spec.shape.numel()

    def __call__(self, action: Tensor) -> Tensor:
        """Actions ``[*B, *shape]``, clipped.

        Raises:
            SpaceError: if a number is not finite, naming the rows. Tensors on an accelerator are not looked into.
        """
        if self._low is None and not self.is_float:
            return action
        all_finite = True
        if action.device.type == "cpu" and action.numel():
            # The common case at the price of one look: all within the bounds of all. NaN is within nothing, and where
            # there is one, it is the least and the most.
            least, most = (limit.item() for limit in torch.aminmax(action.detach()))
            if self._floor <= least and most <= self._ceiling:
                return action
            all_finite = math.isfinite(least) and math.isfinite(most)
        if self._low is not None:
            action = torch.clamp(action, self._low, self._high)
        if self.is_float and not all_finite:
            self._refuse(action)
        return action

    def _refuse(self, action: Tensor) -> None:
        strange = ~torch.isfinite(action.reshape(-1, self._width)).all(-1)
        if bool(strange.any()):
            rows = strange.nonzero().flatten().tolist()
            first = action.reshape(-1, self._width)[rows[0]].tolist()
            raise SpaceError(
                f"actions must be finite numbers; rows {rows} are not (the first is {first}). Look at the policy: its "
                f"weights or its inputs hold NaN."
            )
