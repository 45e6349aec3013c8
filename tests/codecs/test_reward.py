"""Rewards as classes: what is drawn, what is foretold, what is learned."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.codecs import RewardDistribution, SignReward, SymlogReward
from wmcomponents.functional.symlog import symlog


def test_signs_are_drawn_by_the_inverse_of_their_distribution():
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    rewards = SignReward().reward(logits.expand(1000, 3), torch.linspace(0, 0.9999, 1000))
    for value, share in ((-1, 0.2), (0, 0.5), (1, 0.3)):
        assert float((rewards == value).float().mean()) == pytest.approx(share, abs=0.01)


def test_without_a_number_to_draw_with_the_likeliest_sign_is_taken():
    assert SignReward().reward(torch.tensor([0.2, 0.5, 0.3])).item() == 0.0


@pytest.mark.parametrize("reward, place", [(-3.5, 0), (-1.0, 0), (0.0, 1), (0.01, 2), (20.0, 2)])
def test_of_a_real_reward_the_sign_counts(reward: float, place: int):
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    found = SignReward().loss(logits, torch.tensor([reward]))
    assert found.item() == pytest.approx(-logits.log_softmax(-1)[0, place].item(), rel=1e-6)


@pytest.mark.parametrize("kind", [SignReward(), SymlogReward(bins=31)])
def test_what_is_no_number_is_not_taken_for_a_reward(kind: RewardDistribution):
    found = kind.loss(torch.zeros(2, kind.size), torch.tensor([math.nan, 1.0]))
    assert found.isnan().tolist() == [True, False]


@pytest.mark.parametrize("kind", [SignReward(), SymlogReward(bins=31)])
@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_rewards_and_losses_have_the_shape_of_the_batch(kind: RewardDistribution, lead: tuple[int, ...]):
    logits = torch.randn(*lead, kind.size, generator=torch.Generator().manual_seed(0))
    assert kind.reward(logits).shape == kind.loss(logits, torch.zeros(lead)).shape == lead


@given(st.floats(-1e6, 1e6, width=32))
def test_two_hot_loss_is_least_where_its_mean_is_the_real_reward(reward: float):
    kind, real = SymlogReward(), torch.tensor([reward])
    place = (kind.bins - symlog(real)).div(kind.bins[1] - kind.bins[0])
    two_hot = (1 - place.abs()).clamp_min(0)  # the two bins beside it share its weight
    logits = two_hot.clamp_min(1e-12).log().unsqueeze(0)
    assert kind.reward(logits).item() == pytest.approx(reward, rel=2e-3, abs=2e-3)
    assert kind.loss(logits, real) <= kind.loss(logits.roll(3, -1), real)
