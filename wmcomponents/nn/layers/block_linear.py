"""A linear layer with a block-diagonal weight."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.layers.init import trunc_normal_init_


class BlockLinear(nn.Module):
    """Input and output are cut into ``blocks`` equal parts; part g of the output sees part g of the input only.

    The weight is kept block first, ``(blocks, in/blocks, out/blocks)``, so that a batched matrix product reads it as
    it lies in memory.

    Args:
        in_features: full size of the input.
        out_features: full size of the output.
        blocks: number of parts.
        outscale: factor on the initial weight; its fan-in is the full ``in_features``, as in DreamerV3's code.

    Raises:
        ValueError: if ``blocks`` does not divide both sizes.
    """

    def __init__(self, in_features: int, out_features: int, blocks: int, outscale: float = 1.0) -> None:
        super().__init__()
        if in_features % blocks or out_features % blocks:
            raise ValueError(
                f"blocks (={blocks}) must divide in_features (={in_features}) and out_features (={out_features})."
            )
        self.in_features, self.out_features, self.blocks = in_features, out_features, blocks
        self.weight = nn.Parameter(torch.empty(blocks, in_features // blocks, out_features // blocks))
        self.bias = nn.Parameter(torch.zeros(out_features))
        trunc_normal_init_(self.weight, in_features, outscale)

    def forward(self, x: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply each block to its part of the last dimension."""
        lead = x.shape[:-1]
        parts = x.reshape(-1, self.blocks, self.in_features // self.blocks).transpose(0, 1)
        out = torch.baddbmm(self.bias.view(self.blocks, 1, -1), parts, self.weight)
        return out.transpose(0, 1).reshape(*lead, self.out_features)

    def extra_repr(self) -> str:
        """Sizes and blocks."""
        return f"{self.in_features}, {self.out_features}, blocks={self.blocks}"
