"""Rewards of any size: the unit that data give, what a head can say, and the warning where it cannot."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from wmcomponents.codecs import RewardRangeWarning, RewardUnit, SignReward, Support, TanhTransform, reward_transform
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.heads import MSEHead, NormalHead, PreprintTwoHotHead, SymlogTwoHotHead, TwoHotHead


@given(st.floats(1e-6, 1e12), st.sampled_from([-1.0, 1.0]))
def test_the_unit_is_a_power_of_ten_that_brings_large_numbers_to_one_and_leaves_ordinary_ones(size, sign):
    unit, reward = RewardUnit(), torch.tensor([0.0, sign * size], dtype=torch.float32)
    unit.prepare(reward)
    assert float(unit.unit) == 1.0 or math.log10(float(unit.unit)) == pytest.approx(round(math.log10(float(unit.unit))))
    said = float(unit(reward).abs().max())
    assert said == pytest.approx(size) if size <= 99.99 else size < 100.01 or 0.0999 < said < 1.0001
    torch.testing.assert_close(unit.inverse(unit(reward)), reward)


def test_a_unit_is_found_once_of_what_is_finite_and_travels_with_the_weights():
    unit = RewardUnit()
    unit.prepare(torch.tensor([torch.nan, torch.inf]))
    assert not unit.fitted and unit.unit == 1
    unit.prepare(torch.tensor([torch.nan, 2500.0]))
    unit.prepare(torch.tensor([1e9]))
    assert unit.unit == 1e4
    other = RewardUnit()
    other.load_state_dict(unit.state_dict())
    assert other.unit == 1e4 and bool(other.fitted)


def test_many_ordinary_rewards_whose_sums_are_not_give_a_unit_too():
    few, many = RewardUnit(100.0, 5.0), RewardUnit(100.0, 5.0)
    few.prepare(torch.tensor([0.0, 0.0, 0.0, 0.0, 20.0]))
    many.prepare(torch.tensor([20.0, 20.0, 20.0]))
    assert few.unit == 1 and many.unit == 100


def test_rewards_are_found_where_data_have_them_without_padding_and_what_is_no_number():
    data = TensorDict({"next": {"reward": torch.tensor([[[1.0], [torch.nan], [3.0]]])}}, [1, 3])
    assert rewards_in(data).tolist() == [[1.0], [3.0]]
    data["collector"] = {"mask": torch.tensor([[True, True, False]])}
    assert rewards_in(data).tolist() == [[1.0]]
    assert rewards_in(TensorDict(batch_size=[1, 3])).shape == (0, 1)


@pytest.mark.parametrize("reward", [3.0, -1e3, 1e5])
def test_a_support_says_what_the_data_held(reward):
    support = Support.integers(10, unit=RewardUnit(100.0))
    support.prepare(torch.tensor([reward]))
    assert support.largest >= abs(reward)
    said = support.mean(support.encode(torch.tensor([reward])).clamp_min(1e-12).log())
    torch.testing.assert_close(said, torch.tensor([reward]), rtol=1e-3, atol=0.0)
    assert Support.integers(10).largest == pytest.approx(117.43, abs=0.01)


def test_heads_learn_in_units_and_say_in_rewards():
    head = SymlogTwoHotHead(4, 8, unit=RewardUnit(2e4))
    head.prepare(torch.tensor([[1e5]]))
    assert head.distribution.largest > 1e9
    raw = torch.full((1, 101), -100.0)
    below = torch.searchsorted(head.distribution.bins, torch.tensor(2.0).log()) - 1  # symlog of one unit
    raw[0, below] = 0.0
    assert 5e4 < float(head.mean(raw)) < 2e5
    assert head.loss(raw, head.mean(raw)) < head.loss(raw, 10 * head.mean(raw))
    normal = NormalHead(4, 8, transform=reward_transform("scaled"))
    normal.prepare(torch.tensor([[-2500.0]]))
    assert normal.mean(torch.tensor([[0.25]])).item() == 2500.0
    exact, off = (normal.loss(torch.tensor([[x]]), torch.tensor([[2500.0]])) for x in (0.25, 1.25))
    torch.testing.assert_close(off - exact, torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("part", "held", "beyond", "words"),
    [
        (lambda: TwoHotHead(4, 8), 1e8, 1e9, "4.85165e\\+08"),
        (lambda: PreprintTwoHotHead(4, 8), 1e8, 1e9, "4.85165e\\+08"),
        (lambda: SymlogTwoHotHead(4, 8), 2e4, 1e5, "100000 in size, beyond 22025.5.*rewards='scaled'"),
        (lambda: MSEHead(4, 8), 99.0, 1e3, "squared, the error.*rewards='scaled'"),
        (lambda: NormalHead(4, 8, transform=TanhTransform()), 2.0, 5.0, "5 in size, beyond 3"),
        (lambda: SignReward(), 1.0, 5.0, "learns their signs"),
    ],
)
def test_what_cannot_be_said_is_told_once_with_both_numbers_and_the_remedy(part, held, beyond, words):
    part().prepare(torch.tensor([[0.0], [-held]]))
    with pytest.warns(RewardRangeWarning, match=words) as told:
        part().prepare(torch.tensor([[0.0], [-beyond]]))
    assert len(told) == 1


def test_an_unknown_kind_of_rewards_is_refused():
    with pytest.raises(ValueError, match="plain.*tanh.*scaled"):
        reward_transform("clipped")
