"""Actions as vectors: one-hot for choices, scaled to [-1, 1] for bounded numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrl.data.tensor_specs import TensorSpec

from wmcomponents.codecs.from_spec import codec_from_spec
from wmcomponents.codecs.observation import DiscreteCodec, VectorCodec

WIDEST_BOUND = 1e6  # a bound beyond it says "any number" in environments that have no infinity


class ActionVector(nn.Module):
    """Turns an action, as ``action_spec`` says, into the vector that a dynamics model reads.

    Choices become one-hot. Numbers with finite bounds are mapped linearly onto [-1, 1], which the papers' environment
    wrappers do outside the model; each number without passes as it is.

    Attributes:
        size: length of the vector.

    Args:
        spec: spec of one action.

    Raises:
        ValueError: for a spec that cannot be encoded.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded
        >>> ActionVector(Bounded(low=0.0, high=4.0, shape=(2,)))(torch.tensor([0.0, 3.0]))
        tensor([-1.0000,  0.5000])
    """

    center: Tensor | None
    radius: Tensor | None

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        try:
            self.codec = codec_from_spec(spec)
        except ValueError as error:
            raise ValueError(f"Action: {error}") from error
        self.size = self.codec.size
        center = radius = None
        if isinstance(self.codec, VectorCodec):
            center, radius = _center_and_radius(self.codec.low, self.codec.high)
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("radius", radius, persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """``[*B, *action shape]`` to ``[*B, size]``, float."""
        vector = self.codec.encode(action)
        if self.center is None or self.radius is None:
            return vector
        return (vector - self.center) / self.radius

    def inverse(self, vector: Tensor) -> Tensor:
        """The action of a vector ``[*B, size]``, as ``action_spec`` says: ``[*B, *action shape]``.

        Choices become the likeliest alternative, numbers are clipped to their bounds. No gradient passes through a
        choice; see :meth:`relaxed`.
        """
        if self.center is not None and self.radius is not None:
            vector = self.center + self.radius * vector
        return self.codec.decode(vector)

    def relaxed(self, vector: Tensor) -> Tensor:
        """An action that :meth:`forward` turns into this very vector ``[*B, size]``, gradients included.

        Numbers are not clipped, one-hot choices stay floats.

        Raises:
            ValueError: for choices that the environment takes as indices, through which no gradient passes.
        """
        if isinstance(self.codec, DiscreteCodec) and not self.codec.is_one_hot:
            raise ValueError(
                "no gradient passes through the index of a choice: build the model with one-hot actions (OneHot), as "
                "make_env gives them, or learn from the score function."
            )
        if self.center is not None and self.radius is not None:
            vector = self.center + self.radius * vector
        return vector.reshape((*vector.shape[:-1], *self.codec.shape))

    def null(self, batch_size: Sequence[int] = ()) -> Tensor:
        """The action whose vector is zero, ``[*batch_size, *action shape]``.

        The middle of every bounded interval; no choice at all where the action is a choice: an all-zero one-hot, or -1.
        """
        shape = (*batch_size, *self.codec.shape)
        if isinstance(self.codec, DiscreteCodec) and not self.codec.is_one_hot:
            return torch.full(shape, -1, dtype=self.codec.dtype)
        none = torch.zeros(shape, dtype=self.codec.dtype)
        return none if self.center is None else none + self.center.view(self.codec.shape).to(none)


def _center_and_radius(low: Tensor | None, high: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Of each number's interval, flat, float32; 0 and 1 for a number without one, None if no number has one."""
    if low is None or high is None:
        return None, None
    low, high = low.flatten().double(), high.flatten().double()
    is_bounded = (low.abs() < WIDEST_BOUND) & (high.abs() < WIDEST_BOUND) & (high > low)
    if not bool(is_bounded.any()):
        return None, None
    center = torch.where(is_bounded, (low + high) / 2, 0.0)
    radius = torch.where(is_bounded, (high - low) / 2, 1.0)
    return center.float(), radius.float()
