"""Eval mode while a module is used, and not a moment longer."""

import pytest
from torch import nn

from wmcomponents.nn.mode import EvalMode


def modes(module):
    return [part.training for part in module.modules()]


@pytest.fixture
def frozen_in_part():
    return nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Linear(2, 2)))


def test_every_part_returns_to_its_own_mode(frozen_in_part):
    before = modes(frozen_in_part)
    assert True in before and False in before
    with EvalMode(frozen_in_part):
        assert not any(modes(frozen_in_part))
    assert modes(frozen_in_part) == before


def test_a_mode_holds_within_a_mode_and_through_errors(frozen_in_part):
    before, mode = modes(frozen_in_part), EvalMode(frozen_in_part)
    with pytest.raises(KeyError), mode:
        with mode:
            assert not any(modes(frozen_in_part))
        assert not any(modes(frozen_in_part))
        raise KeyError
    assert modes(frozen_in_part) == before


def test_the_mode_is_looked_at_each_time(frozen_in_part):
    mode = EvalMode(frozen_in_part)
    frozen_in_part.eval()
    with mode:
        pass
    assert not any(modes(frozen_in_part))
    frozen_in_part.train()
    with mode:
        assert not any(modes(frozen_in_part))
    assert all(modes(frozen_in_part))
