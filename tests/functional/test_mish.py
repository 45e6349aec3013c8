"""Mish in pieces against torch's."""

import pytest
import torch
import torch.nn.functional as F

from wmcomponents.functional.mish import at_once, mish, mish_


def numbers(*shape, seed=0) -> torch.Tensor:
    """More than a piece, not a whole number of them, from where nothing passes to where everything does."""
    return 20 * torch.randn(shape or (3, at_once() // 2 + 7), generator=torch.Generator().manual_seed(seed))


def test_it_is_mish_to_the_rounding_of_its_input():
    x = torch.cat([numbers().flatten(), torch.tensor([0.0, -1e-8, 1e-8, -100.0, 100.0, -1e30, 1e30])])
    assert ((mish(x).double() - F.mish(x.double())).abs() <= 2 * torch.finfo().eps * x.abs()).all()


def test_its_gradient_is_as_near_as_torchs_own():
    x, arrived = numbers().requires_grad_(), numbers(seed=1)
    exact = x.detach().double().requires_grad_()
    mish(x).backward(arrived)
    F.mish(exact).backward(arrived.double())
    assert ((x.grad.double() - exact.grad).abs() <= 5e-7 * arrived.abs()).all()


def test_its_gradient_has_a_gradient():
    ours, exact = numbers().requires_grad_(), numbers().double().requires_grad_()
    for x, act in ((ours, mish), (exact, F.mish)):
        (slope,) = torch.autograd.grad(act(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["transposed", "expanded"])
def test_any_layout_is_read_as_it_is(layout):
    x = numbers(at_once() // 128 + 1, 256)
    x = x.mT if layout == "transposed" else x[:1].expand_as(x)
    torch.testing.assert_close(mish(x), F.mish(x))
    leaf = x.detach().clone().requires_grad_()
    mish(leaf * 1.0).backward(torch.ones(()).expand_as(x))
    torch.testing.assert_close(leaf.grad, torch.autograd.functional.vjp(F.mish, x, torch.ones_like(x))[1])


def test_what_is_not_a_number_stays_so_and_the_input_stays_as_it_is():
    x = numbers()
    x[1, 5] = torch.nan
    before = x.clone()
    assert mish(x).isnan().nonzero().tolist() == [[1, 5]] and torch.equal(x.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_in_place_it_gives_the_same(share):
    x = numbers(int(share * at_once()) + 3)
    expected = mish(x)
    scattered = torch.stack([x, x], -1)[..., 0]
    assert mish_(x) is x and mish_(scattered) is scattered
    torch.testing.assert_close(x, expected, rtol=0, atol=0)
    torch.testing.assert_close(scattered, expected)


def test_transforms_of_functions_see_single_operations():
    x = numbers(2, at_once())
    torch.testing.assert_close(torch.func.vmap(mish)(x), F.mish(x))
    _, slope = torch.func.jvp(mish, (x,), (torch.ones_like(x),))
    assert slope.isfinite().all()


@pytest.mark.compile
@pytest.mark.parametrize("act", [mish, mish_])
def test_the_compiler_sees_single_operations(act):
    x = numbers()
    expected = mish(x)
    torch.testing.assert_close(torch.compile(act, backend="eager", fullgraph=True)(x), expected)
