"""PSNR of a film's tokenizer, what actions add to the PSNR of dreams, and bits that one choice tells of another."""

import pytest
import torch
from torchrl.data import OneHot

from tests.support.models import FILM, GENIE, SMALL, film_world
from tests.support.small_films import film
from wmcomponents.evaluation import compare, delta_psnr, open_loop, tokenizer_psnr
from wmcomponents.evaluation.metrics import entropy_bits, mutual_information, psnr
from wmcomponents.models import Genie, GenieConfig, GenieReduxG, GenieReduxGConfig


@pytest.fixture(scope="module")
def genie():
    torch.manual_seed(0)
    return film_world(Genie(GenieConfig.tiny(**FILM, **GENIE), SMALL)).eval()


def test_delta_psnr_compares_dreams_of_the_same_noise_under_codes_told_and_random(genie):
    data = film(3, 5)
    found = delta_psnr(genie, data, at=3, seed=4)
    *_, last = open_loop(genie, data, burn_in=1, horizon=3, generator=torch.Generator().manual_seed(4))
    truth = last.transition["next", "pixels"].movedim(-1, 1) / 255
    torch.testing.assert_close(found.taken, psnr(last.observation["pixels"].movedim(-1, 1) / 255, truth))
    assert found.delta == pytest.approx(float((found.taken - found.random).mean()))
    assert not torch.equal(found.taken, found.random)


def test_where_actions_do_nothing_the_delta_is_nothing(genie):
    codes = genie.action_model.quantizer.codebook
    kept = codes.detach().clone()
    with torch.no_grad():
        codes.copy_(codes[:1].expand_as(codes))
        assert delta_psnr(genie, film(3, 5), at=2).delta == 0
        codes.copy_(kept)


def test_given_actions_are_compared_as_they_are_and_ended_episodes_are_left_out():
    torch.manual_seed(0)
    model = film_world(GenieReduxG(GenieReduxGConfig.tiny(**FILM), SMALL, OneHot(3))).eval()
    data = film(2, 7)  # the second row's episode ends with the fifth step
    assert len(delta_psnr(model, data, at=4).taken) == 2 and len(delta_psnr(model, data, at=6).taken) == 1
    with pytest.raises(ValueError, match="end within 6 steps"):
        delta_psnr(model, data[1:], at=6)


def test_what_is_shown_beside_reality_is_dreamt_under_the_codes_told(genie):
    data = film(2, 5)
    told = compare(genie, data[0], burn_in=1, horizon=3)
    data["action"] = torch.zeros(2, 5, 7)  # whatever an environment's actions look like
    again = compare(genie, data[0], burn_in=1, horizon=3)
    assert told.steps == 3 and (told.dream["pixels"] == again.dream["pixels"]).all()


def test_the_tokenizers_psnr_is_of_each_frame(genie):
    data = film(2, 7)
    found = tokenizer_psnr(genie, data)
    shown = genie.tokenizer.pixels(genie.tokenizer.tokens(data["pixels"][:, :3]))
    error = (shown.float() - data["pixels"][:, :3].float()).div(255).square().mean((2, 3, 4))
    torch.testing.assert_close(found, -10 * error.log10())


def test_bits_of_choices_by_hand():
    # The code says whether it was the first action: one bit of the one and a half that an action has.
    counts = torch.tensor([[4, 0], [0, 2], [0, 2]])
    half = torch.tensor([[1.0, 1.0], [0.0, 2.0]])  # H(b) = h(1/4) bits, H(b | a) = 1/2
    assert mutual_information(half) == pytest.approx(0.8112781 - 0.5)
    assert mutual_information(counts) == pytest.approx(1.0) and entropy_bits(counts.sum(1)) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="not all 0"):
        mutual_information(torch.zeros(2, 2))
