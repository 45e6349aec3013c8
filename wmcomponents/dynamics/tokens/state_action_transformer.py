"""A world in mixed tokens: a causal transformer that reads a latent and an action as one token, once a step."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.rssm.latent import Latent
from wmcomponents.dynamics.tokens.block_transformer import CacheBounds
from wmcomponents.dynamics.tokens.sliding_cache import made_room
from wmcomponents.nn import CachePosition, PostNormTransformer, empty_kv_cache


class Read(NamedTuple):
    """What reading one token leaves of N rows.

    Attributes:
        hidden: the output at the token, ``[N, dim]``.
        length: positions of the KV cache in use now, int64 ``[N, 1]``.
        recent: the newest tokens as the transformer was given them, ``[N, kept, dim]``.
    """

    hidden: Tensor
    length: Tensor
    recent: Tensor


class StateActionTransformer(Component):
    r"""The recurrent part of STORM: the sample z_t and the action a_t are one token, and each step is one position.

    .. math:: e_t = f(z_t, a_t), \qquad h_t = Transformer(e_{\le t})_t, \qquad z_{t+1} \sim p(z \mid h_t)

    Positions are learned, and there are only so many of them. Where all are used, the last ``kept`` tokens are read
    again at the first positions, and everything before them is forgotten: a window that slides, and costs
    ``kept`` readings every ``positions - kept`` steps. The KV cache holds what was read, ``recent`` the tokens that
    would be read again.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "stoch" | [*B, T, *latent.shape] | float | read |
        | "action_vector" | [*B, T, action] | float, that was taken in this state | read |
        | "hidden" | [*B, T, dim] | float | written |

    Args:
        latent: the sampled part of a state.
        action: size of the action's vector.
        layers: transformer blocks.
        heads: attention heads.
        dim: size of the tokens.
        dropout: in training, of attention and residuals.
        positions: tokens in the context.
        kept: tokens that are read again where the context is full; fewer than ``positions``.
        in_keys: keys read.
        out_keys: keys written.

    Raises:
        ValueError: if not fewer are kept than there are positions; on call, if a sequence is longer than the context.

    Reference: Zhang et al., STORM: Efficient Stochastic Transformer based World Models (2023), section 3.1, and its
    code.

    Example:
        >>> from wmcomponents.dynamics import CategoricalLatent
        >>> dynamics = StateActionTransformer(CategoricalLatent(2, 3), 4, heads=2, dim=8, positions=6, kept=2)
        >>> dynamics(stoch=torch.zeros(5, 6, 2, 3), action_vector=torch.zeros(5, 6, 4)).shape
        torch.Size([5, 6, 8])
    """

    def __init__(
        self,
        latent: Latent,
        action: int,
        *,
        layers: int = 2,
        heads: int = 8,
        dim: int = 512,
        dropout: float = 0.1,
        positions: int = 64,
        kept: int = 16,
        in_keys: Sequence[NestedKey] = ("stoch", "action_vector"),
        out_keys: Sequence[NestedKey] = ("hidden",),
    ) -> None:
        if not 0 < kept < positions:
            raise ValueError(
                f"where the context is full, fewer tokens are kept than it holds, and at least one; got kept={kept} of "
                f"positions={positions}."
            )
        super().__init__(in_keys, out_keys)
        self.latent, self.layers, self.heads, self.dim = latent, layers, heads, dim
        self.max_positions, self.kept = positions, kept
        self.stem = nn.Sequential(
            nn.Linear(latent.size + action, dim, bias=False),
            nn.LayerNorm(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.LayerNorm(dim),
        )
        self.positions = nn.Embedding(positions, dim)
        self.transformer = PostNormTransformer(layers, dim, heads, dropout=dropout)
        self.prior = nn.Linear(dim, latent.params)

    def mix(self, stoch: Tensor, action: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch dim"]:
        """The token of a latent ``[*B, *latent.shape]`` and an action ``[*B, action]``, without its position."""
        return self.stem(torch.cat([stoch.flatten(-len(self.latent.shape)), action], -1))

    # -- whole sequences -----------------------------------------------------------------------------------------------

    def compute(self, stoch: Tensor, action: Tensor) -> Tensor:
        """Outputs ``[*B, T, dim]`` along sequences from their first position on; see the class."""
        tokens = self.mix(stoch, action)
        if tokens.shape[-2] > self.max_positions:
            raise ValueError(
                f"the context holds {self.max_positions} tokens, one a step; got {tokens.shape[-2]}: cut the sequence, "
                f"or build the transformer with more positions."
            )
        flat = tokens.reshape(-1, *tokens.shape[-2:])
        nowhere = torch.zeros(flat.shape[:-1], dtype=torch.bool, device=flat.device)
        return self.outputs(flat, nowhere).view(tokens.shape)

    def outputs(self, tokens: Float[Tensor, "n l dim"], begins: Bool[Tensor, "n l"]) -> Float[Tensor, "n l dim"]:
        """Outputs along sequences that cross from episode to episode, as the filter gives them while a context lasts.

        Positions are counted from the beginning of each episode, and from 0 again where all are used; nothing is seen
        of what came before either.

        Args:
            tokens: without positions, ``[N, L, dim]``.
            begins: where an episode begins: nothing led there, and there is no token, whatever stands in its place.

        Returns:
            ``[N, L, dim]``; 0 where an episode begins.
        """
        position, mask = contexts(begins, self.max_positions)
        hidden = self.transformer(tokens + self.positions(position), mask.unsqueeze(1))
        return hidden.masked_fill(begins.unsqueeze(-1), 0.0)

    # -- with a KV cache -----------------------------------------------------------------------------------------------

    @property
    def kv_cache_shape(self) -> tuple[int, ...]:
        """Of one row's keys and values: layers, 2, heads, positions, size of a head."""
        return (self.layers, 2, self.heads, self.max_positions, self.dim // self.heads)

    def empty_kv_cache(self, batch_size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """A KV cache in which nothing is in use, ``[*B, *kv_cache_shape]``."""
        return empty_kv_cache(batch_size, self.layers, self.heads, self.max_positions, self.dim, device=device)

    @torch.no_grad()
    def read(self, token: Float[Tensor, "n dim"], kv_cache: Tensor, length: Int[Tensor, "n 1"], recent: Tensor) -> Read:
        """Read a token that follows on those in the KV cache, which is written IN PLACE.

        Args:
            token: without its position, ``[N, dim]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``.
            length: positions in use, int64 ``[N, 1]``.
            recent: the newest tokens, ``[N, kept, dim]``.
        """
        due = length >= self.max_positions
        length, bounds = made_room(kv_cache, length, recent, due, self.kept, self._read_again)
        hidden = self._decode(token.unsqueeze(1), kv_cache, length, bounds)[:, 0]
        return Read(hidden, length + 1, torch.cat([recent[:, 1:], token.unsqueeze(1)], 1))

    def _read_again(self, recent: Tensor, kv_cache: Tensor) -> None:
        start = torch.zeros(recent.shape[0], 1, dtype=torch.int64, device=recent.device)
        self._decode(recent, kv_cache, start, CacheBounds(0, 0))

    def _decode(self, tokens: Tensor, kv_cache: Tensor, length: Tensor, bounds: CacheBounds) -> Tensor:
        """Outputs ``[N, T, dim]`` of tokens that follow on those in the KV cache, which is written IN PLACE."""
        count = tokens.shape[1]
        position = length + torch.arange(count, device=tokens.device)
        reach = None if bounds.longest is None else bounds.longest + count
        place = CachePosition(position, self.max_positions, uniform=bounds.uniform, reach=reach)
        return self.transformer.decode_step(tokens + self.positions(position), kv_cache, place)


def contexts(begins: Bool[Tensor, "n l"], positions: int) -> tuple[Int[Tensor, "n l"], Bool[Tensor, "n l l"]]:
    """Where tokens stand in the context of their episode, and which of them each sees.

    Args:
        begins: where an episode begins; there is no token there.
        positions: tokens in a context; the next one begins with nothing known.

    Returns:
        Positions ``[N, L]``, 0 where there is no token; and a mask ``[N, L, L]``, true where the token of the row sees
        that of the column. What is no token sees itself alone.

    Example:
        >>> begins = torch.tensor([[True, False, False, False, True, False]])
        >>> contexts(begins, positions=2)[0]
        tensor([[0, 0, 1, 0, 0, 0]])
    """
    is_token = ~begins
    count = is_token.cumsum(1)
    number = count - torch.where(begins, count, 0).cummax(1).values - 1  # of the token in its episode, -1 at its start
    context = begins.cumsum(1) * (begins.shape[1] + 1) + number.clamp_min(0) // positions
    together = context.unsqueeze(2) == context.unsqueeze(1)
    each = torch.ones(begins.shape[1], begins.shape[1], dtype=torch.bool, device=begins.device)
    seen = together & is_token.unsqueeze(1) & each.tril()
    return number.clamp_min(0) % positions, seen | torch.eye(begins.shape[1], dtype=torch.bool, device=begins.device)
