"""Transitions and arrivals: the translation between TorchRL's time and the papers'."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional.arrival import arrival_index, gather_arrivals, gather_causes, previous_action


def stream(done, start=0):
    """A stream of episodes as transitions: each observation is a number of its own, each action too."""
    here, following, action = [], [], []
    name = start
    for ended in done:
        here.append(name)
        following.append(name + 1)
        action.append(1000 + name)
        name += 2 if ended else 1
    return (torch.tensor([values], dtype=torch.float32) for values in (here, following, action))


def arrivals_by_hand(done):
    """(observation, action that led to it or None), one after the other."""
    here, following, action = (values[0].tolist() for values in stream(done))
    result, cause = [], None
    for t, ended in enumerate(done):
        result.append((here[t], cause))
        cause = action[t]
        if ended or t == len(done) - 1:
            result.append((following[t], cause))
            cause = None
    return result


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_arrivals_are_what_a_person_would_write_down(done):
    here, following, action = stream(done)
    index = arrival_index(torch.tensor([done]))
    expected = arrivals_by_hand(done)[: len(done) + 1]
    seen = gather_arrivals(index, here, following)
    causes = gather_causes(index, action)
    assert seen.tolist() == [[observation for observation, _ in expected]]
    assert causes.tolist() == [[0.0 if cause is None else cause for _, cause in expected]]


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_rows_are_translated_each_on_its_own(done):
    whole = arrival_index(torch.tensor(done))
    for row, flags in enumerate(done):
        alone = arrival_index(torch.tensor([flags]))
        assert torch.equal(whole.source[row], alone.source[0]) and torch.equal(whole.is_next[row], alone.is_next[0])


def test_an_uninterrupted_sequence_is_shifted_by_one():
    action = torch.randn(2, 4, 3)
    index = arrival_index(torch.zeros(2, 4, dtype=torch.bool))
    causes = gather_causes(index, action)
    assert not causes[:, 0].any()
    assert torch.equal(causes[:, 1:], action)
    assert torch.equal(previous_action(action), causes[:, :-1])


def test_any_event_shape_and_dtype_passes():
    index = arrival_index(torch.tensor([[False, True, False]]))
    for shape, dtype in (((), torch.int64), ((1,), torch.bool), ((4, 4, 3), torch.uint8)):
        values = torch.ones(1, 3, *shape).to(dtype)
        for result in (gather_arrivals(index, values, values), gather_causes(index, values)):
            assert result.shape == (1, 4, *shape) and result.dtype is dtype


def test_previous_action_keeps_dtype_and_forgets_the_last():
    action = torch.tensor([[3, 1, 2]])
    assert previous_action(action).tolist() == [[0, 3, 1]]
