import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.worlds import Counter, counting_sequences, point_mass_sequences, transitions
from wmcomponents.evaluation import (
    Reel,
    compare,
    comparison_reels,
    filmstrip,
    horizon_errors,
    horizon_figure,
    outcomes,
    side_by_side,
    strip,
)
from wmcomponents.rendering import make_renderer
from wmcomponents.testing.toy import ToyWorldModel

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


def image(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def toy(size=2, parts=("decode", "reward", "continue")):
    spec = Composite(observation=Unbounded(size))
    return ToyWorldModel(spec, Bounded(-1, 1, torch.Size([1])), parts=parts)


@pytest.mark.parametrize("parts", [("decode", "reward", "continue"), ("decode",), ("reward",), ("continue",)])
def test_the_figure_draws_whatever_the_model_can_do(tmp_path, parts):
    model, sequences = toy(parts=parts), point_mass_sequences(batch=10)
    generator = torch.Generator().manual_seed(0)
    errors = horizon_errors(model, sequences, burn_in=3, horizon=6, generator=generator)
    comparison = compare(model, sequences[0], burn_in=3, horizon=6, samples=4, generator=generator)
    drawn = image(horizon_figure(errors, comparison, tmp_path / "new" / "figure.png", title="A title"))
    assert drawn.shape[1] > 1000 and drawn.std() > 10
    assert (tmp_path / "new" / "figure.png").stat().st_size < 2_000_000


def test_the_figure_draws_data_in_which_nothing_varies_and_every_episode_ends(tmp_path):
    sequences = counting_sequences(end_of_first=2)[:1]
    sequences["next", "reward"] = torch.ones(1, 8, 1)
    errors = horizon_errors(Counter(), sequences, burn_in=2, horizon=5)
    comparison = compare(Counter(), sequences[0], burn_in=2, horizon=5)
    assert horizon_figure(errors, comparison, tmp_path / "figure.png", env_id="CartPole-v1").is_file()


def images(batch=2, time=8):
    pixels = torch.randint(0, 256, (batch, time, 16, 16, 3), dtype=torch.uint8)
    action = torch.nn.functional.one_hot(torch.zeros(batch, time).long(), 2)
    sequences = transitions({"pixels": pixels}, {"pixels": pixels}, action, torch.randn(batch, time, 1))
    return ToyWorldModel(
        Composite(pixels=Bounded(0, 255, torch.Size([16, 16, 3]), dtype=torch.uint8)), OneHot(2)
    ), sequences


def test_images_are_overlaid_by_what_they_brought(tmp_path):
    model, sequences = images()
    errors = horizon_errors(model, sequences, burn_in=2, horizon=4)
    comparison = compare(model, sequences[0], burn_in=2, horizon=4)
    assert horizon_figure(errors, comparison, tmp_path / "figure.png").is_file()


def test_a_filmstrip_has_reality_above_the_dream(tmp_path):
    model, sequences = images()
    comparison = compare(model, sequences[0], burn_in=2, horizon=4)
    wide = image(filmstrip(comparison, make_renderer(None), tmp_path / "strip.png", columns=5, title="A title"))
    assert wide.shape[1] > wide.shape[0]
    assert (tmp_path / "strip.png").stat().st_size < 2_000_000


def test_under_the_frames_of_a_strip_stand_return_and_end():
    assert outcomes([1.0, 0.5, 2.0], [0, 2, 3]) == ["return 0", "return 1.5", "return 3.5"]
    assert outcomes(None, [0, 2], chances=[0.1, 0.25]) == ["", "P(end) 25 %"]
    ended = outcomes([1.0, 0.5, 2.0], [0, 1, 3], 2, [0.1, 0.9, 0.9])
    assert ended == ["return 0", "return 1\nP(end) 10 %", "return 1.5\nterminated"]  # it is over, and earns no more


def test_notes_make_room_for_themselves(tmp_path):
    frames = [np.zeros((8, 8, 3), dtype=np.uint8)] * 3
    plain = image(strip({"a": frames}, tmp_path / "plain.png"))
    noted = image(strip({"a": frames}, tmp_path / "noted.png", notes={"a": ["one", "one\ntwo", ""]}))
    assert noted.shape[0] > plain.shape[0]


def test_a_strip_of_rows_of_different_length_is_refused(tmp_path):
    frame = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="one, positive length"):
        strip({"a": [frame], "b": [frame, frame]}, tmp_path / "strip.png")
    with pytest.raises(ValueError, match="one, positive length"):
        strip({"a": []}, tmp_path / "strip.png")


def test_a_model_without_a_decoder_cannot_be_filmed(tmp_path):
    comparison = compare(toy(parts=("reward",)), point_mass_sequences()[0], burn_in=2, horizon=3)
    with pytest.raises(ValueError, match="no decoder"):
        filmstrip(comparison, make_renderer(None), tmp_path / "strip.png")
    with pytest.raises(ValueError, match="no decoder"):
        comparison_reels(comparison, make_renderer(None))


def test_the_film_of_a_dream_that_ends_stands_still():
    comparison = compare(Counter(cont=0.1), counting_sequences()[0], burn_in=2, horizon=4)
    reality, dream = comparison_reels(comparison, make_renderer(None))
    assert (len(reality.frames), len(dream.frames), dream.ended) == (5, 2, 1)
    pages = side_by_side([reality, dream])
    assert len(pages) == 5
    half = pages[0].shape[1] // 2 + 10
    assert (pages[2][40:, half:] == pages[4][40:, half:]).all()  # but for the clock in the header


def reels(steps=12, height=40, width=60):
    frames = [np.full((height, width, 3), 20 * k, dtype=np.uint8) for k in range(steps + 1)]
    return [
        Reel("reality", frames, [1.0] * steps, ended=steps),
        Reel("dream", frames[:-3], [0.5] * (steps - 3), [0.1] * (steps - 3)),
    ]


def test_pages_have_one_even_size_and_change_over_time():
    pages = side_by_side(reels(), caption="same start")
    assert len(pages) == 13
    assert len({page.shape for page in pages}) == 1
    assert pages[0].shape[0] % 2 == pages[0].shape[1] % 2 == 0
    assert not (pages[0] == pages[5]).all()


def test_a_panel_needs_neither_reward_nor_chances():
    frame = np.zeros((300, 200, 3), dtype=np.uint8)
    assert len(side_by_side([Reel("dream", [frame, frame])])) == 2
    with pytest.raises(ValueError, match="at least one panel"):
        side_by_side([])
    with pytest.raises(ValueError, match="at least one frame"):
        side_by_side([Reel("dream", [])])
