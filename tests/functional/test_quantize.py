"""Images of few bits, against PlaNet's code and by their laws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden_vectors import load
from wmcomponents.codecs import QuantizedUnitNormal, UnitNormal
from wmcomponents.functional import dequantized, quantized


def test_both_ways_agree_with_planets_code():
    info, tensors = load("planet_preprocess")
    seen = dequantized(tensors["in/image"], tensors["in/uniform01"])
    torch.testing.assert_close(seen - 0.5, tensors["out/preprocessed"], **info["tolerance"])
    shown = quantized(tensors["out/preprocessed"] + 0.5).to(torch.uint8)
    assert torch.equal(shown, tensors["out/postprocessed_uint8"])


@given(st.integers(1, 8), st.floats(0.0, 1.0, exclude_max=True, width=16))
def test_noise_never_leaves_the_level(bits, noise):
    pixels = torch.arange(256, dtype=torch.uint8)
    seen = dequantized(pixels, torch.full((256,), noise), bits)
    width = 2 ** (8 - bits)
    assert torch.equal(quantized(seen, bits), (pixels // width * width).float())
    assert seen.min() >= 0.0 and seen.max() < 1.0


def test_without_noise_the_middle_of_the_level_is_seen():
    assert dequantized(torch.tensor([0, 7, 8, 255], dtype=torch.uint8)).tolist() == [1 / 64, 1 / 64, 3 / 64, 63 / 64]


def test_a_quantised_normal_shows_levels_and_judges_any_number():
    likelihood, plain = QuantizedUnitNormal(), UnitNormal(offset=0.5)
    raw, target = torch.tensor([[-0.9, -0.1, 0.3, 0.9]]), torch.rand(1, 4)
    shown = likelihood.mean(raw) * 255.0
    assert shown.round().tolist() == [[0.0, 96.0, 200.0, 255.0]]
    assert torch.equal(likelihood.error(raw, target), plain.error(raw, target))
    assert likelihood.error(raw, target).item() == pytest.approx(
        (0.5 * (raw + 0.5 - target).square() + 0.918938533).sum().item()
    )
