"""A probe of frozen features: a query that looks at them, and a linear map of what it saw."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn import AttentivePooling


class AttentiveProbe(Component):
    """Numbers read from tokens by attention: how V-JEPA's features are judged.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "embed" | [*B, N, D] | float | read |
        | "logits" | [*B, out_features] | float | written |

    Args:
        dim: D.
        out_features: numbers that are read.
        heads: number of attention heads.
        blocks: how many times the tokens look at each other first: 0 in V-JEPA, 3 in V-JEPA 2.
        in_keys: the tokens.
        out_keys: the numbers.

    Reference: Bardes et al., V-JEPA (2024); Assran et al., V-JEPA 2 (2025).

    Example:
        >>> import torch
        >>> AttentiveProbe(8, 5, heads=2)(embed=torch.zeros(4, 3, 9, 8)).shape
        torch.Size([4, 3, 5])
    """

    def __init__(
        self,
        dim: int,
        out_features: int,
        *,
        heads: int = 16,
        blocks: int = 0,
        in_keys: Sequence[NestedKey] = ("embed",),
        out_keys: Sequence[NestedKey] = ("logits",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.pooling = AttentivePooling(dim, heads, blocks=blocks)
        self.linear = nn.Linear(dim, out_features)
        self.out_features = out_features

    def compute(self, embed: Tensor) -> Tensor:
        """``[*B, N, D]`` to ``[*B, out_features]``."""
        lead = embed.shape[:-2]
        pooled = self.pooling(embed.reshape(-1, *embed.shape[-2:])).squeeze(1)
        return self.linear(pooled).view(*lead, self.out_features)
