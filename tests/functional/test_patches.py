"""Images as rows of patches: laws and refusals; MAE's own numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.functional import (
    grid_coordinates,
    patch_grid,
    patchify,
    resample_grid,
    sincos_grid,
    take_tokens,
    unpatchify,
)

SIDES = st.integers(1, 4)


def test_patches_are_maes():
    info, tensors = load("mae_masking_loss")
    close(info, patchify(tensors["in.img"], info["config"]["patch"]), tensors["out.patches"])


@given(rows=SIDES, columns=SIDES, patch=SIDES, channels=SIDES)
def test_patches_put_together_are_the_image(rows, columns, patch, channels):
    image = torch.randn(2, 3, channels, rows * patch, columns * patch)
    patches = patchify(image, patch)
    assert patches.shape == (2, 3, rows * columns, patch**2 * channels)
    assert torch.equal(unpatchify(patches, patch, (rows, columns)), image)


def test_tokens_are_taken_row_by_row():
    tokens = torch.arange(12.0).view(2, 3, 2)
    taken = take_tokens(tokens, torch.tensor([[2, 0], [1, 1]]))
    assert taken.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_the_last_axis_runs_first():
    assert grid_coordinates((1, 2, 2)).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


def test_the_first_channels_are_those_of_the_first_axis_named():
    column_first = sincos_grid((2, 3), (4, 4), order=(1, 0))
    assert torch.equal(column_first[0, :4], column_first[3, :4]) and torch.equal(
        column_first[0, 4:], column_first[2, 4:]
    )
    assert torch.equal(sincos_grid((2, 3), (4, 4))[:, :4], column_first[:, 4:])


@given(st.integers(2, 5), st.integers(2, 5))
def test_a_table_on_its_own_grid_is_itself_and_a_constant_one_stays_constant(rows, columns):
    table = torch.randn(rows * columns, 3)
    assert resample_grid(table, (rows, columns), (rows, columns)) is table
    for options in ({}, {"antialias": True}, {"offset": 0.1}):
        flat = resample_grid(torch.ones(rows * columns, 3), (rows, columns), (3, 6), **options)
        torch.testing.assert_close(flat, torch.ones(18, 3))
    assert resample_grid(torch.ones(rows * columns, 3), (1, rows, columns), (2, 3, 3)).shape == (18, 3)


@pytest.mark.parametrize(
    "size,patch,words",
    [
        ((15, 16), (8, 8), "do not fill.*pixels do not come out"),
        ((4, 16), (8, 8), "do not fill"),
        ((3, 16, 16), (2, 8, 8), "frames do not come out"),
        ((1, 16, 16), (2, 8, 8), "frames do not come out"),
        ((16, 16), (2, 8, 8), "3 axes"),
        ((16, 16), (0, 8), "do not fill"),
    ],
)
def test_what_patches_do_not_fill_is_refused_with_a_remedy(size, patch, words):
    with pytest.raises(ValueError, match=words):
        patch_grid(size, patch)


def test_tables_and_vectors_of_other_grids_are_refused():
    with pytest.raises(ValueError, match="none for the grid"):
        resample_grid(torch.zeros(6, 2), (2, 3), (1, 2, 3))
    with pytest.raises(ValueError, match="none for the grid"):
        resample_grid(torch.zeros(5, 2), (2, 3), (2, 2))
    with pytest.raises(ValueError, match="a grid of 2 x 2"):
        unpatchify(torch.zeros(3, 12), 2, (2, 2))
    with pytest.raises(ValueError, match="each axis once"):
        sincos_grid((2, 2), (4, 4), order=(0, 0))
    with pytest.raises(ValueError, match="pairs"):
        sincos_grid((2, 2), (3, 4))
