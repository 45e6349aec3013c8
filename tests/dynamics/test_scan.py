"""The backward pass written by hand: the same numbers as autograd's, and as well behaved."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from tests.support.parts import scramble
from wmcomponents.dynamics import (
    RSSM,
    AbsolutePosterior,
    BlockGRUCell,
    GaussianLatent,
    LearnedInitialState,
    Prior,
    RecurrentPosterior,
    SigmoidStd,
    SoftplusStd,
)
from wmcomponents.nn import Dense

BATCH, TIME, ACTION, EMBED = 3, 6, 2, 5


class Sequence(nn.Module):
    """Makes ``observe_sequence`` a forward, which functional calls need."""

    def __init__(self, rssm: RSSM) -> None:
        super().__init__()
        self.rssm = rssm

    def forward(self, *args):
        return self.rssm.observe_sequence(*args)


def build(**options) -> RSSM:
    sizes = {"deter": 16, "hidden": 8, "groups": 4, "classes": 6, "blocks": 4} | options
    return scramble(RSSM.block_gru(EMBED, ACTION, **sizes)).double()


def inputs(rssm: RSSM, with_noise: bool = True) -> list[torch.Tensor | None]:
    floats = [(BATCH, 16), (BATCH, *rssm.latent.shape), (BATCH, TIME, ACTION), (BATCH, TIME, EMBED)]
    tensors = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in floats]
    noise = torch.rand(BATCH, TIME, *rssm.latent.noise_shape, dtype=torch.float64) if with_noise else None
    return [*tensors, torch.rand(BATCH, TIME, 1) < 0.2, noise]


def loop(rssm: RSSM, *args):
    """The same parts, filtered one by one."""
    rssm._can_scan = lambda _: False
    try:
        return rssm.observe_sequence(*args)
    finally:
        del rssm._can_scan


def loss(outputs, weights):
    return sum((weight * output).sum() for weight, output in zip(weights, outputs, strict=True))


@pytest.mark.parametrize("with_noise", [True, False])
@pytest.mark.parametrize("classes,unimix", [(6, 0.01), (20, 0.0), (2, 0.5)])
@pytest.mark.parametrize("blocks", [1, 4])
def test_values_and_every_gradient_agree_with_autograd(with_noise, classes, unimix, blocks):
    rssm = build(classes=classes, unimix=unimix, blocks=blocks)
    assert_scan_is_loop(rssm, with_noise)


@pytest.mark.parametrize("with_noise", [True, False])
@pytest.mark.parametrize("std", [SoftplusStd(), SigmoidStd()], ids=["softplus", "sigmoid"])
def test_a_gaussian_latent_is_scanned_too(with_noise, std):
    latent = GaussianLatent(6, std=std)
    cell, prior = BlockGRUCell(16, latent.size, ACTION, 8, blocks=4), Prior(16, latent.params, 8)
    rssm = RSSM(cell, latent, prior, RecurrentPosterior(16, EMBED, latent.params, 8))
    assert_scan_is_loop(scramble(rssm).double(), with_noise)


def assert_scan_is_loop(rssm, with_noise):
    args = inputs(rssm, with_noise)
    assert rssm._can_scan(args[0])
    leaves = [*args[:4], *rssm.cell.parameters(), *rssm.posterior.parameters()]
    results = {}
    weights = None
    for name, run in (("scan", rssm.observe_sequence), ("loop", lambda *a: loop(rssm, *a))):
        outputs = run(*args)
        weights = weights or [torch.randn_like(output) for output in outputs]
        results[name] = (*outputs, *torch.autograd.grad(loss(outputs, weights), leaves))
    for actual, expected in zip(results["scan"], results["loop"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


def test_the_standard_model_is_scanned_and_others_are_not():
    plain = build()
    assert plain.cell.can_scan and plain.posterior.can_scan and plain.latent.can_scan
    for options in ({"norm": "layer"}, {"act": "gelu"}, {"cell_layers": 2}):
        assert not build(**options).cell.can_scan
    assert not build(posterior_layers=2).posterior.can_scan
    learned = RSSM(plain.cell, plain.latent, plain.prior, plain.posterior, LearnedInitialState(16))
    assert plain._can_scan(torch.zeros(1)) and not learned._can_scan(torch.zeros(1))
    other = AbsolutePosterior(4, 4)
    assert GaussianLatent(3).can_scan and not other.can_scan
    with pytest.raises(NotImplementedError, match="offers no scan"):
        other.scan(torch.zeros(1), torch.zeros(1), torch.zeros(1))


def test_frozen_parts_get_no_gradient_and_do_not_disturb_the_others():
    rssm = build()
    args, weights = inputs(rssm), None
    rssm.cell.requires_grad_(False)
    outputs = rssm.observe_sequence(*args)
    weights = [torch.ones_like(output) for output in outputs]
    loss(outputs, weights).backward()
    assert all(parameter.grad is None for parameter in rssm.cell.parameters())
    assert all(parameter.grad is not None for parameter in rssm.posterior.parameters())


def test_a_kept_graph_gives_the_same_gradient_twice():
    rssm = build()
    args = inputs(rssm)
    outputs = rssm.observe_sequence(*args)
    total = outputs[0].sum() + outputs[2].square().sum()
    first = torch.autograd.grad(total, list(rssm.posterior.parameters()), retain_graph=True)
    second = torch.autograd.grad(total, list(rssm.posterior.parameters()))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_weights_changed_before_the_backward_pass_are_noticed():
    rssm = build()
    outputs = rssm.observe_sequence(*inputs(rssm))
    with torch.no_grad():
        rssm.cell.gates.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs[0].sum().backward()


@pytest.mark.parametrize("with_backward", [True, False])
def test_a_dropped_graph_is_freed(with_backward):
    rssm = build()
    outputs = rssm.observe_sequence(*inputs(rssm))
    node = outputs[0].grad_fn
    while not hasattr(node, "scans"):
        node = node.next_functions[0][0]
    scan = weakref.ref(node.scans[0])
    if with_backward:
        outputs[0].sum().backward()
    del outputs, node
    gc.collect()
    assert scan() is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_numbers_are_the_same(mode):
    rssm = build()
    args = inputs(rssm)
    expected = rssm.observe_sequence(*args)
    with mode():
        actual = rssm.observe_sequence(*args)
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b) and not a.requires_grad


def test_mixed_precision_takes_the_loop():
    rssm = build().float()
    args = [x if x is None or x.dtype == torch.bool else x.detach().float() for x in inputs(rssm)]
    with torch.autocast("cpu", torch.bfloat16):
        assert not rssm._can_scan(args[0])
        outputs = rssm.observe_sequence(*args)
    assert all(output.isfinite().all() for output in outputs)


def test_an_rssm_with_any_prior_is_scanned():
    rssm = build()
    other = RSSM(rssm.cell, rssm.latent, Prior(16, rssm.latent.params, 8, norm="layer").double(), rssm.posterior)
    args = inputs(rssm)
    for a, b in zip(other.observe_sequence(*args), rssm.observe_sequence(*args), strict=True):
        assert torch.equal(a, b)


def test_dense_layers_of_another_kind_are_not_scanned():
    rssm = build()
    rssm.cell.stoch_in = Dense(rssm.latent.size, 8, norm="none").double()
    assert not rssm.cell.can_scan
    assert rssm.observe_sequence(*inputs(rssm))[0].isfinite().all()


def test_gradients_reach_parameters_that_a_functional_call_puts_in_place():
    rssm = build()
    args = inputs(rssm)
    roots = {name: parameter.detach().clone().requires_grad_() for name, parameter in rssm.named_parameters()}
    derived = {name: 2.0 * root for name, root in roots.items()}
    for parameter in rssm.parameters():
        parameter.data.mul_(2.0)
    outputs = functional_call(Sequence(rssm), {f"rssm.{name}": value for name, value in derived.items()}, tuple(args))
    loss(outputs, [torch.ones_like(output) for output in outputs]).backward()
    assert all(parameter.grad is None for parameter in rssm.parameters())
    plain = rssm.observe_sequence(*args)
    loss(plain, [torch.ones_like(output) for output in plain]).backward()
    for name, parameter in rssm.named_parameters():
        if not name.startswith("prior"):
            torch.testing.assert_close(roots[name].grad, 2.0 * parameter.grad)


def test_an_ensemble_can_be_vectorised():
    members = [build() for _ in range(2)]
    args = [x if x is None else x.detach() for x in inputs(members[0])]
    params, _ = stack_module_state([Sequence(member) for member in members])
    stacked = vmap(lambda state: functional_call(Sequence(members[0]), state, tuple(args)))(params)
    for part, first, second in zip(stacked, *(m.observe_sequence(*args) for m in members), strict=True):
        torch.testing.assert_close(part, torch.stack([first, second]))
