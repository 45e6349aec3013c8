"""Transforms of numbers that are estimated from data."""

import pytest
import torch
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents.codecs import BoundedStandardize, ObservationGroups, Standardize
from wmcomponents.codecs.frames import Frames
from wmcomponents.codecs.normalize import vector_transform

INF = float("inf")


def test_numbers_with_bounds_are_scaled_by_these_and_others_by_their_spread():
    low, high = torch.tensor([-4.8, -INF, 0.0, -3e38]), torch.tensor([4.8, 2.0, 10.0, 3e38])
    data = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 0.1
    transform, fitted = BoundedStandardize(low, high).fit(data), Standardize(4).fit(data)
    assert transform.loc[[0, 2]].tolist() == [0.0, 5.0]
    torch.testing.assert_close(transform.scale[[0, 2]], torch.tensor([2.4, 2.5]))
    for one in ("loc", "scale"):
        torch.testing.assert_close(getattr(transform, one)[[1, 3]], getattr(fitted, one)[[1, 3]])
    torch.testing.assert_close(transform(torch.stack([low, high]))[:, [0, 2]], torch.tensor([[-2.0, -2.0], [2.0, 2.0]]))
    torch.testing.assert_close(transform.inverse(transform(data)), data)


def test_bounds_stand_in_the_order_of_the_numbers():
    box = Bounded(torch.tensor([-1.0, -INF]), torch.tensor([3.0, INF]))
    groups = ObservationGroups.from_spec(Composite(b=box, a=Unbounded(1)))
    low, high = groups.number_bounds()
    assert low.tolist() == [-INF, -1.0, -INF] and high.tolist() == [INF, 3.0, INF]
    data = {"a": torch.tensor([[5.0]]), "b": torch.tensor([[7.0, 9.0]])}
    assert groups.numbers(data).tolist() == [[5.0, 7.0, 9.0]]


def test_frames_are_scaled_by_bounds_where_asked():
    spec = Composite(observation=Bounded(-4.0, 4.0, (2,)))
    frames = Frames(spec, vector_transform("bounds", spec))
    frames.prepare({"observation": torch.tensor([[0.1, 0.0], [-0.1, 0.2]])})
    assert frames({"observation": torch.tensor([4.0, -2.0])}).tolist() == [[2.0, -1.0]]


def test_bounds_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        BoundedStandardize(torch.zeros(2), torch.zeros(3))
