"""The block of vision transformers."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.attention.attention import MultiHeadAttention
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.attention.feed_forward import FeedForward
from wmcomponents.nn.attention.sequence_mask import SequenceMask


class LayerScale(nn.Module):
    """A learned factor for each channel, small at first, on what a block adds.

    Args:
        dim: number of channels.
        init: the factors' first value.

    Reference: Touvron et al., Going Deeper with Image Transformers (2021), section 2.
    """

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Each channel times its factor."""
        return x * self.gamma


class ViTBlock(nn.Module):
    r"""Attention, then a feed-forward, each behind a layer norm and added to its input.

    .. math:: x \leftarrow x + \gamma_1 Attn(LN(x)), \qquad x \leftarrow x + \gamma_2 MLP(LN(x))

    :class:`wmcomponents.nn.TransformerBlock` is GPT-2's, with an epsilon of 1e-5, and reads with a KV cache.

    Args:
        dim: size of inputs and outputs.
        heads: number of attention heads.
        hidden: width of the feed-forward.
        eps: of the layer norms.
        head_dim: size of a head, where it is not ``dim / heads``.
        qkv_bias: whether queries, keys and values have biases; outputs always have.
        dropout: in attention and feed-forward.
        rope: rotary positions, if any.
        qk_norm: see :class:`wmcomponents.nn.MultiHeadAttention`.
        layer_scale: first value of the factors :math:`\gamma`; none if not given.
        feed_forward: makes it from ``dim`` and ``hidden``; :class:`wmcomponents.nn.FeedForward` if not given.

    Reference: Dosovitskiy et al., ViT (2021), eq. 2 and 3.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        eps: float = 1e-6,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        rope: AxialRoPE | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
        layer_scale: float | None = None,
        feed_forward: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attention = MultiHeadAttention(
            dim, heads, bias=qkv_bias, dropout=dropout, rope=rope, head_dim=head_dim, out_bias=True, qk_norm=qk_norm
        )
        self.mlp = FeedForward(dim, hidden, dropout=dropout) if feed_forward is None else feed_forward(dim, hidden)
        scales = (nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(2))
        self.scale1, self.scale2 = scales

    def forward(
        self,
        x: Float[Tensor, "*batch t d"],
        mask: Tensor | SequenceMask | None = None,
        position: Tensor | None = None,
    ) -> Float[Tensor, "*batch t d"]:
        """A whole sequence; see :meth:`wmcomponents.nn.MultiHeadAttention.forward`."""
        x = x + self.scale1(self.attention(self.norm1(x), mask, position))
        return x + self.scale2(self.mlp(self.norm2(x)))


@torch.no_grad()
def vit_init_(module: nn.Module, std: float = 0.02) -> None:
    """Truncated-normal weights of linear and patch maps, biases 0, layer norms 1 and 0; for ``Module.apply``.

    Reference: the codes of DINO, MAE, I-JEPA and V-JEPA.
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.trunc_normal_(module.weight, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def rescale_residuals_(blocks: nn.ModuleList) -> None:
    r"""Divide what block l (from 1) adds by :math:`\sqrt{2l}`: the last maps of attention and feed-forward.

    Reference: Assran et al., I-JEPA (2023), and its code; Bao et al., BEiT (2022).
    """
    for number, block in enumerate(blocks, 1):
        last = [layer for layer in block.mlp.modules() if isinstance(layer, nn.Linear)][-1]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        for layer in (block.attention.proj, last):  # pyright: ignore[reportAttributeAccessIssue]
            layer.weight.div_((2.0 * number) ** 0.5)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
