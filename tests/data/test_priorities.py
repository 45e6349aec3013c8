"""Sampling by priority: the tree is a running sum, the sampler draws in proportion, and resumes to the bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import Composite, Unbounded
from torchrl.data.replay_buffers import ReplayBuffer

from wmcomponents.data import Priorities, make_replay
from wmcomponents.data.priorities import PrioritizedSequenceSampler
from wmcomponents.data.sum_tree import SumTree


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(0, 2**31))
def test_the_tree_finds_what_a_running_sum_finds(numbers, seed):
    tree, values = SumTree(len(numbers)), torch.tensor(numbers, dtype=torch.float64)
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    for some in order.split(3):
        tree.set(some, values[some])
    assert tree.total == values.sum() and torch.equal(tree.values, values) and torch.equal(tree[order], values[order])
    if tree.total > 0:
        mass = torch.linspace(0, 1, 50, dtype=torch.float64)[:-1] * values.sum()
        assert torch.equal(tree.find(mass), torch.searchsorted(values.cumsum(0), mass, right=True))
        last = int(torch.nonzero(values)[-1])
        assert tree.find(values.sum()) == last and tree.find(2 * values.sum()) == last


def test_a_tree_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        SumTree(0)


def steps(numbers, streams):
    number = torch.as_tensor(numbers).reshape(-1, 1)
    if streams == 1:
        return TensorDict({"number": number.float()}, [len(number)])
    return TensorDict({"number": number.float().expand(streams, len(number), 1).clone()}, [streams, len(number)])


def buffer(streams, capacity=8, length=3, **changes):
    return make_replay(
        capacity * streams, Composite(number=Unbounded(torch.Size([1]))), sequence_length=length, batch_size=64,
        num_streams=streams, priorities=Priorities(**changes), seed=0, print_fn=None,
    )  # fmt: skip


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("writes", [[3], [1, 1, 1, 1], [5, 2], [8], [5, 2, 4, 1, 6], [3, 7, 9]])
def test_whole_sequences_of_consecutive_steps_can_be_drawn_and_no_others(streams, writes):
    replay, written = buffer(streams), 0
    for count in writes:
        ReplayBuffer.extend(replay, steps(range(written, written + count), streams))
        written += count
    held = min(written, 8)
    drawn = torch.cat([replay.sample()["number"].squeeze(-1) for _ in range(4)]).long()
    assert torch.equal(drawn[:, 1:], drawn[:, :-1] + 1)
    assert set(drawn[:, 0].tolist()) == set(range(written - held, written - 2))


@pytest.mark.parametrize("streams", [1, 2])
def test_sequences_are_drawn_in_proportion_to_the_power_of_their_priority_and_weighed_back(streams):
    replay = buffer(streams, capacity=5, alpha=0.5, beta=1.0)
    ReplayBuffer.extend(replay, steps(range(5), streams))
    batch = replay.sample()
    first = batch["number"][:, 0, 0]
    own = torch.stack([first * 3, first * 3 + 4, first * 3 + 5], 1) + 1  # whose mean is 3 first + 4
    replay.update_priority(batch["index"], own)
    batch = TensorDict.cat([replay.sample() for _ in range(100)])
    first = batch["number"][:, 0, 0].long()
    share = torch.bincount(first) / len(first)
    expected = torch.tensor([4.0, 7.0, 10.0]).sqrt()
    torch.testing.assert_close(share, expected / expected.sum(), atol=0.03, rtol=0)
    torch.testing.assert_close(batch["priority_weight"], (expected[0] / expected[first])[:, None].expand(-1, 3))


def test_the_correction_rises_to_one():
    assert [Priorities(beta=0.4, annealing=10).beta_at(draws) for draws in (0, 5, 10, 99)] == [0.4, 0.7, 1.0, 1.0]
    with pytest.raises(ValueError, match="beta"):
        Priorities(beta=2.0)


def test_steps_never_drawn_have_the_highest_priority_that_there_was():
    sampler = buffer(1).sampler
    sampler.extend(torch.arange(4))
    sampler.update_priority(torch.tensor([[0, 1, 2]]), torch.tensor([[7.0, 7.0, 7.0]]))
    sampler.extend(torch.arange(4, 6))
    assert sampler.tree.values.tolist()[:4] == pytest.approx([7**0.6, 1.0, 7**0.6, 7**0.6])


def test_a_sequence_of_which_a_step_was_overwritten_is_not_drawn_again():
    sampler = buffer(1).sampler
    sampler.extend(torch.arange(8))
    sampler.extend(torch.arange(1))
    sampler.update_priority(torch.tensor([[0, 1, 2], [7, 0, 1], [1, 2, 3]]), torch.full((3, 3), 9.0))
    assert (sampler.tree.values > 0).tolist() == [False, True, True, True, True, True, True, False]


def test_a_priority_that_is_no_number_is_refused():
    sampler = buffer(1).sampler
    with pytest.raises(ValueError, match="finite"):
        sampler.update_priority(torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, float("nan"), 1.0]]))


def test_a_sampler_goes_on_where_its_state_was_taken(tmp_path):
    one, other = buffer(2, annealing=5), buffer(2, annealing=5)
    for replay in (one, other):
        ReplayBuffer.extend(replay, steps(range(8), 2))
    batch = one.sample()
    one.update_priority(batch["index"], batch["number"].squeeze(-1))
    one.sampler.dumps(tmp_path)
    other.sampler.loads(tmp_path)
    other.set_rng(torch.Generator().set_state(one._rng.get_state()))
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(one.sample().values(), other.sample().values(), strict=True))
    with pytest.raises(ValueError, match="room"):
        PrioritizedSequenceSampler(3, 9).load_state_dict(one.sampler.state_dict())
