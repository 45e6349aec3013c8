"""Hypothesis strategies: specs, batches of data that fit them, and world models over them."""

from typing import cast

import torch
from torch import Tensor
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
    Unbounded,
)

from wmcomponents._extras import require
from wmcomponents.testing.sampling import bounds, draw
from wmcomponents.testing.toy import PARTS, NoiseKind, ToyWorldModel

require("hypothesis", extra="dev")

from hypothesis import strategies as st  # noqa: E402
from hypothesis.strategies import SearchStrategy  # noqa: E402

Batch = tuple[int, ...]


def seeds() -> SearchStrategy[int]:
    """Seeds that every generator takes."""
    return st.integers(0, 2**31 - 1)


def batch_sizes(*, max_dims: int = 2, max_size: int = 4) -> SearchStrategy[Batch]:
    """Leading dims: ``()``, ``(B,)``, ``(B, T)`` ..., none of them empty.

    Args:
        max_dims: at most so many.
        max_size: of each.
    """
    return st.lists(st.integers(1, max_size), max_size=max_dims).map(tuple)


def vector_specs() -> SearchStrategy[TensorSpec]:
    """Float vectors, bounded or not."""
    sizes = st.integers(1, 5)
    bounded = st.builds(lambda n, top: Bounded(-top, top, torch.Size([n])), sizes, st.sampled_from([0.5, 1.0, 10.0]))
    return st.one_of(sizes.map(lambda n: Unbounded(n)), bounded)


def image_specs() -> SearchStrategy[TensorSpec]:
    """uint8 images ``[H, W, C]``."""
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]))
    return shapes.map(lambda shape: Bounded(0, 255, torch.Size(shape), dtype=torch.uint8))


def plane_specs() -> SearchStrategy[TensorSpec]:
    """Boolean planes ``[H, W, C]``."""
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
    return shapes.map(lambda shape: Binary(shape[-1], shape=torch.Size(shape), dtype=torch.bool))


def observation_specs() -> SearchStrategy[Composite]:
    """Specs of one observation: a bare vector, image or planes; or several named entries."""
    bare = st.one_of(
        vector_specs().map(lambda leaf: Composite(observation=leaf)),
        plane_specs().map(lambda leaf: Composite(observation=leaf)),
        image_specs().map(lambda leaf: Composite(pixels=leaf)),
    )
    several = st.fixed_dictionaries(
        {"position": vector_specs()},
        optional={
            "camera": image_specs(),
            "grid": plane_specs(),
            "mission": st.integers(2, 4).map(lambda n: OneHot(n)),
        },
    ).map(Composite)
    return st.one_of(bare, several)


def action_specs() -> SearchStrategy[TensorSpec]:
    """Specs of one action: one-hot, integer, several of them, or continuous."""
    counts = st.integers(2, 5)
    several = st.lists(st.integers(2, 3), min_size=2, max_size=3)
    return st.one_of(
        counts.map(lambda n: OneHot(n)),
        counts.map(lambda n: Categorical(n)),
        several.map(lambda sizes: MultiOneHot(sizes)),
        several.map(lambda sizes: MultiCategorical(sizes)),
        st.integers(1, 3).map(lambda n: Bounded(-1, 1, torch.Size([n]))),
    )


def tensors(spec: TensorSpec, batch: Batch = ()) -> SearchStrategy[Tensor]:
    """Tensors ``[*batch, ...]`` inside a leaf spec; also all zeros and, where bounded, all at a bound.

    Args:
        spec: a leaf.
        batch: leading dims.
    """
    random = seeds().map(lambda seed: draw(spec, batch, torch.Generator().manual_seed(seed)))
    shape = (*batch, *spec.shape)
    corners: list[Tensor] = []
    if isinstance(spec, Bounded):
        corners = [end.to(spec.dtype).expand(shape) for end in bounds(spec) if bool(torch.isfinite(end.double()).all())]
    elif isinstance(spec, Unbounded):
        corners = [torch.zeros(shape, dtype=spec.dtype)]
    return st.one_of(*(st.just(corner).map(torch.clone) for corner in corners), random)


def observations(spec: Composite, batch: Batch = ()) -> SearchStrategy[dict[str, Tensor]]:
    """Observations that fit a spec, ``[*batch, ...]`` for each entry."""
    return st.fixed_dictionaries({str(key): tensors(leaf, batch) for key, leaf in spec.items()})


def actions(spec: TensorSpec, batch: Batch = ()) -> SearchStrategy[Tensor]:
    """Actions that fit a spec, ``[*batch, ...]``."""
    return tensors(spec, batch)


def toy_models() -> SearchStrategy[ToyWorldModel]:
    """Small world models over random specs: deterministic or stochastic, with any of the optional parts."""
    return st.builds(
        _toy_model,
        observation_specs(),
        action_specs(),
        st.integers(2, 8),
        st.sampled_from(["none", "uniform", "normal"]),
        st.sets(st.sampled_from(PARTS)),
        seeds(),
    )


def _toy_model(
    observation_spec: Composite, action_spec: TensorSpec, size: int, noise: str, parts: set[str], seed: int
) -> ToyWorldModel:
    kind = cast(NoiseKind, noise)
    return ToyWorldModel(observation_spec, action_spec, size=size, noise=kind, parts=parts, seed=seed)
