"""Films of dream against reality beside an online run, which goes on as if nobody had looked."""

import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot

from tests.support.online_runs import SCHEDULE, run, weights
from wmcomponents.data import make_env
from wmcomponents.data.environments import origin_of
from wmcomponents.evaluation import DreamFilms
from wmcomponents.evaluation.video import FRAME_HEIGHT, PADDING
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError

Image = pytest.importorskip("PIL.Image")
FAST = SCHEDULE.vary(evaluate_every=12, prefill=12)


def frames_of(path):
    with Image.open(path) as film:
        for number in range(film.n_frames):
            film.seek(number)
            yield np.asarray(film.convert("RGB"))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A run of 36 steps with a film after every second evaluation; it is only read."""
    films = DreamFilms(every=2, steps=6, burn_in=3, log=True)
    trainer = run(tmp_path_factory.mktemp("filmed"), schedule=FAST, callbacks=[films], logger="csv")
    trainer.train(36)
    return trainer


def test_films_are_written_and_logged_after_the_chosen_evaluations(filmed):
    written = sorted(path.name for path in (filmed.out / "films").iterdir())
    assert written == ["000000012.webp", "000000036.webp"]
    logged = sorted((filmed.out / "logs").rglob("videos/**/*.pt"))
    assert len(logged) == 2 and torch.load(logged[0]).shape[2] == 3


def test_the_run_is_to_the_bit_what_it_is_without_films(filmed):
    alone = run(schedule=FAST)
    alone.train(36)
    assert torch.equal(weights(alone), weights(filmed)) and alone.episodes == filmed.episodes
    assert alone.evaluations == filmed.evaluations
    assert torch.equal(alone.agent.real_policy.generator_state(), filmed.agent.real_policy.generator_state())
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), weights(filmed)
    filmed.callbacks[0].film(filmed, filmed.agent)
    after = torch.get_rng_state(), np.random.get_state()[1], weights(filmed)
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and torch.equal(before[2], after[2])


def test_a_film_shows_reality_beside_the_dream_from_the_same_start(filmed, tmp_path):
    shown = []

    def render(observation):
        shown.append(observation["observation"].copy())
        return np.full((8, 8, 3), 10 * len(shown), np.uint8)

    films = DreamFilms(steps=4, burn_in=2, render=render, folder=tmp_path, suffix=".gif")
    films.setup(filmed, filmed.agent, "fit")
    frames = list(frames_of(films.film(filmed, filmed.agent)))
    blank, *drawn = shown
    assert len(frames) == 5 and len(drawn) == 10  # five frames of each: the start and four steps
    assert not blank.any() and all(np.isfinite(one).all() for one in drawn)
    real, dream = np.array(drawn[:5]), np.array(drawn[5:])
    assert np.abs(np.diff(real, axis=0)).max() < 1.0 and not np.allclose(real, dream)
    middle = frames[0][30 + FRAME_HEIGHT // 2]
    assert middle[PADDING + 100, 0] == 20 and middle[-PADDING - 100, 0] == 70
    films.film(filmed, filmed.agent)
    assert np.array_equal(shown[11:], drawn)  # the same start, the same actions, the same dream


class Sees:
    """A trainer as a callback sees it before the first step."""

    out, logger, seed = None, None, 0

    def make_env(self):
        return make_env("CartPole-v1")


def agent_in(model):
    return type("In", (), {"model": model})()


def test_what_cannot_be_filmed_is_refused_when_the_trainer_is_built(tmp_path):
    pixels = Composite(pixels=Bounded(0, 255, torch.Size([8, 8, 3]), dtype=torch.uint8))
    blind, sees = (ToyWorldModel(pixels, OneHot(2), parts=parts) for parts in (("reward",), ("decode",)))
    with pytest.raises(CapabilityError, match="film of its dreams"):
        DreamFilms(folder=tmp_path).setup(Sees(), agent_in(blind), "fit")
    with pytest.raises(ValueError, match="train with out=FOLDER"):
        run(callbacks=[DreamFilms()])
    with pytest.raises(ValueError, match="pass logger="):
        run(callbacks=[DreamFilms(folder=tmp_path, log=True)])
    DreamFilms(folder=tmp_path).setup(Sees(), agent_in(sees), "fit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"), [({"every": 0}, "every"), ({"suffix": ".avi"}, "one of .webp"), ({"fps": 0.0}, "fps")]
)
def test_numbers_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        DreamFilms(**options)


def test_an_environment_tells_of_what_it_was_made():
    origin = origin_of(make_env("CartPole-v1", max_episode_steps=7, env_kwargs={"sutton_barto_reward": True}))
    assert origin.id == "CartPole-v1" and origin.options["max_episode_steps"] == 7
    assert make_env(origin.id, **origin.options).rollout(50).shape[0] <= 7
    assert origin_of(make_env(lambda **_: make_env("CartPole-v1").base_env)) is None
