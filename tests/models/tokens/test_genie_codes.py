"""How a Genie finds codes of what was done: revived, withheld, told from pairs, normalised, weighted."""

import pytest
import torch

from tests.support.models import FILM, GENIE, SMALL, film_world
from tests.support.small_films import film
from wmcomponents.models import Genie, GenieConfig
from wmcomponents.tokenizers.video import film_patches


def test_codes_that_nothing_used_become_what_is_far_from_those_that_were():
    torch.manual_seed(0)
    model = Genie(GenieConfig.tiny(**FILM, **GENIE, revival=11), SMALL)
    objective = model.objective()
    for step, revives in ((0, True), (5, False), (10, True), (20, False)):
        objective.before_update(step)
        with torch.no_grad():
            codebook = objective.world_model_params["tokenizer", "quantizer", "codebook"]
            codebook.copy_(torch.full_like(codebook, 9.0))  # all alike: the first takes everything
        before = codebook.clone()
        objective(film())
        objective.after_update(step)
        assert torch.equal(before, codebook) != revives


def test_codes_are_withheld_in_the_first_updates_of_the_second_stage():
    torch.manual_seed(0)
    model = film_world(Genie(GenieConfig.tiny(**FILM, **GENIE, tokenizer_steps=2, withheld=3, revival=1), SMALL))
    objective = model.objective()
    for step in range(2, 7):
        objective.before_update(step)
        objective.zero_grad()
        led = objective.led(objective.films(film()))
        is_withheld = step < 5
        assert bool((led.codes == 0).all()) == is_withheld
        (led.losses["action_squared"].sum() + led.losses["action_codebook"].sum()).backward()
        params = objective.world_model_params.flatten_keys(".")
        reached = any(
            bool(p.grad.abs().sum() > 0)
            for key, p in params.items()
            if "action_model.encoder" in key and p.grad is not None
        )
        assert reached != is_withheld
        with torch.no_grad():
            codebook = params["action_model.quantizer.codebook"]
            codebook.copy_(torch.full_like(codebook, 9.0))  # all alike: the first takes everything
        before = codebook.clone()
        objective.after_update(step)
        assert torch.equal(codebook, before) == (step != 5)  # unused ones are revived from there on


def test_vectors_of_actions_are_normalised_over_the_batch_and_played_by_running_statistics():
    torch.manual_seed(0)
    model = Genie(GenieConfig.tiny(**FILM, **GENIE, action_norm=True), SMALL)
    part, pixels = model.action_model, film(6, 3)["pixels"]
    patches = film_patches(pixels, part.patch)
    told = part.train().encode(patches).flatten(0, 1)
    torch.testing.assert_close(told.mean(0), torch.zeros(told.shape[-1]), atol=1e-4, rtol=0)
    assert bool((told.std(0) > 2 * part.encoder(patches)[:, 1:].flatten(0, 1).std(0)).all())
    for _ in range(200):
        part.encode(patches)
    played = part.eval().encode(patches).flatten(0, 1)
    torch.testing.assert_close(played, told, atol=0.05, rtol=0.05)
    alone = part.encode(patches[:1]).flatten(0, 1)
    torch.testing.assert_close(alone, played[: len(alone)], atol=1e-5, rtol=1e-5)  # of nothing beside it


def test_errors_of_what_changes_weigh_more():
    torch.manual_seed(0)
    base = film(2, 3)
    still = base.clone()
    still["pixels"][:] = still["pixels"][:, :1]
    still["next", "pixels"][:] = still["pixels"]
    for films, grows in ((base, True), (still, False)):
        found = []
        for moving in (0.0, 10.0):
            torch.manual_seed(1)
            objective = Genie(
                GenieConfig.tiny(**FILM, **GENIE, tokenizer_steps=0, action_moving=moving), SMALL
            ).objective()
            objective.before_update(0)
            found.append(objective(films)["loss_action_squared"].item())
        assert (found[1] > 5 * found[0]) if grows else found[1] == pytest.approx(found[0])


def told(**numbers):
    """An objective in its second stage, its films, and what the encoder of actions was shown of them."""
    torch.manual_seed(0)
    objective = film_world(Genie(GenieConfig.tiny(**FILM, **GENIE, **numbers), SMALL)).objective()
    objective.stage = "dynamics"
    films, encoder, shown = objective.films(film()), objective.world_model.action_model.encoder, []
    encoder.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    return objective, films, objective.led(films), shown[0]


def test_codes_told_from_pairs_are_those_of_recorded_steps():
    objective, films, led, shown = told(rolled=0, pairs=True)
    assert shown.shape[:2] == (4 * 2, 2)
    model = objective.world_model
    pairs = torch.stack([films.pixels[:, :-1], films.pixels[:, 1:]], 2).flatten(0, 1)
    with objective.world_model_params.to_module(model):
        codes = model.action_model.quantizer.lookup(model.infer_codes(pairs)).view(4, 2, -1)
    torch.testing.assert_close(led.codes, codes)


@pytest.mark.parametrize("pairs", [False, True])
def test_films_are_moved_as_a_whole_before_their_codes_are_told_and_nothing_else_is(pairs):
    _, films, led, shown = told(rolled=2, pairs=pairs)
    given = torch.stack([films.pixels[:, :-1], films.pixels[:, 1:]], 2).flatten(0, 1) if pairs else films.pixels
    shifts = []
    for before, after in zip(given, shown, strict=True):
        found = [
            (x, y)
            for x in range(-2, 3)
            for y in range(-2, 3)
            if torch.equal(film_patches(before.roll((y, x), (1, 2)), 8), after)
        ]
        assert len(found) == 1  # all frames of a film by the same
        shifts += found
    assert len(set(shifts)) > 1
    unmoved = told(rolled=0, pairs=pairs)[2]
    assert led.losses["action_squared"].shape == unmoved.losses["action_squared"].shape == (4, 2)
