"""GenieRedux's parts: positions from convolutions, biases by distance, a feed-forward behind either attention."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.functional.patches import grid_coordinates
from wmcomponents.nn.space_time.attention import CosineAttention
from wmcomponents.nn.space_time.block import STBlock
from wmcomponents.nn.space_time.branches import Branch, SpaceBranch, TimeBranch, TokenBranch

LOGIT_SCALE = 8.0
"""What the cosines of queries and keys are taken times."""


class PositionGenerator(Branch):
    """A depthwise convolution of 3 x 3 x 3 over frame, row and column, which looks back and not ahead (PEG).

    Args:
        dim: size of a token.
        grid: rows and columns of tokens.

    Reference: Chu et al., Conditional Positional Encodings for Vision Transformers (2023); GenieRedux (2024).
    """

    keeps = True

    def __init__(self, dim: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.conv = nn.Conv3d(dim, dim, 3, groups=dim)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """What is added."""
        return self._along(F.pad(x, (0, 0, 0, 0, 2, 0)))

    def remember(self, x: Float[Tensor, "b t n d"]) -> tuple[Float[Tensor, "b t n d"], Tensor]:
        """What is added, and the frames themselves behind two empty ones, of which a further frame sees two."""
        padded = F.pad(x, (0, 0, 0, 0, 2, 0))
        return self._along(padded), padded

    def follow(self, x: Float[Tensor, "b n d"], past: Tensor, place: Int[Tensor, "b 1"]) -> Float[Tensor, "b n d"]:
        """What is added to one more frame."""
        two = (place + torch.arange(2, device=x.device)).view(len(x), 2, 1, 1)
        return self._along(torch.cat([past.take_along_dim(two, 1), x.unsqueeze(1)], 1)).squeeze(1)

    def extend(
        self, x: Float[Tensor, "b n d"], past: Tensor, place: Int[Tensor, "b 1"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """What is added to one more frame, and the frame itself."""
        return self.follow(x, past, place), x

    def pack(self, past: Float[Tensor, "b q n d"]) -> Float[Tensor, "b p n d"]:
        """The frames without the empty ones."""
        return past[:, 2:]

    def unpack(self, packed: Float[Tensor, "b p n d"]) -> Float[Tensor, "b q n d"]:
        """The frames behind two empty ones."""
        return F.pad(packed, (0, 0, 0, 0, 2, 0))

    def _along(self, padded: Tensor) -> Tensor:
        y = padded.movedim(-1, 1).unflatten(3, self.grid)
        return self.conv(F.pad(y, (1, 1, 1, 1))).flatten(3).movedim(1, -1)


class ContinuousPositionBias(nn.Module):
    r"""Numbers to add to the logits of tokens of a grid, made from their distance :math:`\pm \log(1 + |\delta|)`.

    Args:
        grid: rows and columns of tokens.
        heads: number of heads.
        hidden: width of the perceptron.

    Reference: Liu et al., Swin Transformer V2 (2022), section 3.3; GenieRedux (2024).
    """

    distance: Tensor

    def __init__(self, grid: Sequence[int], heads: int, hidden: int) -> None:
        super().__init__()
        place = grid_coordinates(grid).float()
        apart = place.unsqueeze(1) - place
        self.register_buffer("distance", apart.sign() * apart.abs().log1p(), persistent=False)
        self.net = nn.Sequential(
            nn.Linear(2, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, heads),
        )

    def forward(self) -> Float[Tensor, "heads n n"]:
        """For each head, who looks and at whom."""
        return self.net(self.distance).movedim(-1, 0)


class GEGLU(nn.Module):
    """``W2 (value * gelu(gate))`` behind a layer norm, without biases; two thirds of the usual width cost as much.

    Args:
        dim: size of inputs and outputs.
        hidden: width that a feed-forward without gates would have.

    Reference: Shazeer, GLU Variants Improve Transformer (2020); GenieRedux (2024).
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        inner = hidden * 2 // 3
        self.w12 = nn.Linear(dim, 2 * inner, bias=False)
        self.w3 = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Each position by itself."""
        value, gate = self.w12(x).chunk(2, -1)
        return self.w3(value * F.gelu(gate))


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    r"""By which each head's logits fall with each step of distance: :math:`2^{-8 i / H}`.

    Where the heads are no power of two, those of the next smaller one, then every other of twice as many.

    Args:
        heads: H.

    Reference: Press et al., Train Short, Test Long (ALiBi, 2022).

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / whole) for i in range(whole)]
    between = [2.0 ** (-8.0 * (i + 1) / (2 * whole)) for i in range(0, 2 * (heads - whole), 2)]
    return torch.tensor(slopes + between)


def genieredux_block(
    dim: int,
    heads: int,
    hidden: int,
    grid: Sequence[int],
    head_dim: int = 64,
    *,
    order: Literal["space-time", "time-space"] = "space-time",
) -> STBlock:
    """GenieRedux's block: positions, attention, feed-forward; once in space and once in time.

    Args:
        dim: size of a token.
        heads: of each attention.
        hidden: width that the feed-forwards would have without gates.
        grid: rows and columns of tokens.
        head_dim: size of a head.
        order: which attention comes first: space in encoders, time in decoders.

    Reference: Kazemi et al., Learning Generative Interactive Environments by Trained Agent Exploration (2024).
    """
    space = SpaceBranch(
        nn.Identity(),
        CosineAttention(dim, heads, head_dim),
        bias=ContinuousPositionBias(grid, heads, dim),
        scale=LOGIT_SCALE,
    )
    time = TimeBranch(
        nn.Identity(), CosineAttention(dim, heads, head_dim), slopes=alibi_slopes(heads), scale=LOGIT_SCALE
    )
    attentions = (space, time) if order == "space-time" else (time, space)
    branches: list[Branch] = []
    for attention in attentions:
        feed_forward = TokenBranch(nn.LayerNorm(dim), GEGLU(dim, hidden))
        branches += [PositionGenerator(dim, grid), attention, feed_forward]
    return STBlock(branches)


class FirstFrameApart(nn.Module):
    """One map of a film's first frame, and another one of the frames behind it.

    Args:
        first: of the first frame.
        rest: of the others.

    Reference: GenieRedux (2024): patches are embedded, and made, by two maps.
    """

    def __init__(self, first: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, rest

    def forward(self, x: Float[Tensor, "b t n i"]) -> Float[Tensor, "b t n o"]:
        """The whole film."""
        return torch.cat([self.first(x[:, :1]), self.rest(x[:, 1:])], 1)
