"""Random tensors that conform to a spec, from the caller's generator; and the global generators, left alone."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
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


def draw(spec: TensorSpec, batch_size: Sequence[int], generator: torch.Generator) -> Tensor:
    """A tensor ``[*batch_size, *spec.shape]`` inside the spec; the global generators are not touched.

    ``TensorSpec.rand`` draws from PyTorch's global generator, which a check of global randomness cannot afford.

    Args:
        spec: spec of one row; a leaf, not a ``Composite``.
        batch_size: leading dims, any number.
        generator: on the CPU.
    """
    shape = (*batch_size, *spec.shape)
    space = cast(Any, spec.space)
    if isinstance(spec, MultiOneHot):
        hots = [_one_hot(box.n, shape[:-1], generator) for box in space]
        return torch.cat(hots, -1).to(spec.dtype).to(spec.device)
    if isinstance(spec, OneHot):
        return _one_hot(space.n, shape[:-1], generator).to(spec.dtype).to(spec.device)
    if isinstance(spec, MultiCategorical):
        sizes = torch.as_tensor(spec.nvec).cpu()
        return (torch.rand(shape, generator=generator) * sizes).floor().to(spec.dtype).to(spec.device)
    if isinstance(spec, Binary) or spec.dtype is torch.bool:
        return torch.randint(2, shape, generator=generator).to(spec.dtype).to(spec.device)
    if isinstance(spec, Categorical):
        return torch.randint(space.n, shape, generator=generator).to(spec.dtype).to(spec.device)
    if isinstance(spec, Bounded):
        low, high = bounds(spec)
        return _between(low.cpu(), high.cpu(), shape, generator).to(spec.dtype).to(spec.device)
    if isinstance(spec, Unbounded) and spec.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(spec.dtype).to(spec.device)
    if isinstance(spec, Unbounded):
        top = min(torch.iinfo(spec.dtype).max, 255)
        return torch.randint(0, top + 1, shape, generator=generator).to(spec.dtype).to(spec.device)
    with untouched_globals():
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return cast(Tensor, spec.expand(torch.Size(shape)).rand())


def draw_all(spec: Composite, batch_size: Sequence[int], generator: torch.Generator) -> dict[str, Tensor]:
    """A tensor for each entry of a flat ``Composite``."""
    return {str(key): draw(leaf, batch_size, generator) for key, leaf in spec.items()}


def bounds(spec: Bounded) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of each entry, ``[*spec.shape]``."""
    space = cast(Any, spec.space)
    return space.low, space.high


def is_uniform(spec: TensorSpec) -> bool:
    """Whether a leaf of a ``noise_spec`` asks for uniform noise in [0, 1)."""
    if not isinstance(spec, Bounded):
        return False
    low, high = bounds(spec)
    return bool((low == 0).all() and (high == 1).all())


def _one_hot(count: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.nn.functional.one_hot(torch.randint(count, tuple(shape), generator=generator), count)


def _between(low: Tensor, high: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    low, high = low.double(), high.double()
    uniform = torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
    normal = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
    if not bool(((high - low) < 1e6).all()):
        # A bound that is infinite, or as good as: stay near the finite end, or near zero.
        return torch.minimum(torch.maximum(normal, low), high)
    return low + uniform * (high - low)


Globals = tuple[Tensor, Any, Any, list[Tensor]]


def global_generators() -> Globals:
    """The states of PyTorch's, NumPy's and Python's global generators (and of the initialised CUDA devices)."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return torch.get_rng_state(), np.random.get_state(), random.getstate(), cuda


def moved_generators(before: Globals) -> list[str]:
    """The names of the global generators that moved since ``before``."""
    after = global_generators()
    moved = []
    if not torch.equal(before[0], after[0]):
        moved.append("torch")
    if any(not np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True)):
        moved.append("numpy.random")
    if before[2] != after[2]:
        moved.append("random")
    if len(before[3]) == len(after[3]) and not all(map(torch.equal, before[3], after[3])):
        moved.append("torch.cuda")
    return moved


@contextlib.contextmanager
def untouched_globals() -> Iterator[None]:
    """Put the global generators back to where they were, whatever happens inside."""
    torch_state, numpy_state, python_state, cuda = global_generators()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def reseed_globals(seed: int) -> None:
    """Seed all global generators, inside :func:`untouched_globals`."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
