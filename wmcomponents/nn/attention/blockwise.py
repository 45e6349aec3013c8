"""A feed-forward over a long sequence, some positions at a time."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wmcomponents.nn.attention.transformer import TransformerBlock


class Blockwise(nn.Sequential):
    """Layers that treat each position by itself, over some positions at a time; what they keep is made anew backwards.

    Of the hidden activations, four times as wide as the sequence in a usual transformer, only a chunk's exist at a
    time. The result is that of ``nn.Sequential`` of the same layers, and so are the parameters' names.

    Args:
        *layers: as of ``nn.Sequential``.
        chunk: positions at a time.

    Raises:
        ValueError: for a chunk without positions.

    Reference: Liu and Abbeel, Blockwise Parallel Transformer for Large Context Models (2023).

    Example:
        >>> x, layers = torch.randn(2, 10, 3), [nn.Linear(3, 5), nn.GELU()]
        >>> torch.allclose(Blockwise(*layers, chunk=4)(x), nn.Sequential(*layers)(x), atol=1e-6)
        True
    """

    def __init__(self, *layers: nn.Module, chunk: int) -> None:
        super().__init__(*layers)
        if chunk < 1:
            raise ValueError(f"a chunk has at least one position; got {chunk}.")
        self.chunk = chunk

    def forward(self, x: Float[Tensor, "*batch t d"]) -> Float[Tensor, "*batch t e"]:  # type: ignore[override]
        """The layers, of a chunk of positions after the other.

        Args:
            x: ``[*B, T, D]``.
        """
        parts = x.split(self.chunk, -2)
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([super(Blockwise, self).forward(part) for part in parts], -2)
        layers = super().forward
        return torch.cat([checkpoint(layers, part, use_reentrant=False) for part in parts], -2)  # pyright: ignore


def feed_forward_blockwise_(transformer: nn.Module, chunk: int) -> None:
    """Let the feed-forwards of a transformer's blocks go over some positions at a time.

    Args:
        transformer: holds :class:`~wmcomponents.nn.TransformerBlock`; parameters and their names stay.
        chunk: positions at a time.

    Raises:
        ValueError: if it holds none, or for a chunk without positions.
    """
    blocks = [part for part in transformer.modules() if isinstance(part, TransformerBlock)]
    if not blocks:
        raise ValueError(f"{type(transformer).__name__} holds no TransformerBlock, whose feed-forward could be shared.")
    for block in blocks:
        block.mlp = Blockwise(*block.mlp, chunk=chunk)
