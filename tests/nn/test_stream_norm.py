"""Running magnitudes."""

import pytest
import torch

from tests.support.golden_vectors import load
from wmcomponents.nn import StreamNorm


def test_a_stream_agrees_with_dreamer_v2s_code_step_by_step():
    info, tensors = load("v2_stream_norm")
    norm = StreamNorm(momentum=0.99)
    for step in range(3):
        actual = norm(tensors[f"in/x{step}"])
        torch.testing.assert_close(actual, tensors[f"out/y{step}"], **info["tolerance"])


def test_a_momentum_of_one_leaves_numbers_as_they_are():
    norm, x = StreamNorm(momentum=1.0), 100 * torch.randn(5)
    for _ in range(3):
        torch.testing.assert_close(norm(x), x)


def test_the_magnitude_is_learned_in_training_only_and_travels_with_the_weights():
    norm = StreamNorm(momentum=0.5)
    norm(torch.full((4,), 9.0))
    assert norm.magnitude == 5.0
    norm.eval()
    norm(torch.full((4,), 100.0))
    assert norm.magnitude == 5.0
    fresh = StreamNorm()
    fresh.load_state_dict(norm.state_dict())
    assert fresh.magnitude == 5.0


def test_a_momentum_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]; got 1.5"):
        StreamNorm(momentum=1.5)
