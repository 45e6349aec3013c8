"""EDM's preconditioning, noise levels and bytes: golden numbers and laws."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.golden_vectors import load
from wmcomponents.functional import (
    edm_coefficients,
    edm_loss_weight,
    edm_target,
    from_bytes,
    karras_sigmas,
    log_normal_sigma,
    on_byte_grid,
    to_bytes,
    with_noise,
)

sigmas = st.floats(1e-3, 80.0)
offsets = st.sampled_from([0.0, 0.1, 0.3])
BYTES = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("offset", [0.3, 0.1, 0.0])
def test_the_coefficients_are_the_official_ones(offset):
    info, vectors = load("diamond_conditioners")
    coefficients = edm_coefficients(vectors["in/sigma"], 0.5, offset)
    for name, value in coefficients._asdict().items():
        torch.testing.assert_close(value, vectors[f"out/offset{offset:g}/{name}"], **info["tolerance"])


def test_the_schedule_is_the_official_one():
    info, vectors = load("diamond_build_sigmas")
    for name, expected in vectors.items():
        steps, low, high, rho = name.removeprefix("out/").split("_")
        ours = karras_sigmas(int(steps[1:]), float(low[3:]), float(high[3:]), float(rho[3:]))
        torch.testing.assert_close(ours, expected, **info["tolerance"])


@given(sigmas, offsets)
def test_the_input_is_brought_to_unit_variance_and_the_skip_is_wieners(sigma, offset):
    c = edm_coefficients(torch.tensor([sigma], dtype=torch.float64), 0.5, offset)
    spread = sigma**2 + offset**2
    assert float(c.c_in**2 * (spread + 0.25)) == pytest.approx(1.0)
    assert float(c.c_skip) + spread / (spread + 0.25) == pytest.approx(1.0)
    assert float(c.c_out / c.c_in) == pytest.approx(0.5 * math.sqrt(spread))
    assert float(c.c_noise) == pytest.approx(math.log(spread) / 8)


@given(sigmas, offsets)
def test_edms_weight_makes_the_error_of_d_the_error_of_f(sigma, offset):
    generator = torch.Generator().manual_seed(0)
    clean, noise, raw = torch.randn(3, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    level = torch.full((2,), sigma, dtype=torch.float64)
    c = edm_coefficients(level, 0.5, offset)
    noisy = with_noise(clean, level, noise)
    denoised = c.c_skip[0] * noisy + c.c_out[0] * raw
    weighed = edm_loss_weight(level, 0.5, offset)[0] * (denoised - clean).square()
    torch.testing.assert_close((raw - edm_target(clean, noisy, c)).square(), weighed, rtol=1e-6, atol=1e-6)


@given(st.integers(1, 60), st.floats(1e-3, 1.0), st.floats(1.5, 80.0), st.floats(1.0, 9.0))
@example(2, 0.001, 32.65024046082911, 1.0)
def test_the_schedule_falls_from_the_highest_level_over_the_lowest_to_zero(steps, low, high, rho):
    levels = karras_sigmas(steps, low, high, rho)
    assert len(levels) == steps + 1 and float(levels[-1]) == 0.0
    assert bool((levels[1:] < levels[:-1]).all())
    assert float(levels[0]) == pytest.approx(high, rel=1e-4)
    if steps > 1:
        # A line from the highest level down to the lowest: what float32 rounds at the top is still there at the bottom.
        assert float(levels[-2]) == pytest.approx(low, rel=1e-3, abs=1e-6 * high)


@pytest.mark.parametrize("steps, low, high", [(0, 0.002, 5.0), (3, 0.0, 5.0), (3, 6.0, 5.0)])
def test_a_schedule_that_cannot_be_is_refused(steps, low, high):
    with pytest.raises(ValueError, match="at least one step"):
        karras_sigmas(steps, low, high)


def test_training_levels_are_log_normal_and_clipped():
    drawn = log_normal_sigma(torch.randn(20_000, generator=torch.Generator().manual_seed(0)), -0.4, 1.2)
    assert float(drawn.log().median()) == pytest.approx(-0.4, abs=0.05)
    extreme = log_normal_sigma(torch.tensor([-100.0, 0.0, 100.0]), -0.4, 1.2, 0.002, 20.0)
    torch.testing.assert_close(extreme, torch.tensor([0.002, math.exp(-0.4), 20.0]))


def test_offset_noise_is_shared_by_the_pixels_of_a_channel():
    offset = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    noisy = with_noise(torch.zeros(2, 3, 4, 4), torch.zeros(2), torch.ones(2, 3, 4, 4), offset, 0.3)
    torch.testing.assert_close(noisy, (0.3 * offset).expand(2, 3, 4, 4))


def test_bytes_survive_the_way_to_floats_and_back():
    assert torch.equal(to_bytes(from_bytes(BYTES)), BYTES)


@given(st.lists(st.floats(-3.0, 3.0, width=32), min_size=1, max_size=30))
def test_what_is_cut_to_the_grid_lies_on_it_below_and_within_one_level(numbers):
    x = torch.tensor(numbers)
    y = on_byte_grid(x)
    assert torch.equal(from_bytes(to_bytes(y)), y)
    below = x.clamp(-1, 1) - y
    assert bool((below > -1e-6).all()) and bool((below < 2 / 255 + 1e-6).all())


def test_cutting_keeps_the_levels_but_for_sixty_three_that_fall_by_one_in_float32():
    again = to_bytes(on_byte_grid(from_bytes(BYTES))).int()
    slipping = (BYTES >= 1) & (BYTES <= 63)
    assert torch.equal(again, BYTES.int() - slipping.int())
