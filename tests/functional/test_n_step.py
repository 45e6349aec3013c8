"""Value targets of MuZero's family."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from wmcomponents.functional import (
    EpisodeTail,
    episode_tail,
    min_max_scale,
    n_step_return,
    negative_cosine,
    scale_gradient,
)

FLAGS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=9)


def row(*values, dtype=torch.float32):
    return torch.tensor([values], dtype=dtype)


def test_the_tail_of_an_episode_stops_at_the_next_episode_and_at_padding():
    is_init = row(1, 0, 0, 1, 0, 0, 0, dtype=torch.bool)
    terminated = row(0, 0, 1, 0, 0, 0, 0, dtype=torch.bool)
    valid = row(1, 1, 1, 1, 1, 0, 0, dtype=torch.bool)
    remaining, terminates = episode_tail(is_init, terminated, valid)
    assert remaining.tolist() == [[2, 1, 0, 1, 0, 0, 0]]
    assert terminates.tolist() == [[True, True, True, False, False, False, False]]


def test_rewards_are_discounted_and_the_value_behind_them_is_added():
    reward, value = row(0, 1, 2, 3, 4), row(10, 20, 30, 40, 50)
    tail = EpisodeTail(row(4, 3, 2, 1, 0, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.bool))
    z = n_step_return(reward, value, tail, n=2, discount=0.5)
    assert z.tolist() == [[1 + 1 + 7.5, 2 + 1.5 + 10, 3 + 2 + 12.5, 4 + 25, 50]]


def test_nothing_follows_a_termination():
    reward, value = row(0, 1, 2, 4), row(9, 9, 9, 9)
    tail = EpisodeTail(row(3, 2, 1, 0, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool))
    assert n_step_return(reward, value, tail, n=10, discount=0.5).tolist() == [[3, 4, 4, 0]]
    assert n_step_return(reward, value, tail, n=1, discount=0.5).tolist() == [[5.5, 6.5, 4, 0]]


def test_two_players_count_each_other_s_rewards_and_values_negative():
    # The first player moves at 0 and 2, and wins with the third move: that is the second player's loss.
    reward, value = row(0, 0, 0, 1), row(0.1, 0.2, 0.3, 0.0)
    tail = EpisodeTail(row(3, 2, 1, 0, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool))
    assert n_step_return(reward, value, tail, 10, 1.0, players=2).tolist() == [[1, -1, 1, 0]]
    short = n_step_return(reward, value, tail, 1, 1.0, players=2)
    torch.testing.assert_close(short, row(-0.2, -0.3, 1.0, 0.0))


def test_a_target_needs_a_step():
    zero = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="at least 1"):
        n_step_return(zero, zero, EpisodeTail(zero.long(), zero.bool()), 0, 1.0)


@given(FLAGS, st.integers(1, 12), st.sampled_from([1, 2]))
def test_targets_are_what_a_walk_along_the_episode_gives(flags, n, players):
    is_init, terminated, valid = (row(*column, dtype=torch.bool) for column in zip(*flags, strict=True))
    length, discount = len(flags), 0.9
    generator = torch.Generator().manual_seed(length)
    reward, value = torch.randn(2, 1, length, generator=generator, dtype=torch.float64)
    tail = episode_tail(is_init, terminated, valid)
    found = n_step_return(reward, value, tail, n, discount, players)
    for start in range(length):
        at, total, factor = start, 0.0, 1.0
        while at + 1 < length and at - start < n and not is_init[0, at + 1] and valid[0, at] and valid[0, at + 1]:
            at += 1
            total += factor * float(reward[0, at])
            factor *= discount * (-1 if players == 2 else 1)
        goes_on = at + 1 < length and not is_init[0, at + 1] and bool(valid[0, at] and valid[0, at + 1])
        if goes_on or not terminated[0, at]:
            total += factor * float(value[0, at])
        assert float(found[0, start]) == pytest.approx(total)


@given(st.integers(1, 3), st.integers(0, 5))
def test_scaled_states_span_zero_to_one(event_dims, seed):
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    for guard in ("add", "floor", "none"):
        y = min_max_scale(x, event_dims, guard, 1e-8).flatten(-event_dims)
        torch.testing.assert_close(y.amin(-1), torch.zeros_like(y[..., 0]))
        torch.testing.assert_close(y.amax(-1), torch.ones_like(y[..., 0]))
        torch.testing.assert_close(min_max_scale(3 * x + 2, event_dims, guard, 1e-8).flatten(-event_dims), y)


def test_a_flat_state_stays_finite_where_it_is_guarded():
    flat = torch.ones(2, 3)
    assert min_max_scale(flat).tolist() == [[0, 0, 0]] * 2
    assert min_max_scale(flat, guard="floor", eps=1e-8).tolist() == [[0, 0, 0]] * 2
    assert min_max_scale(flat, guard="none").isnan().all()


def test_a_scaled_gradient_leaves_the_value_alone():
    x = torch.randn(5, requires_grad=True)
    y = scale_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, 0.3 * 2 * x.detach())


def test_directions_agree_at_minus_one():
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    torch.testing.assert_close(negative_cosine(x, 2 * x), -torch.ones(2))
    torch.testing.assert_close(negative_cosine(x, x.flip(-1)), torch.tensor([-0.96, 0.0]))
