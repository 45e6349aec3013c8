"""Actions as vectors."""

import pytest
import torch
from torchrl.data import Binary, Bounded, Categorical, MultiCategorical, MultiOneHot, NonTensor, OneHot, Unbounded

from wmcomponents.codecs.action import ActionVector


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (OneHot(4), 4),
        (Categorical(4), 4),
        (MultiOneHot((2, 3)), 5),
        (MultiCategorical((2, 3)), 5),
        (Binary(3), 3),
        (Bounded(-2.0, 2.0, (3,)), 3),
        (Bounded(-2.0, 2.0, (2, 3)), 6),
        (Unbounded(3), 3),
        (Bounded(0, 5, (2,), dtype=torch.int64), 2),
        (Bounded(-1.0, 1.0, (2,), dtype=torch.float64), 2),
    ],
)
def test_every_kind_of_action_becomes_a_float_vector(spec, size, lead):
    vector = ActionVector(spec)
    out = vector(spec.expand(*lead, *spec.shape).rand())
    assert vector.size == size and out.shape == (*lead, size) and out.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_are_mapped_onto_minus_one_and_one(dtype):
    low, high = torch.tensor([-2.0, 0.0], dtype=dtype), torch.tensor([2.0, 10.0], dtype=dtype)
    vector = ActionVector(Bounded(low, high, (2,), dtype=dtype))
    assert vector(torch.stack([low, high, (low + high) / 2])).tolist() == [[-1, -1], [1, 1], [0, 0]]


def test_choices_become_one_hot():
    assert ActionVector(Categorical(3))(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert ActionVector(OneHot(3))(torch.tensor([0, 1, 0])).tolist() == [0, 1, 0]


def test_a_number_without_finite_bounds_passes_beside_one_with():
    low, high = torch.tensor([0.0, -torch.inf, 1.0]), torch.tensor([4.0, torch.inf, 1.0])
    assert ActionVector(Bounded(low, high, (3,)))(torch.tensor([0.0, 7.0, 1.0])).tolist() == [-1.0, 7.0, 1.0]


def test_huge_bounds_count_as_none():
    assert ActionVector(Bounded(-1e30, 1e30, (1,)))(torch.tensor([5.0])).tolist() == [5.0]


def test_nothing_is_added_to_the_state_dict():
    assert not ActionVector(Bounded(-2.0, 2.0, (3,))).state_dict()


def test_an_action_that_cannot_be_encoded_is_named():
    with pytest.raises(ValueError, match="Action: "):
        ActionVector(NonTensor(()))
