"""Small parts with random weights, shared by the tests of encoders, decoders, heads and dynamics."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, OneHot, Unbounded, UnboundedDiscrete

from wmcomponents.functional import symlog
from wmcomponents.heads import TwoHotHead

LEADS = [(), (3,), (2, 3)]
EVERYTHING = Composite(
    board=UnboundedDiscrete(shape=(5, 5, 2), dtype=torch.bool),
    camera=Bounded(0, 255, shape=(16, 16, 3), dtype=torch.uint8),
    choice=OneHot(3),
    gauge=Bounded(-2.0, 2.0, shape=(2,)),
    lamps=Binary(3),
    level=Bounded(0, 9, shape=(4, 4, 1), dtype=torch.uint8),
    mode=Categorical(4),
    pair=MultiCategorical([2, 3]),
    position=Unbounded(3),
    radar=Bounded(0, 255, shape=(16, 16, 1), dtype=torch.uint8),
)


def scramble(module: nn.Module) -> nn.Module:
    """Random values in every parameter, also in those that start at 0 or 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def settle(head: TwoHotHead) -> TwoHotHead:
    """Little weight far out, as in a head that has learned rewards of order one.

    The sum of an untrained head's far bins is a small difference of numbers around 1e8: its digits are those of the
    processor's kernels, and no two processors agree on them.
    """
    with torch.no_grad():
        head.out.bias.copy_(-1.2 * symlog(head.distribution.bins).abs())
    return head


def draw(spec: Composite, lead: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Random observations ``[*lead, *shape]`` of a spec."""
    sample = spec.expand(lead).rand() if lead else spec.rand()
    return {key: sample[key] for key in spec.keys()}


def assert_every_parameter_gets_a_gradient(module: nn.Module, loss: Tensor) -> None:
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def assert_inputs_untouched(function: Callable, *inputs: Tensor | None) -> None:
    """Nothing is mutated, and nothing returned shares memory with an input."""
    copies = [None if x is None else x.clone() for x in inputs]
    out = function(*inputs)
    for before, after in zip(copies, inputs, strict=True):
        assert before is None or after is None or torch.equal(before, after)
    storages = {x.untyped_storage().data_ptr() for x in inputs if x is not None}
    for y in out if isinstance(out, tuple) else (out,):
        assert y.untyped_storage().data_ptr() not in storages


def assert_rows_are_independent(function: Callable, *inputs: Tensor) -> None:
    """Permuted rows give permuted results, and a row alone gives what it gives in company."""
    order = torch.randperm(inputs[0].shape[0])
    whole, permuted = as_tuple(function(*inputs)), as_tuple(function(*(x[order] for x in inputs)))
    alone = as_tuple(function(*(x[:1] for x in inputs)))
    for a, b, c in zip(whole, permuted, alone, strict=True):
        torch.testing.assert_close(a[order], b, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a[:1], c, rtol=1e-4, atol=1e-5)


def as_tuple(out: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)
