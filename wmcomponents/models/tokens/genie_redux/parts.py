"""The networks of GenieRedux and GenieRedux-G, put together from their configs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from wmcomponents.dynamics import (
    ActionJoining,
    AddedActions,
    ConcatenatedActions,
    MaskedEmbedding,
    MaskGITDynamics,
    SkippedEmbedding,
)
from wmcomponents.functional.patches import patch_grid
from wmcomponents.heads import FilmOutcomeHead
from wmcomponents.models.tokens.genie_redux.config import (
    ReduxActionConfig,
    ReduxGuidedNetworkConfig,
    ReduxSizeConfig,
)
from wmcomponents.nn import (
    FirstFrameApart,
    LearnedCosineQuantizer,
    NoFilmPositions,
    STTransformer,
    genieredux_block,
)
from wmcomponents.tokenizers import FlattenedEncoder, LatentActionModel, VideoTokenizer

WIDER = 4
"""Width of a feed-forward without gates over that of a token."""

Order = Literal["space-time", "time-space"]


def tokenizer_of(net: ReduxGuidedNetworkConfig, shape: Sequence[int], image_key: str) -> VideoTokenizer:
    """The tokenizer of films.

    Raises:
        ValueError: if patches do not fill a frame.
    """
    c, size = net.tokenizer, net.size
    grid, numbers = patch_grid(shape[:2], (size.patch, size.patch)), size.patch**2 * shape[2]
    out = nn.Sequential(nn.LayerNorm(size.dim, bias=False), nn.Linear(size.dim, c.code))
    shown = FirstFrameApart(nn.Linear(size.dim, numbers), nn.Linear(size.dim, numbers))
    return VideoTokenizer(
        shape,
        size.patch,
        _transformer(size, grid, c.tokenizer_blocks, _patch_embedding(numbers, size.dim), out),
        _transformer(
            size,
            grid,
            c.tokenizer_blocks,
            nn.Linear(c.code, size.dim),
            nn.Sequential(nn.LayerNorm(size.dim, bias=False), shown),
            "time-space",
        ),
        LearnedCosineQuantizer(c.vocabulary, c.code),
        squash=nn.Identity(),
        in_keys=(image_key,),
    )


def action_model_of(
    config: ReduxActionConfig, size: ReduxSizeConfig, shape: Sequence[int], image_key: str
) -> LatentActionModel:
    """The model of latent actions.

    Raises:
        ValueError: if patches do not fill a frame.
    """
    c = config
    grid, numbers = patch_grid(shape[:2], (size.patch, size.patch)), size.patch**2 * shape[2]
    norm = nn.LayerNorm(size.dim, bias=False)
    encoder = _transformer(size, grid, c.action_blocks, _patch_embedding(numbers, size.dim), norm)
    shown = nn.Sequential(nn.LayerNorm(size.dim, bias=False), nn.Linear(size.dim, numbers))
    return LatentActionModel(
        shape,
        size.patch,
        FlattenedEncoder(encoder, grid[0] * grid[1], size.dim, c.action_code),
        _patch_embedding(numbers, size.dim),
        _transformer(size, grid, c.action_blocks, nn.Identity(), shown, "time-space"),
        LearnedCosineQuantizer(c.actions, c.action_code),
        dim=size.dim,
        squash=nn.Identity(),
        in_keys=(image_key,),
        out_keys=("action_tokens", "action_codes"),
    )


def dynamics_of(
    net: ReduxGuidedNetworkConfig, tokenizer: VideoTokenizer, joins: Callable[[int, int], ActionJoining], action: int
) -> MaskGITDynamics:
    """The dynamics over the tokens of a frame.

    Args:
        net: sizes.
        tokenizer: of the frames.
        joins: how actions meet tokens, :class:`AddedActions` or :class:`ConcatenatedActions`.
        action: size of an action's vector.
    """
    c, size, vocabulary = net.dynamics, net.size, net.tokenizer.vocabulary
    learned = MaskedEmbedding(vocabulary, size.dim)
    embedding = learned if c.embedding == "learned" else SkippedEmbedding(learned, tokenizer.quantizer)
    joining = joins(size.dim, action)
    map_in = nn.Identity() if joining.dim == size.dim else nn.Linear(joining.dim, size.dim)
    out = nn.Sequential(nn.LayerNorm(size.dim, bias=False), nn.Linear(size.dim, vocabulary))
    return MaskGITDynamics(embedding, joining, _transformer(size, tokenizer.grid, c.blocks, map_in, out))


def outcomes_of(net: ReduxGuidedNetworkConfig, tokenizer: VideoTokenizer, action: int) -> FilmOutcomeHead | None:
    """The model of reward and end, if there is one.

    Args:
        net: sizes.
        tokenizer: of the frames.
        action: size of an action's vector.
    """
    c = net.outcomes
    if not c.outcome_blocks:
        return None
    size = replace(net.size, dim=c.outcome_dim, heads=c.outcome_heads, head_dim=c.outcome_dim // c.outcome_heads)
    norm = nn.LayerNorm(size.dim, bias=False)
    transformer = _transformer(size, tokenizer.grid, c.outcome_blocks, nn.Identity(), norm)
    encoder = FlattenedEncoder(transformer, tokenizer.length, size.dim, size.dim)
    return FilmOutcomeHead(net.tokenizer.code, action, encoder, size.dim, size.dim)


JOINS_ADDED, JOINS_BESIDE = AddedActions, ConcatenatedActions
"""How actions meet tokens in GenieRedux, and in GenieRedux-G."""


def _patch_embedding(numbers: int, dim: int) -> FirstFrameApart:
    first, rest = (nn.Sequential(nn.LayerNorm(numbers), nn.Linear(numbers, dim), nn.LayerNorm(dim)) for _ in range(2))
    return FirstFrameApart(first, rest)


def _transformer(
    size: ReduxSizeConfig,
    grid: Sequence[int],
    blocks: int,
    map_in: nn.Module,
    map_out: nn.Module,
    order: Order = "space-time",
) -> STTransformer:
    made = [
        genieredux_block(size.dim, size.heads, WIDER * size.dim, grid, size.head_dim, order=order)
        for _ in range(blocks)
    ]
    return STTransformer(map_in, NoFilmPositions(size.frames, grid[0] * grid[1]), made, map_out)
