"""Actions as vectors: one-hot for choices, scaled to [-1, 1] for bounded numbers."""

import torch
from torch import Tensor, nn
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.nn.observation import VectorObservation, describe_observation


class ActionVector(nn.Module):
    """Turns an action, as ``action_spec`` says, into the vector that a dynamics model reads.

    Choices become one-hot. Numbers with finite bounds are mapped linearly onto [-1, 1], which the papers' environment
    wrappers do outside the model; unbounded numbers pass.

    Attributes:
        size: length of the vector.

    Args:
        spec: spec of one action.

    Raises:
        ValueError: for a spec that cannot be encoded.
    """

    center: Tensor | None
    radius: Tensor | None

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        try:
            self.described = describe_observation(spec)
        except ValueError as error:
            raise ValueError(f"Action: {error}") from error
        self.size = self.described.size
        low = high = None
        if isinstance(self.described, VectorObservation):
            low, high = self.described.low, self.described.high
        scaled = low is not None and high is not None
        scaled = scaled and bool((low.abs() < 1e6).all() and (high.abs() < 1e6).all() and (high > low).all())
        self.register_buffer("center", ((low + high) / 2).flatten() if scaled else None, persistent=False)
        self.register_buffer("radius", ((high - low) / 2).flatten() if scaled else None, persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """``[*B, *action shape]`` to ``[*B, size]``, float."""
        vector = self.described.encode(action)
        if self.center is None or self.radius is None:
            return vector
        return (vector - self.center) / self.radius
