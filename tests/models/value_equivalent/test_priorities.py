"""Priorities of transitions as they are stored, worked by hand."""

import pytest
import torch

from tests.support.small_muzero import muzero, sequences
from wmcomponents.models import initial_priorities


def searched():
    """Two episodes of three steps that pay 1 to 6, of which the first terminates; a search valued them at 10 to 15."""
    td = sequences(inits=[0, 3], ends=[2], steps=6)
    td["search", "value"] = torch.arange(10.0, 16.0).expand(2, 6).clone()
    return td


def test_a_priority_is_how_far_the_search_was_from_two_rewards_and_a_value():
    loss, td = muzero().objective(), searched()
    found = initial_priorities(loss, td)
    # |10 - (1 + 2/2 + 12/4)|, |11 - (2 + 3/2)|, |12 - 3|, |13 - (4 + 5/2 + 15/4)|
    assert found[0, :4].tolist() == pytest.approx([5.0, 7.5, 9.0, 2.75], abs=1e-4)
    arrivals = loss.arrivals(sequences(inits=[0], steps=6))
    stack, _ = loss.world_model.stack_sequence({}, arrivals.action, arrivals.observation, arrivals.is_init)
    last = loss.bootstrap_value(arrivals, stack)[:, -1]
    torch.testing.assert_close(found[:, 4], (14 - (5 + 6 / 2 + last / 4)).abs() + 1e-6, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:, 5], (15 - (6 + last / 2)).abs() + 1e-6, rtol=1e-4, atol=1e-4)


def test_without_a_search_the_networks_value_takes_its_place_and_padding_has_none():
    loss, td = muzero().objective(), sequences(inits=[0, 3], ends=[2], steps=6)
    td["collector", "mask"] = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    td["next", "reward"][1, 4:] = torch.nan
    found = initial_priorities(loss, td)
    assert found.shape == (2, 6) and bool(found.isfinite().all())
    assert (found[0] > 0).all() and (found[1, :4] > 0).all() and (found[1, 4:] == 0).all()
    alone = initial_priorities(loss, td[1:, :4])
    torch.testing.assert_close(found[1:, :4], alone, rtol=1e-4, atol=1e-4)
