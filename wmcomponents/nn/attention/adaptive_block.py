"""A transformer's block whose norms are set by a condition."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.attention.sequence_mask import SequenceMask


class AdaptiveBlock(nn.Module):
    r"""Attention, then a feed-forward, each behind a norm that a condition shifts and scales, and times its gate.

    .. math:: x \leftarrow x + g_a Attn(LN(x) (1 + c_a) + b_a), \quad x \leftarrow x + g_m MLP(LN(x) (1 + c_m) + b_m)

    with :math:`(b_a, c_a, g_a, b_m, c_m, g_m) = W silu(condition)`. Weights and bias of W begin at 0, so that the block
    begins as the identity (AdaLN-zero); give them other values where a paper does.

    Args:
        dim: size of inputs and outputs.
        condition_dim: size of the condition.
        attention: takes (x, mask, position), as :class:`MultiHeadAttention` does.
        feed_forward: takes x.
        norm: makes each of the two norms.

    Reference: Peebles and Xie, Scalable Diffusion Models with Transformers (DiT, 2023), section 3.2.
    """

    def __init__(
        self,
        dim: int,
        condition_dim: int,
        attention: nn.Module,
        feed_forward: nn.Module,
        norm: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(), norm()
        self.attention, self.mlp = attention, feed_forward
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, 6 * dim))
        for parameter in self.modulation.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        x: Float[Tensor, "*batch t d"],
        condition: Float[Tensor, "*#batch #t c"],
        mask: Tensor | SequenceMask | None = None,
        position: Tensor | None = None,
    ) -> Float[Tensor, "*batch t d"]:
        """A whole sequence, with a condition for each position.

        Args:
            x: the sequence.
            condition: for each position, or one for all of them.
            mask: see :meth:`MultiHeadAttention.forward`.
            position: see :meth:`MultiHeadAttention.forward`.
        """
        return self.around(x, condition, lambda y: self.attention(y, mask, position))

    def around(
        self,
        x: Float[Tensor, "*batch t d"],
        condition: Float[Tensor, "*#batch #t c"],
        attend: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "*batch t d"]:
        """The block around another way of looking, such as one that keeps keys and values.

        Args:
            x: the sequence, or the part of it that is new.
            condition: for each position, or one for all of them.
            attend: from what the first norm gives to what is added, before its gate.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, -1)
        x = x + gate_a * attend(self.norm1(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)
