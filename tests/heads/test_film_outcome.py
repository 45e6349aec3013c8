"""Reward and end of a film's frames."""

import pytest
import torch
from torch import nn

from wmcomponents.codecs import SignReward
from wmcomponents.heads import FilmOutcomeHead
from wmcomponents.tokenizers import FlattenedEncoder


def test_an_untrained_head_pays_nothing_and_is_in_doubt_of_the_end():
    head = FilmOutcomeHead(4, 3, FlattenedEncoder(nn.Identity(), 2, 8, 8), 8, 8)
    rewards, ends = head.compute(torch.randn(5, 7, 2, 4), torch.randn(5, 7, 3))
    torch.testing.assert_close(head.rewards.reward(rewards), torch.zeros(5, 7), atol=1e-5, rtol=0)
    assert bool((head.cont(ends) == 0.5).all()) and head.cont(ends).shape == (5, 7, 1)


def test_the_probability_of_going_on_is_that_of_the_first_class():
    assert FilmOutcomeHead.cont(torch.tensor([0.9, 0.1]).log()).item() == pytest.approx(0.9)


def test_what_led_to_a_frame_and_its_tokens_both_count_and_leading_dimensions_are_free():
    torch.manual_seed(0)
    head = FilmOutcomeHead(4, 3, FlattenedEncoder(nn.Identity(), 2, 8, 6), 8, 6, SignReward())
    nn.init.normal_(head.out.weight)
    codes, action = torch.randn(2, 5, 7, 2, 4), torch.randn(2, 5, 7, 3)
    rewards, ends = head.compute(codes, action)
    assert rewards.shape == (2, 5, 7, 3) and ends.shape == (2, 5, 7, 2)
    torch.testing.assert_close(rewards[1, 2], head.compute(codes[1, 2], action[1, 2])[0])
    for changed in ((codes + 1, action), (codes, action + 1)):
        assert not torch.allclose(head.compute(*changed)[0], rewards)
