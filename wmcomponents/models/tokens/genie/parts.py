"""A Genie's networks, put together from its config."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from wmcomponents.dynamics import (
    ActionJoining,
    AddedActions,
    MaskedEmbedding,
    MaskGITDynamics,
    PrependedActions,
)
from wmcomponents.functional.patches import patch_grid
from wmcomponents.heads import FilmOutcomeHead
from wmcomponents.models.tokens.genie.config import (
    Block,
    GenieActionConfig,
    GenieNetworkConfig,
    GenieTokenizerConfig,
)
from wmcomponents.nn import (
    FilmPositions,
    LearnedCosineQuantizer,
    LearnedFilmPositions,
    SinusoidalFilmPositions,
    STBlock,
    STTransformer,
    genie_block,
    jasmine_block,
    onexgpt_block,
)
from wmcomponents.nn.layers.batch_norm import BatchNorm1d
from wmcomponents.nn.vit.block import vit_init_
from wmcomponents.tokenizers import ActionTokenEncoder, LatentActionModel, VideoTokenizer

WIDER = 4
"""Width of a feed-forward over that of a token."""


def transformer_of(
    block: Block,
    frames: int,
    tokens: int,
    *,
    size: int,
    blocks: int,
    dim: int,
    heads: int,
    out: int,
    head_dim: int | None = None,
    map_in: nn.Module | None = None,
) -> STTransformer:
    """A transformer over films.

    Args:
        block: whose blocks.
        frames: most frames.
        tokens: of a frame.
        size: numbers of a token that it reads.
        blocks: how many.
        dim: size of a token inside.
        heads: of each attention.
        out: numbers of a token that it gives.
        head_dim: size of a head, where it is not ``dim / heads``.
        map_in: in place of a linear map between two norms.

    Raises:
        ValueError: if heads do not divide the size, where the block has no size of its own for them.
    """
    kinds: dict[str, Callable[[], STBlock]] = {
        "genie": lambda: genie_block(dim, heads, WIDER * dim, head_dim),
        "jasmine": lambda: jasmine_block(dim, heads, WIDER * dim, head_dim),
        "1xgpt": lambda: onexgpt_block(dim, heads, WIDER * dim),
    }
    if block == "1xgpt" and head_dim not in (None, dim / heads):
        raise ValueError(f"1xgpt's blocks share {dim} numbers by {heads} heads; set head_dim={dim // heads}.")
    positions: type[FilmPositions] = SinusoidalFilmPositions if block == "jasmine" else LearnedFilmPositions
    if map_in is None:
        map_in = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, dim), nn.LayerNorm(dim))
    map_out = nn.Linear(dim, out) if block == "jasmine" else nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, out))
    net = STTransformer(map_in, positions(frames, tokens, dim), [kinds[block]() for _ in range(blocks)], map_out)
    net.apply(vit_init_)
    if isinstance(net.positions, LearnedFilmPositions):
        nn.init.trunc_normal_(net.positions.table, std=0.02)
    return net


def tokenizer_of(
    config: GenieTokenizerConfig, net: GenieNetworkConfig, shape: Sequence[int], image_key: str
) -> VideoTokenizer:
    """The tokenizer of films.

    Raises:
        ValueError: if patches do not fill a frame.
    """
    c = config
    rows, columns = patch_grid(shape[:2], (c.patch, c.patch))
    tokens, numbers = rows * columns, c.patch**2 * shape[2]
    encoder: dict[str, Any] = {"blocks": c.encoder_blocks, "dim": c.encoder_dim, "heads": c.encoder_heads}
    decoder: dict[str, Any] = {"blocks": c.decoder_blocks, "dim": c.decoder_dim, "heads": c.decoder_heads}
    return VideoTokenizer(
        shape,
        c.patch,
        transformer_of(net.block, net.frames, tokens, size=numbers, out=c.code, **encoder),
        transformer_of(net.block, net.frames, tokens, size=c.code, out=numbers, **decoder),
        LearnedCosineQuantizer(c.vocabulary, c.code),
        in_keys=(image_key,),
    )


def action_model_of(
    config: GenieActionConfig, net: GenieNetworkConfig, shape: Sequence[int], image_key: str
) -> LatentActionModel:
    """The model of latent actions.

    Raises:
        ValueError: if patches do not fill a frame.
    """
    c = config
    rows, columns = patch_grid(shape[:2], (c.action_patch, c.action_patch))
    tokens, numbers = rows * columns, c.action_patch**2 * shape[2]
    sizes: dict[str, Any] = {"blocks": c.action_blocks, "dim": c.action_dim, "heads": c.action_heads}
    encoder = transformer_of(net.block, net.frames, tokens + 1, size=numbers, out=c.action_code, **sizes)
    decoder = transformer_of(net.block, net.frames, tokens, size=c.action_dim, out=numbers, **sizes)
    return LatentActionModel(
        shape,
        c.action_patch,
        ActionTokenEncoder(numbers, encoder),
        nn.Linear(numbers, c.action_dim),
        decoder,
        LearnedCosineQuantizer(c.actions, c.action_code),
        dim=c.action_dim,
        norm=BatchNorm1d(c.action_code, affine=False) if c.action_norm else None,
        in_keys=(image_key,),
        out_keys=("action_tokens", "action_codes"),
    )


def dynamics_of(net: GenieNetworkConfig, tokens: int) -> MaskGITDynamics:
    """The dynamics over the tokens of a frame."""
    c, size = net.dynamics, net.action_model.action_code
    kinds: dict[str, Callable[[int, int], ActionJoining]] = {"added": AddedActions, "prepended": PrependedActions}
    joining = kinds[c.joining](c.dim, size)
    transformer = transformer_of(
        net.block,
        net.frames,
        tokens + joining.extra,
        size=c.dim,
        blocks=c.blocks,
        dim=c.dim,
        heads=c.heads,
        head_dim=c.head_dim,
        out=net.tokenizer.vocabulary,
        map_in=nn.LayerNorm(c.dim) if net.block == "genie" else None,
    )
    return MaskGITDynamics(MaskedEmbedding(net.tokenizer.vocabulary, c.dim), joining, transformer)


def outcomes_of(net: GenieNetworkConfig, tokens: int) -> FilmOutcomeHead | None:
    """The model of reward and end, if there is one."""
    c = net.outcomes
    if not c.outcome_blocks:
        return None
    sizes: dict[str, Any] = {"blocks": c.outcome_blocks, "dim": c.outcome_dim, "heads": c.outcome_heads}
    transformer = transformer_of(net.block, net.frames, tokens + 1, size=c.outcome_dim, out=c.outcome_dim, **sizes)
    encoder = ActionTokenEncoder(c.outcome_dim, transformer)
    return FilmOutcomeHead(net.tokenizer.code, net.action_model.action_code, encoder, c.outcome_dim, c.outcome_dim)
