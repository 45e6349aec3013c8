"""Transformers over films: no frame sees those behind it, and one more frame is read as the end of the whole film."""

import pytest
import torch
from torch import nn

from wmcomponents.nn import (
    LearnedFilmPositions,
    NoFilmPositions,
    SinusoidalFilmPositions,
    STTransformer,
    alibi_slopes,
    genie_block,
    genieredux_block,
    jasmine_block,
    onexgpt_block,
    onexgpt_pre_norm_block,
)

FRAMES, GRID, DIM = 4, (2, 3), 8
BLOCKS = {
    "genie": lambda: genie_block(DIM, 2, 16),
    "jasmine": lambda: jasmine_block(DIM, 2, 16, head_dim=6),
    "1xgpt": lambda: onexgpt_block(DIM, 2, 16),
    "1xgpt-pre-norm": lambda: onexgpt_pre_norm_block(DIM, 2, 16, bias=True),
    "genieredux": lambda: genieredux_block(DIM, 2, 16, GRID, 4),
    "genieredux-time-first": lambda: genieredux_block(DIM, 2, 16, GRID, 4, order="time-space"),
}


def transformer(name: str) -> STTransformer:
    torch.manual_seed(0)
    positions = (NoFilmPositions if "redux" in name else LearnedFilmPositions)(
        *((FRAMES, 6) if "redux" in name else (FRAMES, 6, DIM))
    )
    net = STTransformer(nn.Linear(3, DIM), positions, [BLOCKS[name]() for _ in range(2)], nn.Linear(DIM, 5))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net


@pytest.mark.parametrize("name", BLOCKS)
def test_no_frame_sees_those_behind_it_and_all_tokens_of_a_frame_see_each_other(name):
    net = transformer(name)
    x = torch.randn(2, FRAMES, 6, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(net(x)[0, 2, 4].sum(), x)
    moved = grad.abs().sum(-1)
    assert bool((moved[0, :3] > 0).all()) and not moved[0, 3:].any() and not moved[1].any()


@pytest.mark.parametrize("name", BLOCKS)
def test_one_more_frame_is_read_as_the_end_of_the_whole_film_in_rows_of_any_age(name):
    net = transformer(name)
    x = torch.randn(3, FRAMES, 6, 3)
    place = torch.tensor([[0], [2], [3]])
    given = x[:, :-1].clone()
    for row, age in enumerate(place.flatten().tolist()):
        given[row, age:] = 1e3  # what is no frame of this row's past is not looked at
    new = x[torch.arange(3), place.flatten()]
    out = net.follow(new, net.remember(given), place)
    for row, age in enumerate(place.flatten().tolist()):
        torch.testing.assert_close(out[row], net(x[row : row + 1])[0, age], atol=2e-5, rtol=1e-4)


def test_films_of_other_sizes_are_refused():
    positions = SinusoidalFilmPositions(3, 2, 4)
    for film in (torch.zeros(1, 4, 2, 4), torch.zeros(1, 3, 5, 4)):
        with pytest.raises(ValueError, match="up to 3 frames of 2 tokens; got"):
            positions(film)
    with pytest.raises(ValueError, match="come in pairs"):
        SinusoidalFilmPositions(3, 2, 5)


def test_slopes_of_heads_that_are_no_power_of_two_lie_between():
    torch.testing.assert_close(alibi_slopes(3), torch.tensor([2**-4.0, 2**-8.0, 2**-2.0]))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_past_that_grew_frame_by_frame_is_that_of_the_whole_film(name):
    net = transformer(name)
    x = torch.randn(2, FRAMES, 6, 3)
    whole = net.pack(net.remember(x))
    assert len(whole) == (2 if "redux" not in name else 6) and all(piece.shape[:3] == (2, FRAMES, 6) for piece in whole)
    grown = [torch.full_like(piece, 1e3) for piece in whole]  # what is not there yet is not looked at
    for frame in range(FRAMES):
        own = net.extend(x[:, frame], net.unpack(grown), torch.full((2, 1), frame))
        for piece, new in zip(grown, own, strict=True):
            piece[:, frame] = new
    for piece, truth in zip(grown, whole, strict=True):
        torch.testing.assert_close(piece, truth, rtol=1e-4, atol=1e-4)
    place = torch.full((2, 1), FRAMES - 1)
    kept = net.unpack([piece[:, :-1] for piece in grown])
    torch.testing.assert_close(net.follow(x[:, -1], kept, place), net(x)[:, -1], rtol=1e-4, atol=1e-4)
