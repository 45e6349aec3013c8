"""What a transformer does to each position by itself."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu


class FeedForward(nn.Sequential):
    r"""``W2 gelu(W1 x)``, with the exact GELU.

    Args:
        dim: size of inputs and outputs.
        hidden: width in between.
        dropout: behind both maps, in training.
        bias: whether the maps have biases.
    """

    def __init__(self, dim: int, hidden: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        drop = nn.Dropout(dropout)
        super().__init__(nn.Linear(dim, hidden, bias), nn.GELU(), drop, nn.Linear(hidden, dim, bias), drop)


class TanhFeedForward(nn.Sequential):
    """``W2 gelu(W1 x)``, with the GELU's tanh form, which is jax's own, and DiT's.

    Args:
        dim: size of inputs and outputs.
        hidden: width in between.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU("tanh"), nn.Linear(hidden, dim))


class SwiGLU(nn.Module):
    r"""``W3 (silu(W1 x) * W2 x)``; the first two maps lie in one matrix, one below the other.

    Args:
        dim: size of inputs and outputs.
        hidden: width that :class:`FeedForward` would have; two thirds of it, rounded up to a multiple of 8, cost as
            much.
        bias: whether the maps have biases.

    Reference: Shazeer, GLU Variants Improve Transformer (2020); DINOv2 (2023), giant.
    """

    def __init__(self, dim: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        inner = (2 * hidden // 3 + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * inner, bias)
        self.w3 = nn.Linear(inner, dim, bias)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Each position by itself."""
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(silu(gate) * value)
