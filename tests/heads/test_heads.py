"""Heads: shapes, losses, laws."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import nn

from tests.support.golden_vectors import load
from tests.support.parts import (
    LEADS,
    assert_every_parameter_gets_a_gradient,
    assert_inputs_untouched,
    assert_rows_are_independent,
    scramble,
)
from wmcomponents import heads
from wmcomponents.codecs import Symlog, TanhTransform
from wmcomponents.functional import symexp, symlog
from wmcomponents.heads import (
    BernoulliHead,
    CategoricalHead,
    Head,
    MSEHead,
    NormalHead,
    PreprintTwoHotHead,
    TwoHotDistribution,
    TwoHotHead,
)

FEAT = 6
PARTS = {
    "two_hot": (lambda: TwoHotHead(FEAT, units=8), lambda lead: torch.randn(*lead, 1)),
    "bernoulli": (lambda: BernoulliHead(FEAT, units=8), lambda lead: torch.rand(*lead, 1)),
    "mse": (lambda: MSEHead(FEAT, units=8, out_features=2), lambda lead: torch.randn(*lead, 2)),
    "symlog_mse": (lambda: MSEHead(FEAT, units=8, transform=Symlog()), lambda lead: torch.randn(*lead, 1)),
    "symlog_two_hot": (lambda: PreprintTwoHotHead(FEAT, units=8), lambda lead: torch.randn(*lead, 1)),
    "normal": (lambda: NormalHead(FEAT, 8, 2, norm="none", act="elu"), lambda lead: torch.randn(*lead, 1)),
    "tanh_normal": (
        lambda: NormalHead(FEAT, 8, 2, transform=TanhTransform(), norm="none", act="elu"),
        lambda lead: torch.rand(*lead, 1) - 0.5,
    ),
    "categorical": (
        lambda: CategoricalHead(FEAT, classes=4, units=8, unimix=0.01),
        lambda lead: torch.randn(*lead, 4).softmax(-1),
    ),
}
every_head = pytest.mark.parametrize("build,draw", PARTS.values(), ids=PARTS)


@every_head
@pytest.mark.parametrize("lead", LEADS)
def test_a_head_takes_any_leading_dimensions(build, draw, lead):
    head, feat, target = build(), torch.randn(*lead, FEAT), draw(lead)
    raw, mean = head.compute(feat)
    assert raw.shape[:-1] == lead and mean.shape == target.shape
    assert torch.equal(raw, head.raw(feat)) and torch.equal(mean, head.mean(raw))
    assert head.loss(raw, target).shape == lead
    out = head(TensorDict({"feat": feat}, lead))
    assert torch.equal(out[head.out_keys[0]], raw) and torch.equal(out[head.out_keys[1]], mean)


@every_head
def test_a_head_is_pure_and_its_rows_are_independent(build, draw):
    head = scramble(build())
    assert_inputs_untouched(head.compute, torch.randn(4, FEAT))
    assert_rows_are_independent(head.raw, torch.randn(4, FEAT))


@every_head
def test_gradient_reaches_every_parameter_of_a_head_but_no_target(build, draw):
    head, target = scramble(build()), draw((5,)).requires_grad_()
    assert_every_parameter_gets_a_gradient(head, head.loss(head.raw(torch.randn(5, FEAT)), target).sum())
    assert target.grad is None


@every_head
def test_a_head_learns_its_target(build, draw):
    head, feat, target = build(), torch.randn(5, FEAT), draw((5,))
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(head.raw(feat), target).mean().backward()
        optimizer.step()
    torch.testing.assert_close(head.compute(feat)[1], target, rtol=0.05, atol=0.06)


@every_head
@pytest.mark.compile
def test_a_head_compiles_to_the_same_numbers(build, draw):
    head, feat, target = scramble(build()), torch.randn(3, FEAT), draw((3,))

    def run(feat, target):
        raw, mean = head.compute(feat)
        return mean, head.loss(raw, target)

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(feat, target), run(feat, target))


def test_a_fresh_two_hot_head_predicts_exactly_zero():
    assert TwoHotHead(FEAT, units=8).compute(torch.randn(7, FEAT))[1].eq(0).all()


@given(st.floats(-1e6, 1e6, width=32))
def test_a_sure_two_hot_head_predicts_its_target(value):
    head, target = TwoHotHead(FEAT, units=8), torch.tensor([value])
    lowest, bin_ = (symlog(head.distribution.bins) - symlog(target)).abs().min(0)
    raw = torch.full((255,), -1e9).index_fill(0, bin_, 0.0)
    assert (symlog(head.mean(raw)) - symlog(target)).abs() <= lowest + 1e-4


def test_the_preprints_two_hot_agrees_with_its_code():
    info, tensors = load("v3_2023_symlog_twohot")
    head, logits = PreprintTwoHotHead(FEAT, units=8), tensors["in/logits"]
    torch.testing.assert_close(head.distribution.bins, tensors["out/buckets"], **info["tolerance"])
    torch.testing.assert_close(-head.loss(logits, tensors["in/target"]), tensors["out/log_prob"], **info["tolerance"])
    torch.testing.assert_close(head.mean(logits), tensors["out/mode"], **info["tolerance"])


@given(st.floats(-20, 20, width=32))
def test_a_symlog_two_hot_target_has_its_mean_in_symlog_space(value):
    head, target = PreprintTwoHotHead(FEAT, units=8), symexp(torch.tensor([[value]]))
    raw = torch.zeros(1, 255, requires_grad=True)
    head.loss(raw, target).sum().backward()
    weights = 1 / 255 - raw.grad  # the gradient of a cross entropy is the difference of the two distributions
    assert math.isclose((weights * head.distribution.bins).sum().item(), value, abs_tol=2e-3)


def test_a_normal_head_returns_the_log_density_of_half_the_squared_error():
    head = NormalHead(FEAT, units=8)
    loss = head.loss(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    torch.testing.assert_close(loss, torch.tensor([2.0 + 0.5 * math.log(2 * math.pi)]))


def test_a_reward_that_was_squashed_comes_back_in_plain_units_and_stays_finite():
    head = NormalHead(FEAT, units=8, transform=TanhTransform())
    target = torch.tensor([[0.5], [-2.0]])
    constant = 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(head.loss(target.tanh(), target), torch.full((2,), constant))
    torch.testing.assert_close(head.mean(target.tanh()), target)
    torch.testing.assert_close(head.mean(torch.tensor([[1.5], [-7.0]])), torch.tensor([[3.0], [-3.0]]))


def test_the_symlog_head_answers_in_plain_units():
    head = MSEHead(FEAT, units=8, transform=Symlog())
    raw = torch.tensor([[2.0]])
    assert torch.equal(head.mean(raw), symexp(raw))
    torch.testing.assert_close(head.loss(raw, symexp(raw)), torch.zeros(1))


def test_uniform_mixing_keeps_every_class_possible():
    head = CategoricalHead(FEAT, classes=4, units=8, unimix=0.2)
    assert head.mean(torch.tensor([1e4, 0.0, 0.0, 0.0])).min() >= 0.05 - 1e-6


def test_outscale_scales_the_initial_output():
    torch.manual_seed(0)
    full = CategoricalHead(FEAT, classes=4, units=8)
    torch.manual_seed(0)
    small = CategoricalHead(FEAT, classes=4, units=8, outscale=0.01)
    torch.testing.assert_close(small.out.weight, 0.01 * full.out.weight)


def test_the_heads_of_papers_only_choose_the_parts_of_a_head():
    presets = [kind for kind in vars(heads).values() if inspect.isclass(kind) and Head in kind.__mro__[1:]]
    assert len(presets) == 8
    for kind in presets:
        own = {name for name, value in vars(kind).items() if callable(value)}
        assert kind.__bases__ == (Head,) and own == {"__init__"}


def test_a_head_takes_any_network_and_any_distribution():
    torch.manual_seed(0)
    bins = torch.tensor([-2.0, 0.0, 2.0])
    head = Head(nn.Tanh(), nn.Linear(FEAT, 3), TwoHotDistribution(bins), out_keys=("logits", "value"))
    feat = torch.randn(4, FEAT)
    logits, value = head(feat=feat)
    torch.testing.assert_close(value.squeeze(-1), logits.softmax(-1) @ bins)
    surprise = nn.functional.cross_entropy(logits, torch.tensor([[0.0, 0.5, 0.5]]).expand(4, 3), reduction="none")
    torch.testing.assert_close(head.loss(logits, torch.ones(4, 1)), surprise)


@pytest.mark.parametrize("head", [TwoHotHead(6, units=8), PreprintTwoHotHead(6, units=8)])
def test_several_truths_at_once_are_judged_as_one_by_one(head):
    raw = torch.randn(5, head.raw(torch.zeros(1, 6)).shape[-1])
    truths = [torch.randn(5, 1) * 3, torch.randn(5, 1)]
    for together, truth in zip(head.losses(raw, truths), truths, strict=True):
        torch.testing.assert_close(together, head.loss(raw, truth))
