import pytest
import torch

from wmcomponents.functional.broadcast import aligned, keep_where


@pytest.mark.parametrize("flag", [(2, 3), (2, 3, 1)])
@pytest.mark.parametrize("event", [(), (1,), (4,), (4, 5, 2)])
def test_a_number_of_each_row_broadcasts_over_what_the_row_holds(flag, event):
    like = torch.zeros(2, 3, *event)
    assert aligned(torch.zeros(flag), like).shape == (2, 3, *(1,) * len(event))


@pytest.mark.parametrize("flag", [[True, False], [[True], [False]]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool])
def test_rows_are_kept_where_the_flag_is_true_and_zero_elsewhere(flag, dtype):
    value = torch.ones(2, 3, 1, dtype=dtype)
    kept = keep_where(value, torch.tensor(flag))
    assert kept.dtype == dtype
    assert kept[0].equal(value[0])
    assert not kept[1].any()


def test_what_is_not_kept_passes_no_gradient_not_even_of_nan():
    value = torch.tensor([[1.0], [float("nan")]], requires_grad=True)
    keep_where(value, torch.tensor([True, False])).sum().backward()
    assert value.grad is not None
    assert value.grad.flatten().tolist() == [1.0, 0.0]


def test_a_single_number_stays_one():
    assert aligned(torch.tensor(True), torch.tensor(1)).shape == ()
