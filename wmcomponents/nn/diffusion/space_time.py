"""The block of diffusion transformers over films: attention within a frame, then along time, each under a condition."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wmcomponents.nn.attention.attention_function import dot_product_attention
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.attention.positions import InterleavedRoPE
from wmcomponents.nn.attention.sequence_mask import SequenceMask
from wmcomponents.nn.diffusion.blocks import dit_block
from wmcomponents.nn.space_time.branches import PastFrames

CAUSAL = SequenceMask(block=1)


class AdaptiveSpaceTimeBlock(nn.Module):
    """DiT's block over the tokens of a frame, then DiT's block over time at each place, which does not look ahead.

    Each has its own norms, gates and feed-forward. The condition is one vector for each frame.

    Args:
        dim: size of tokens and of the condition.
        heads: number of attention heads.
        hidden: width of the feed-forwards.
        rope: rotary positions of a frame's tokens.

    Raises:
        ValueError: if the heads do not divide the size, or a head's size is odd.

    Reference: Oasis (Decart and Etched, 2024), and its code.
    """

    def __init__(self, dim: int, heads: int, hidden: int, rope: AxialRoPE) -> None:
        super().__init__()
        self.space = dit_block(dim, heads, hidden, bias=False, rope=rope)
        self.time = dit_block(dim, heads, hidden, bias=False, rope=InterleavedRoPE(dim // heads))

    def forward(
        self, x: Float[Tensor, "b t n d"], condition: Float[Tensor, "b t d"], place: Float[Tensor, "n 2"]
    ) -> Float[Tensor, "b t n d"]:
        """A whole film; see :meth:`remember`."""
        return self.remember(x, condition, place)[0]

    def remember(
        self, x: Float[Tensor, "b t n d"], condition: Float[Tensor, "b t d"], place: Float[Tensor, "n 2"]
    ) -> tuple[Float[Tensor, "b t n d"], PastFrames]:
        """A whole film, and the keys and values of its frames.

        Args:
            x: the tokens of each frame.
            condition: of each frame.
            place: of each token within its frame.
        """
        kept = []

        def look(y: Tensor) -> Tensor:
            q, k, v = self.time.attention.project(y)  # pyright: ignore[reportCallIssue]
            kept.append(PastFrames(k, v))
            return self.time.attention.merge(dot_product_attention(q, k, v, CAUSAL))  # pyright: ignore[reportCallIssue]

        x = self.space(x, condition.unsqueeze(2), None, place)
        x = self.time.around(x.transpose(1, 2), condition.unsqueeze(1), look).transpose(1, 2)
        return x, kept[0]

    def follow(
        self,
        x: Float[Tensor, "b k n d"],
        condition: Float[Tensor, "b k d"],
        place: Float[Tensor, "n 2"],
        past: PastFrames,
        frames: "Following",
    ) -> tuple[Float[Tensor, "b k n d"], PastFrames]:
        """Frames behind those that are remembered, and their own keys and values.

        Args:
            x: the tokens of the new frames.
            condition: of each new frame.
            place: of each token within its frame.
            past: as :meth:`remember` gave it.
            frames: where the new ones stand, and what they see.
        """
        kept = []

        def look(y: Tensor) -> Tensor:
            q, k, v = self.time.attention.project(y, frames.position)  # pyright: ignore[reportCallIssue]
            kept.append(PastFrames(k, v))
            keys, values = torch.cat([past.keys, k], -2), torch.cat([past.values, v], -2)
            return self.time.attention.merge(dot_product_attention(q, keys, values, frames.mask))  # pyright: ignore[reportCallIssue]

        x = self.space(x, condition.unsqueeze(2), None, place)
        x = self.time.around(x.transpose(1, 2), condition.unsqueeze(1), look).transpose(1, 2)
        return x, kept[0]


def sees(place: Int[Tensor, " t"], block: int = 1) -> Bool[Tensor, "t t"]:
    """Which frames (rows) see which (columns): all of their own block and of those before it.

    Args:
        place: numbers of the frames.
        block: frames of a block; 1 where no frame sees a later one.
    """
    number = place.div(block, rounding_mode="floor")
    return number.unsqueeze(1) >= number


class Following:
    """Where frames stand that follow on remembered ones, and what each of them sees; worked out once for all blocks.

    Args:
        start: how many of the remembered frames are each row's own, which is also where its first new frame stands.
        count: how many are new.
        remembered: how many there is room for.
        dtype: of the queries.
        block: so many new frames see each other, from the first on, and none of a later block.

    Attributes:
        position: of the new frames, ``[B, 1, K]``: the same at all places of a frame.
        mask: numbers to add to the logits, ``[B, 1, 1, K, P + K]``.
    """

    def __init__(
        self,
        start: Int[Tensor, "b 1"],
        count: int,
        remembered: int,
        dtype: torch.dtype = torch.float32,
        block: int = 1,
    ) -> None:
        new = torch.arange(count, device=start.device)
        self.position = (start + new).unsqueeze(1)
        old = torch.arange(remembered, device=start.device) < start  # (B, P)
        old = old.unsqueeze(1).expand(-1, count, -1)
        seen = torch.cat([old, sees(new, block).expand(len(start), -1, -1)], -1)
        mask = torch.zeros(seen.shape, device=start.device, dtype=dtype).masked_fill_(~seen, float("-inf"))
        self.mask = mask[:, None, None]


def space_time_blocks(depth: int, dim: int, heads: int, hidden: int, rope: AxialRoPE) -> nn.ModuleList:
    """Blocks one behind the other, with one set of rotary positions.

    Args:
        depth: how many.
        dim: size of tokens and of the condition.
        heads: number of attention heads.
        hidden: width of the feed-forwards.
        rope: rotary positions of a frame's tokens.
    """
    make = partial(AdaptiveSpaceTimeBlock, dim, heads, hidden, rope)
    return nn.ModuleList(make() for _ in range(depth))
