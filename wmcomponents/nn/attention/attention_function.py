"""What stands between queries, keys and values and the output: the part of attention that can be exchanged."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from wmcomponents.nn.attention.sequence_mask import SequenceMask


class AttentionFunction(Protocol):
    """How queries look at keys and values, given to :class:`~wmcomponents.nn.MultiHeadAttention`."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | SequenceMask | None = None, dropout: float = 0.0
    ) -> Tensor:
        """Outputs ``[*B, heads, T, d]``.

        Args:
            q: queries ``[*B, heads, T, d]``.
            k: keys ``[*B, heads, T, d]``.
            v: values ``[*B, heads, T, d]``.
            mask: rules; or bool, true where one may look; or numbers to add to the logits. All see all if not given.
            dropout: share of attention weights that is dropped.
        """
        ...


def dot_product_attention(
    q: Float[Tensor, "*batch heads t d"],
    k: Float[Tensor, "*batch heads s d"],
    v: Float[Tensor, "*batch heads s d"],
    mask: Tensor | SequenceMask | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*batch heads t d"]:
    r"""``softmax(q k^T / sqrt(d)) v`` by torch's own kernels, within one process.

    Where rules say no more than that the future is hidden, no mask is made at all; that is also the form that
    ``torch.distributed.tensor.experimental.context_parallel`` takes over on CUDA devices.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: see :class:`AttentionFunction`.
        dropout: share of attention weights that is dropped.

    Raises:
        ValueError: if rules are about a sequence of another length.
    """
    is_causal = False
    if isinstance(mask, SequenceMask):
        is_causal = mask.is_causal and q.shape[-2] == k.shape[-2]
        mask = None if is_causal else mask.table(k.shape[-2], k.device)
    # The fused kernels know one batch dimension; tensors with more fall back to the plain maths, several times slower.
    lead = q.shape[:-3]
    if len(lead) > 1:
        q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (q, k, v))
        if mask is not None and mask.ndim > 2:
            mask = mask.expand(*lead, *mask.shape[-3:]).reshape(-1, *mask.shape[-3:])
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
    return y.reshape(*lead, *y.shape[-3:]) if len(lead) > 1 else y
