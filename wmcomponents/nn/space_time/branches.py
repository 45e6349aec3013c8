"""What a block of a film's transformer adds to its input: attention in space, attention in time, a map of each token.

Every branch reads a whole film ``[B, T, N, D]``, or one more frame ``[B, N, D]`` behind frames that it has read: since
no branch looks ahead in time, what it keeps of the past is all that a further frame needs.
"""

from typing import Any, ClassVar, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.nn.space_time.attention import HeadAttention


class Branch(nn.Module):
    """Base of what a block adds to its input. One that looks at single frames alone writes ``forward`` and no more.

    Attributes:
        keeps: whether frames behind a frame need anything of it.
    """

    keeps: ClassVar[bool] = False

    def remember(self, x: Float[Tensor, "b t n d"]) -> tuple[Float[Tensor, "b t n d"], Any]:
        """What is added to the frames of the past, and what a further frame needs of them.

        Args:
            x: the past, with room for frames that there may not be.
        """
        return self(x), None

    def follow(self, x: Float[Tensor, "b n d"], past: Any, place: Int[Tensor, "b 1"]) -> Float[Tensor, "b n d"]:
        """What is added to one more frame.

        Args:
            x: the frame.
            past: as :meth:`remember` gave it.
            place: of the frame, which is also how many frames of the past each row has.
        """
        return self(x.unsqueeze(1)).squeeze(1)

    def extend(
        self, x: Float[Tensor, "b n d"], past: Any, place: Int[Tensor, "b 1"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n k"] | None]:
        """What is added to one more frame, and what frames behind it need of it; a branch that keeps nothing: None.

        Args:
            x: the frame.
            past: as :meth:`remember` gave it.
            place: see :meth:`follow`.
        """
        return self.follow(x, past, place), None

    def pack(self, past: Any) -> Float[Tensor, "b p n k"] | None:
        """What :meth:`remember` gave as numbers of each token of each frame; of a branch that keeps nothing None."""
        return None

    def unpack(self, packed: Float[Tensor, "b p n k"]) -> Any:
        """What :meth:`pack` packed, as :meth:`follow` reads it; a view where there is one."""
        raise NotImplementedError(f"{type(self).__name__} keeps nothing of past frames.")


class TokenBranch(Branch):
    """A map of each token by itself, behind a norm.

    Args:
        norm: before the map; ``nn.Identity()`` for none.
        net: the map.
    """

    def __init__(self, norm: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.norm, self.net = norm, net

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """What is added."""
        return self.net(self.norm(x))


class SpaceBranch(Branch):
    """Attention of the tokens of a frame to each other, all to all.

    Args:
        norm: before the attention; ``nn.Identity()`` for none.
        attention: over ``[B T, N, D]``.
        bias: makes numbers to add to the logits, ``[heads, N, N]``; none if not given.
        scale: of the logits; the root of a head's size divides them if not given.
    """

    def __init__(
        self, norm: nn.Module, attention: HeadAttention, *, bias: nn.Module | None = None, scale: float | None = None
    ) -> None:
        super().__init__()
        self.norm, self.attention = norm, cast(Any, attention)
        self.bias, self.scale = bias, scale

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """What is added."""
        q, k, v = self.attention.project(self.norm(x).flatten(0, 1))
        added = None if self.bias is None else self.bias().to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=self.scale)
        return self.attention.merge(y).view_as(x)


class PastFrames(NamedTuple):
    """What attention in time keeps of past frames.

    Attributes:
        keys: ``[B, N, heads, P, d]``.
        values: ``[B, N, heads, P, d]``.
    """

    keys: Tensor
    values: Tensor


class TimeBranch(Branch):
    """Attention along time, of the tokens at one place of the frame to each other; nothing looks ahead.

    Args:
        norm: before the attention; ``nn.Identity()`` for none.
        attention: over ``[B N, T, D]``.
        slopes: by which each head's logits fall with each frame of distance, ``[heads]``; not at all if not given.
        scale: of the logits; the root of a head's size divides them if not given.

    Reference: Bruce et al., Genie (2024), section 2; Press et al., Train Short, Test Long (ALiBi, 2022), for slopes.
    """

    keeps = True
    slopes: Tensor | None

    def __init__(
        self,
        norm: nn.Module,
        attention: HeadAttention,
        *,
        slopes: Float[Tensor, " heads"] | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm, self.attention, self.scale = norm, cast(Any, attention), scale
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """What is added."""
        return self._whole(x)[0]

    def remember(self, x: Float[Tensor, "b t n d"]) -> tuple[Float[Tensor, "b t n d"], PastFrames]:
        """What is added, and the keys and values."""
        y, keys, values = self._whole(x)
        rows = (x.shape[0], x.shape[2])
        return y, PastFrames(keys.unflatten(0, rows), values.unflatten(0, rows))

    def follow(self, x: Float[Tensor, "b n d"], past: PastFrames, place: Int[Tensor, "b 1"]) -> Float[Tensor, "b n d"]:
        """What is added to one more frame, which sees the first ``place`` frames of the past and itself."""
        return self._following(x, past, place)[0]

    def extend(
        self, x: Float[Tensor, "b n d"], past: PastFrames, place: Int[Tensor, "b 1"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n k"]]:
        """What is added to one more frame, and its keys and values."""
        y, keys, values = self._following(x, past, place)
        return y, torch.stack([keys, values], -3).flatten(-3).unflatten(0, x.shape[:2])

    def pack(self, past: PastFrames) -> Float[Tensor, "b p n k"]:
        """Keys and values side by side."""
        return torch.stack([past.keys, past.values], 2).movedim(4, 1).flatten(3)

    def unpack(self, packed: Float[Tensor, "b p n k"]) -> PastFrames:
        """Views of the keys and the values."""
        keys, values = packed.unflatten(-1, (2, self.attention.heads, -1)).movedim(1, 4).unbind(2)
        return PastFrames(keys, values)

    def _following(self, x: Tensor, past: PastFrames, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is added to one more frame, its keys and its values ``[B N, heads, d]``."""
        rows, tokens = x.shape[:2]
        q, key, value = self.attention.project(self.norm(x).flatten(0, 1).unsqueeze(1))
        k = torch.cat([past.keys.flatten(0, 1).to(key.dtype), key], -2)
        v = torch.cat([past.values.flatten(0, 1).to(value.dtype), value], -2)
        frame = torch.arange(past.keys.shape[-2], device=x.device)
        seen = torch.cat([frame < place, torch.ones_like(place, dtype=torch.bool)], 1)  # (B, P + 1)
        mask = torch.zeros(seen.shape, device=x.device, dtype=q.dtype).masked_fill_(~seen, float("-inf"))
        mask = mask.view(rows, 1, 1, -1)
        if self.slopes is not None:
            distance = torch.cat([place - frame, torch.zeros_like(place)], 1).view(rows, 1, 1, -1)
            mask = mask - self.slopes.to(q.dtype).view(-1, 1, 1) * distance
        mask = mask.repeat_interleave(tokens, 0)
        y = self.attention.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale))
        return y.view_as(x), key.squeeze(-2), value.squeeze(-2)

    def _whole(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, frames, tokens, _ = x.shape
        q, k, v = self.attention.project(self.norm(x).transpose(1, 2).flatten(0, 1))
        if self.slopes is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        else:
            step = torch.arange(frames, device=x.device)
            distance = (step.unsqueeze(1) - step).to(q.dtype)
            bias = (-self.slopes.to(q.dtype).view(-1, 1, 1) * distance).masked_fill(distance < 0, float("-inf"))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return self.attention.merge(y).unflatten(0, (rows, tokens)).transpose(1, 2), k, v
