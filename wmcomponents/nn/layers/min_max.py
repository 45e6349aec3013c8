"""Hidden states brought to [0, 1], as a module."""

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.min_max import Guard, min_max_scale


class MinMaxScale(nn.Module):
    """:func:`wmcomponents.functional.min_max_scale` as a part.

    Args:
        event_dims: dimensions that share a minimum and a maximum: 1 for vectors, 2 for planes channel by channel
            (muzero-general), 3 for planes as a whole (LightZero, EfficientZero).
        guard: against a range of 0.
        eps: see guard.
    """

    def __init__(self, event_dims: int = 1, guard: Guard = "add", eps: float = 1e-5) -> None:
        super().__init__()
        self.event_dims, self.eps = event_dims, eps
        self.guard: Guard = guard

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Scale the last dimensions."""
        return min_max_scale(x, self.event_dims, self.guard, self.eps)

    def extra_repr(self) -> str:
        """Dimensions and guard."""
        return f"{self.event_dims}, guard={self.guard!r}"
