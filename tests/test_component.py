"""The TensorDict layer of every part; every export is held to it in tests/contract/test_components.py."""

import pytest
import torch
from tensordict import TensorDict

from wmcomponents.component import Component


class Adds(Component):
    def __init__(self, in_keys=("a", "b"), out_keys=("sum",), optional_keys=("b",)):
        super().__init__(in_keys, out_keys, optional_keys)

    def compute(self, a, b=None):
        return a.clone() if b is None else a + b


class Both(Component):
    def __init__(self, out_keys=("x", ("deep", "y"))):
        super().__init__(["a"], out_keys)

    def compute(self, a):
        return a + 1, a + 2


def test_it_reads_computes_and_writes_into_the_same_tensordict():
    td = TensorDict(a=torch.ones(3), b=torch.ones(3))
    assert Adds()(td) is td and td["sum"].tolist() == [2.0] * 3


def test_tensors_in_tensors_out():
    assert Adds()(torch.ones(2), torch.ones(2)).tolist() == [2.0, 2.0]
    assert Adds()(a=torch.ones(2), b=torch.ones(2)).tolist() == [2.0, 2.0]
    x, y = Both()(a=torch.zeros(1))
    assert (x.item(), y.item()) == (1.0, 2.0)


def test_an_optional_key_may_be_absent():
    assert Adds()(TensorDict(a=torch.ones(3)))["sum"].tolist() == [1.0] * 3


def test_a_missing_key_is_named_with_those_that_are_there():
    with pytest.raises(KeyError, match=r"Adds reads 'a'.*keys there: \['c'\].*Rename"):
        Adds()(TensorDict(c=torch.ones(3)))


def test_nested_keys_are_read_and_written():
    part = Adds(in_keys=(("obs", "left"), ("obs", "right")), out_keys=(("out", "sum"),), optional_keys=())
    td = part(TensorDict(obs=TensorDict(left=torch.ones(2), right=torch.ones(2))))
    assert td["out", "sum"].tolist() == [2.0, 2.0]


def test_selected_out_keys_are_all_that_is_written():
    part = Both().select_out_keys(("deep", "y"))
    td = part(TensorDict(a=torch.zeros(1)))
    assert set(td.keys(True, True)) == {"a", ("deep", "y")}
    part.reset_out_keys()
    assert "x" in part(TensorDict(a=torch.zeros(1))).keys()


@pytest.mark.parametrize("keys", [{"in_keys": ("a", "a")}, {"out_keys": ("x", "x")}])
def test_keys_must_be_distinct(keys):
    with pytest.raises(ValueError, match="distinct"):
        Adds(**{"in_keys": ("a", "b"), "out_keys": ("sum",)} | keys)


def test_optional_keys_must_be_read_at_all():
    with pytest.raises(ValueError, match="optional_keys"):
        Adds(optional_keys=("z",))


def test_too_few_results_are_an_error():
    with pytest.raises(ValueError):
        Both(out_keys=("x",))(TensorDict(a=torch.zeros(1)))
