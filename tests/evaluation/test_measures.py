"""Errors of places that move, by hand."""

import pytest
import torch
from torchrl.data import Bounded, OneHot, Unbounded

from wmcomponents.codecs import codec_from_spec
from wmcomponents.evaluation.measures import measure_of


def test_the_moving_error_of_an_image_is_that_of_the_pixels_that_changed():
    measure = measure_of(codec_from_spec(Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)))
    last = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    truth = last.clone()
    truth[0, 3, 4] = 255  # one pixel appears in row 0; nothing moves in row 1
    shown = last.clone()
    shown[:, 9, 9] = 255  # an error elsewhere does not count here
    assert measure.moving_error(shown, truth, last)[0] == 1.0
    assert measure.moving_error(truth, truth, last)[0] == 0.0
    assert bool(measure.moving_error(shown, truth, last)[1].isnan())
    assert measure.error(shown, truth)[0] == pytest.approx(2 / 256)


def test_the_moving_error_of_a_board_is_the_share_of_changed_cells_shown_wrong():
    measure = measure_of(codec_from_spec(Bounded(0, 1, (5, 5, 2), dtype=torch.bool)))
    last = torch.zeros(1, 5, 5, 2, dtype=torch.bool)
    truth = last.clone()
    truth[0, 0, 0, 0] = truth[0, 1, 1, 1] = True
    shown = last.clone()
    shown[0, 0, 0, 0] = shown[0, 4, 4, 0] = True
    assert measure.moving_error(shown, truth, last)[0] == 0.5
    assert measure.moving_error(last, truth, last)[0] == 1.0


def test_vectors_have_no_places():
    one = torch.zeros(1, 3)
    assert measure_of(codec_from_spec(Unbounded(3))).moving_error(one, one, one) is None


def test_several_dreams_together_show_the_mean_and_of_symbols_what_most_show():
    numbers = measure_of(codec_from_spec(Unbounded(2)))
    assert numbers.average(torch.tensor([[[0.0, 2.0], [1.0, 4.0]]])).tolist() == [[0.5, 3.0]]
    board = measure_of(codec_from_spec(Bounded(0, 1, (1, 1, 2), dtype=torch.bool)))
    seen = torch.tensor([[True, False], [True, True], [False, False]]).reshape(1, 3, 1, 1, 2)
    assert board.average(seen).flatten().tolist() == [True, False]
    category = measure_of(codec_from_spec(OneHot(3)))
    assert category.average(torch.eye(3).long()[[1, 2, 2]][None]).tolist() == [[0, 0, 1]]
