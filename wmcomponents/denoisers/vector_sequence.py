"""A transformer over sequences of vectors: each has its own noise level and action, and none sees a later one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.rows import one_batch
from wmcomponents.nn.diffusion.embeddings import sine_cosine


class VectorSequenceDenoiser(Component):
    """From noisy vectors, a noise level and an action for each to what a diffusion process asks for, one by one.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, T, D] | float, oldest first | read |
        | "level" | [*B, T] | int or float, as it is | read |
        | "action" | [*B, T, A] | float, what leads TO each vector | read, where there are actions |
        | "network_output" | [*B, T, D] | float | written |

    Args:
        size: D.
        action: A, numbers of an action; 0 for a network that is told none.
        dim: size of the tokens, a multiple of 4.
        depth: number of layers.
        heads: of the attentions.
        hidden: width of the feed-forwards.
        is_causal: whether nothing sees what is later.
        dropout: of torch's layers.
        in_keys: vectors, levels, and actions where there are any.
        out_keys: the output.

    Raises:
        ValueError: on call, if vectors, levels or actions have other sizes.

    Reference: Chen et al., Diffusion Forcing (2024), and its code, whose layers are torch's with norms behind them.

    Example:
        >>> net = VectorSequenceDenoiser(6, 3, dim=16, depth=1, heads=2, hidden=32)
        >>> net(torch.zeros(2, 5, 6), torch.full((2, 5), 14), torch.zeros(2, 5, 3)).shape
        torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        size: int,
        action: int = 0,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 512,
        *,
        is_causal: bool = True,
        dropout: float = 0.0,
        in_keys: Sequence[NestedKey] = ("noisy", "level", "action"),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        super().__init__(in_keys if action else in_keys[:2], out_keys)
        self.size, self.actions, self.dim, self.is_causal = size, action, dim, is_causal
        self.read = nn.Sequential(nn.Linear(size + dim // 2 + action, dim), nn.ReLU(), nn.Linear(dim, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, hidden, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.out = nn.Linear(dim, size)

    def compute(
        self,
        noisy: Float[Tensor, "*batch t d"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        action: Float[Tensor, "*batch t a"] | None = None,
    ) -> Float[Tensor, "*batch t d"]:
        """See the table of keys."""
        told = 0 if action is None else action.shape[-1]
        if noisy.shape[-1] != self.size or told != self.actions:
            raise ValueError(
                f"vectors of {self.size} numbers and actions of {self.actions} are expected; got {noisy.shape[-1]} and "
                f"{told}."
            )
        steps = noisy.shape[-2]
        x, level, action = one_batch(noisy.shape[:-1], noisy=noisy, level=level, action=action)
        parts = [x, sine_cosine(level, self.dim // 2)] + ([] if action is None else [action])
        tokens = self.read(torch.cat(parts, -1)).unflatten(0, (-1, steps))
        tokens = tokens + sine_cosine(torch.arange(steps, device=x.device), self.dim)
        mask = nn.Transformer.generate_square_subsequent_mask(steps, x.device, x.dtype) if self.is_causal else None
        return self.out(self.layers(tokens, mask, is_causal=self.is_causal)).reshape(noisy.shape)
