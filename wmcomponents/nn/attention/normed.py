"""Attention behind a layer norm of its own."""

from torch import Tensor, nn

from wmcomponents.nn.attention.attention import MultiHeadAttention


class NormedAttention(nn.Module):
    """A layer norm with weights in front of attention, behind the one that a condition sets.

    Args:
        dim: size of inputs and outputs.
        attention: what follows.
    """

    def __init__(self, dim: int, attention: MultiHeadAttention) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), attention

    def forward(self, x: Tensor, mask: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """See :meth:`MultiHeadAttention.forward`."""
        return self.attention(self.norm(x), mask, position)
