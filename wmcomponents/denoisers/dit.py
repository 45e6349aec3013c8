"""DiT: a transformer over the patches of a noisy latent, its norms set by noise level and class."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.rows import check_latent, one_batch
from wmcomponents.functional.patches import patch_grid, unpatchify
from wmcomponents.nn.diffusion.blocks import dit_block
from wmcomponents.nn.diffusion.embeddings import LabelEmbedding, NumberEmbedding
from wmcomponents.nn.diffusion.output import AdaptiveOutput, dit_init_
from wmcomponents.nn.vit.grid_positions import FixedGridPositions
from wmcomponents.nn.vit.layouts import column_first_positions
from wmcomponents.nn.vit.patch_embedding import PatchEmbedding


class DiTSize(NamedTuple):
    """How large a diffusion transformer is.

    Attributes:
        dim: size of a token.
        depth: number of blocks.
        heads: number of attention heads.
    """

    dim: int
    depth: int
    heads: int

    @classmethod
    def named(cls, name: str) -> "DiTSize":
        """A size of the paper: S, B, L or XL.

        Raises:
            ValueError: for another name.

        Reference: Peebles and Xie, DiT (2023), Table 1.
        """
        if name not in SIZES:
            raise ValueError(f"the sizes known here are {', '.join(SIZES)}; got {name!r}.")
        return SIZES[name]


SIZES = {
    "S": DiTSize(384, 12, 6),
    "B": DiTSize(768, 12, 12),
    "L": DiTSize(1024, 24, 16),
    "XL": DiTSize(1152, 28, 16),
}


class DiT(Component):
    """From a noisy latent, its noise level and a class to what a diffusion process asks of a network.

    What that is, noise, data or velocity, and how levels are numbered, is the process' affair. Published weights were
    trained with levels 0 to 999, and give the noise, then a number for its variance, along the channels.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, C, H, W] | float | read |
        | "level" | [*B] | int or float, as it is | read |
        | "label" | [*B] | int, 0 to ``labels``, which is none | read, where there are labels |
        | "network_output" | [*B, C_out, H, W] | float | written |

    Args:
        shape: (C, H, W) of the latent.
        size: how large.
        labels: number of classes; 0 for a network that is told none.
        patch: side of a patch.
        out_channels: C_out; twice C if not given, for noise and variance.
        mlp_ratio: the feed-forward's width over the token's.
        label_dropout: share of classes that is hidden in training.
        in_keys: latent, level, and class where there are any.
        out_keys: the output.

    Raises:
        ValueError: if patches do not fill the latent, or heads do not divide the size. On call, for latents of another
            shape.

    Reference: Peebles and Xie, Scalable Diffusion Models with Transformers (DiT, 2023).

    Example:
        >>> import torch
        >>> net = DiT((4, 8, 8), DiTSize(16, depth=1, heads=2), labels=10)
        >>> net(torch.zeros(3, 4, 8, 8), torch.tensor([0, 500, 999]), torch.tensor([1, 2, 10])).shape
        torch.Size([3, 8, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int] = (4, 32, 32),
        size: DiTSize = SIZES["XL"],
        *,
        labels: int = 1000,
        patch: int = 2,
        out_channels: int | None = None,
        mlp_ratio: float = 4.0,
        label_dropout: float = 0.1,
        in_keys: Sequence[NestedKey] = ("noisy", "level", "label"),
        out_keys: Sequence[NestedKey] = ("network_output",),
    ) -> None:
        super().__init__(in_keys if labels else in_keys[:2], out_keys)
        channels, *sides = self.shape = tuple(shape)
        dim, self.patch = size.dim, patch
        self.grid = patch_grid(sides, (patch, patch))
        self.patches = PatchEmbedding(channels, dim, (patch, patch))
        self.positions = FixedGridPositions(column_first_positions(self.grid, dim), self.grid)
        self.level = NumberEmbedding(dim)
        self.label = LabelEmbedding(labels, dim, label_dropout) if labels else None
        self.blocks = nn.ModuleList(dit_block(dim, size.heads, int(dim * mlp_ratio)) for _ in range(size.depth))
        self.out = AdaptiveOutput(dim, patch**2 * (2 * channels if out_channels is None else out_channels))
        dit_init_(self)

    def compute(
        self,
        noisy: Float[Tensor, "*batch c h w"],
        level: Float[Tensor, "*batch"] | Int[Tensor, "*batch"],
        label: Int[Tensor, "*batch"] | None = None,
    ) -> Float[Tensor, "*batch c_out h w"]:
        """See the table of keys."""
        check_latent(noisy, 3, self.shape)
        lead = noisy.shape[:-3]
        x, level, label = one_batch(lead, noisy=noisy, level=level, label=label)
        condition = self.level(level)
        if self.label is not None:
            condition = condition + self.label(label)
        condition = condition.unsqueeze(-2)
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x, condition)
        out = unpatchify(self.out(x, condition), self.patch, self.grid)
        return out.reshape(*lead, *out.shape[1:])

    def tokens(self, latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Patches with their positions."""
        return self.patches(latent) + self.positions(self.grid)[1]
