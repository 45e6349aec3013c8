"""Target networks and running averages: what follows, when, and by how much."""

import copy

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from wmcomponents.objectives import ExponentialAverage, PeriodicCopy, copy_weights


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def moved(module):
    """A twin whose every number differs, counts included."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for value in (*twin.parameters(), *twin.buffers()):
            value.add_(1)
    return twin


@pytest.mark.parametrize("as_dict", [False, True], ids=["module", "tensordict"])
def test_a_copy_comes_after_every_interval_of_updates_and_takes_counts_along(as_dict):
    source, target = network(), moved(network())
    pair = [TensorDict.from_module(m) for m in (target, source)] if as_dict else [target, source]
    rule, equal = PeriodicCopy(3), []
    for step in range(7):
        rule.update(*pair, step)
        equal.append(all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items()))
        target.load_state_dict(moved(network()).state_dict())
    assert equal == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("as_dict", [False, True], ids=["module", "tensordict"])
def test_an_average_moves_by_its_share_and_copies_what_cannot_be_averaged(as_dict):
    source, target = network(), moved(network())
    before = {key: value.clone() for key, value in target.state_dict().items()}
    pair = [TensorDict.from_module(m) for m in (target, source)] if as_dict else [target, source]
    ExponentialAverage(0.25).update(*pair, 0)
    for key, value in source.state_dict().items():
        after = target.state_dict()[key]
        expected = value if key.endswith("num_batches_tracked") else torch.lerp(before[key], value, 0.25)
        assert torch.equal(after, expected), key


def test_a_schedule_tells_the_share_of_each_update():
    """A momentum that rises linearly from 0.996 to 1, as in joint-embedding prediction: the target comes to rest."""
    rule = ExponentialAverage(lambda step: 1.0 - (0.996 + 0.004 * min(step / 100, 1.0)))
    assert rule.share(0) == pytest.approx(0.004) and rule.share(50) == pytest.approx(0.002)
    assert rule.share(100) == rule.share(1000) == 0.0
    source, target = network(), moved(network())
    before = copy.deepcopy(target)
    rule.update(target, source, 100)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), before.parameters(), strict=True))
    rule.update(target, source, 0)
    assert not any(torch.equal(a, b) for a, b in zip(target.parameters(), before.parameters(), strict=True))


def test_a_blend_changes_neither_the_average_nor_the_value():
    average, value = torch.tensor([0.0, 2.0]), torch.tensor([4.0, 2.0])
    assert ExponentialAverage(0.25).blend(average, value).tolist() == [1.0, 2.0]
    assert average.tolist() == [0.0, 2.0] and value.tolist() == [4.0, 2.0]


def test_a_target_keeps_no_graph_of_the_network():
    source, target = network(), moved(network())
    for update in (ExponentialAverage(0.5).update, PeriodicCopy(1).update):
        update(target, source, 0)
        assert all(p.grad_fn is None and p.is_leaf for p in target.parameters())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused_when_it_is_given_or_scheduled(share):
    with pytest.raises(ValueError, match=r"in \[0, 1\]; got"):
        ExponentialAverage(share)
    with pytest.raises(ValueError, match=r"in \[0, 1\]; got"):
        ExponentialAverage(lambda step: share).share(0)


def test_an_interval_of_no_updates_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        PeriodicCopy(0)


def test_networks_of_other_names_are_refused_by_the_names():
    with pytest.raises(ValueError, match=r"1\.bias, 1\.num_batches_tracked, 1\.running_mean \.\.\. are in one"):
        copy_weights(network(), network()[:1])
