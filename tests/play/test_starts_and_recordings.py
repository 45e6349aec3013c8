"""Where a played dream begins, and what is kept of it: data folders, images, the real environment, films."""

import io
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.worlds import Counter
from wmcomponents.cli.dataset import open_dataset
from wmcomponents.codecs import action_spec, observation_spec
from wmcomponents.data import make_env
from wmcomponents.data.folder import open_saved
from wmcomponents.dream.replay_starts import last_states
from wmcomponents.models import Genie
from wmcomponents.play import PlayError, Reality, Session, StartMenu
from wmcomponents.play.recording import record
from wmcomponents.testing.toy import ToyWorldModel

FACTS = {"env": "CartPole-v1", "env_options": {}}


@pytest.fixture(scope="module")
def beside():
    """A session beside a real CartPole."""
    env = make_env("CartPole-v1")
    model = ToyWorldModel(observation_spec(env), action_spec(env), noise="normal", parts=("decode", "reward"))
    reality = Reality("CartPole-v1", {}, model)
    yield SimpleNamespace(model=model, reality=reality, menu=StartMenu(model, reality=reality))
    reality.close()


def real(seed, actions):
    """What the real environment shows, without any of this."""
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    shown = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, _, terminated, _, _ = env.step(action)
        shown.append(observation)
        if terminated:
            break
    return shown


def shown(session):
    return [moment.real.observation["observation"] for moment in session.branch.moments]


def test_reality_goes_along_and_back(beside):
    session = Session(beside.model, beside.menu, env_id="CartPole-v1", seed=0)
    assert session.moment.real is None and session.real_picture() is None
    session.begin("reality", seed=5)
    way = [0, 1, 1, 0, 1]
    for value in way:
        session.step(value)
    first = make_env("CartPole-v1", seed=5).reset()["observation"].numpy()
    assert (shown(session)[0] == first).all() and session.moment.real.total == 5.0
    session.go(2)
    session.step(0)  # begun again from its seed, and led to where it was
    session.step(1)
    other = shown(session)
    session.begin("reality", seed=5)
    for value in [0, 1, 0, 1]:
        session.step(value)
    assert all((one == two).all() for one, two in zip(shown(session), other, strict=True))
    assert all(moment.real.repeats for moment in session.branch.moments)
    assert session.real_picture().shape == session.picture().shape == (400, 600, 3)


def test_a_dream_goes_on_where_reality_ended(beside):
    session = Session(beside.model, beside.menu, seed=0)
    session.begin("reality", seed=1)
    for _ in range(14):
        session.step(1)
    lasts = [moment.real for moment in session.branch.moments if moment.real.over]
    assert lasts[0].terminated and len(lasts) > 1 and len({id(each) for each in lasts}) == 1


def test_an_environment_that_does_not_repeat_itself_is_told(beside):
    session = Session(beside.model, beside.menu, seed=0)
    session.begin("reality", seed=5)
    for value in (0, 1, 0):
        session.step(value)
    before = session.branch.moments[2]
    real_step = before.real._replace(observation={"observation": before.real.observation["observation"] + 1})
    session.branch.moments[2] = before._replace(real=real_step)
    session.go(2)
    assert not session.step(1).real.repeats


def test_another_environment_than_the_model_s_does_not_go_along(beside):
    with pytest.raises(ValueError, match="observation"):
        Reality("Pendulum-v1", {}, beside.model)


def test_no_environment_goes_along_with_a_world_that_is_played_by_codes():
    image = Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
    with pytest.raises(ValueError, match="a Genie is played by codes, which are no actions of CartPole-v1"):
        Reality("CartPole-v1", {}, Genie("tiny", image))


def test_what_was_played_is_data_to_train_on(beside, tmp_path):
    session = Session(beside.model, beside.menu, seed=0)
    session.begin("reality", seed=5)
    for value in (0, 1, 1, 0):
        session.step(value)
    record(session, tmp_path, "data", facts=FACTS)
    session.go(2)
    session.step(0)
    assert "behind 4" in record(session, tmp_path, "data", facts=FACTS).words
    record(session, tmp_path, "real data", facts=FACTS)
    data = open_dataset([tmp_path / "dream"], sequence_length=4, batch_size=2, seed=0)
    steps = data.replay[:]
    assert data.env == "CartPole-v1" and data.action_spec == beside.model.action_spec
    assert steps["is_init"][:, 0].tolist() == [True, *[False] * 3, True, False, False]
    assert steps["next", "done"][:, 0].tolist() == [*[False] * 3, True, False, False, True]
    assert (steps["next", "truncated"] == steps["next", "done"]).all() and not steps["next", "terminated"].any()
    assert steps["action"].long().argmax(-1).tolist() == [0, 1, 1, 0, 0, 1, 0]
    moments = session.branches[2].moments
    assert np.array_equal(steps["observation"][1:4], [moment.observation["observation"] for moment in moments[1:4]])
    assert steps["next", "reward"][:4, 0].tolist() == [pytest.approx(moment.reward) for moment in moments[1:]]
    real_steps = open_dataset([tmp_path / "reality"], sequence_length=2, batch_size=2, seed=0).replay[:]
    assert np.array_equal(real_steps["next", "observation"], shown(session)[1:])
    assert real_steps["next", "reward"].tolist() == [[1.0]] * 3


def test_real_data_end_where_the_real_episode_does(beside, tmp_path):
    session = Session(beside.model, beside.menu, seed=0)
    session.begin("reality", seed=1)
    for _ in range(14):
        session.step(1)
    record(session, tmp_path, "real data", facts=FACTS)
    steps = open_dataset([tmp_path / "reality"], sequence_length=2, batch_size=2, seed=0).replay[:]
    assert len(steps) < 14 and steps["next", "terminated"][-1] and not steps["next", "truncated"].any()


def test_a_folder_that_holds_something_else_is_left_as_it_is(beside, tmp_path):
    session = Session(beside.model, beside.menu, seed=0)
    with pytest.raises(PlayError, match="take a step first"):
        record(session, tmp_path, "data")
    session.step(0)
    with pytest.raises(PlayError, match="reality did not go along"):
        record(session, tmp_path, "real data")
    record(session, tmp_path, "data", facts=FACTS)
    other = Session(Counter(), seed=0)
    other.step(0)
    with pytest.raises(PlayError, match="no such steps"):
        record(other, tmp_path, "data")
    assert open_saved(tmp_path / "dream").rows == 1
    with pytest.raises(PlayError, match="shows no observations"):
        blind = Session(ToyWorldModel(Composite(observation=Unbounded(2)), OneHot(2), parts=("features",)), seed=0)
        blind.step(0)
        record(blind, tmp_path, "data")


def test_films_are_numbered_and_show_reality_beside_the_dream(beside, tmp_path):
    session = Session(beside.model, beside.menu, seed=0)
    session.step(0)
    alone = record(session, tmp_path, "gif")
    session.begin("reality", seed=1)
    session.step(0)
    both = record(session, tmp_path, "gif", title="CartPole")
    assert [alone.path.name, both.path.name] == ["play-0001.gif", "play-0002.gif"]
    with Image.open(alone.path) as one, Image.open(both.path) as two:
        assert two.width > 1.8 * one.width and one.n_frames == two.n_frames == 2


def test_of_a_long_branch_the_film_shows_the_last_steps(beside, tmp_path, monkeypatch):
    from wmcomponents.play import recording

    monkeypatch.setattr(recording, "MOST_FILMED", 2)
    session = Session(beside.model, beside.menu, seed=0)
    session.begin("reality", seed=1)
    for _ in range(4):
        session.step(0)
    film = record(session, tmp_path, "gif")
    with Image.open(film.path) as shown_film:
        assert film.words.startswith("the last 2 steps") and shown_film.n_frames == 3


def test_any_recorded_step_is_a_start_that_has_seen_its_episode(beside, tmp_path):
    session = Session(beside.model, beside.menu, seed=0)
    for way in ([0, 1, 1], [1, 0, 0, 1, 0]):
        session.begin("prior")
        for value in way:
            session.step(value)
        record(session, tmp_path, "data", facts=FACTS)
    menu = StartMenu(beside.model, data=tmp_path / "dream", burn_in=3)
    assert menu.describe()["data"] == 8
    steps = open_dataset([tmp_path / "dream"], sequence_length=2, batch_size=2, seed=0).replay[:]
    for number, first in ((0, 0), (2, 0), (3, 3), (4, 3), (7, 5)):  # at most three, all of one episode
        start = menu.start("data", number, seed=9)
        generator = torch.Generator().manual_seed(9)
        wanted = last_states(beside.model, steps[first : number + 1][None], generator=generator)
        assert all(torch.equal(start.state[key], wanted[key]) for key in wanted)
    with pytest.raises(PlayError, match="8 starts"):
        menu.start("data", 8, seed=0)
    with pytest.raises(PlayError, match="holds no pixels"):
        StartMenu(ToyWorldModel(IMAGES["bytes"], OneHot(2)), data=tmp_path / "dream")


# -- images -----------------------------------------------------------------------------------------------------------

IMAGES = {
    "bytes": Composite(pixels=Bounded(0, 255, (16, 20, 3), dtype=torch.uint8)),
    "grey floats, channels first": Composite(pixels=Bounded(0, 1, (1, 16, 20))),
    "a stack": Composite(pixels=Bounded(0, 255, (4, 16, 20), dtype=torch.uint8)),
    "beside numbers": Composite(pixels=Bounded(0, 255, (16, 20, 3), dtype=torch.uint8), speed=Unbounded(2)),
}


class Shows(ToyWorldModel):
    """Keeps what it was shown."""

    def observe(self, state, action, observation, is_init, noise):
        self.seen = {key: value.clone() for key, value in observation.items()}
        return super().observe(state, action, observation, is_init, noise)


def png(array, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_the_first_observation(name):
    model = Shows(IMAGES[name], OneHot(2))
    session = Session(model, seed=0)
    upper = np.zeros((40, 60, 3), np.uint8)
    upper[:20] = 255
    session.begin_from_image(png(upper))
    seen = model.seen["pixels"][0]
    assert model.observation_spec["pixels"].is_in(seen) and session.branch.start.words == "an image of yours"
    white = 255 if seen.dtype == torch.uint8 else 1.0
    rows = seen if name in ("bytes", "beside numbers") else seen.movedim(0, -1)
    assert (rows[:8] == white).all() and (rows[8:] == 0).all()
    if "speed" in model.seen:
        assert (model.seen["speed"] == 0).all()


def bomb(side):
    """A tiny file that says it is a huge image."""
    chunk = lambda kind, data: len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")  # noqa: E731
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        png(np.arange(6912).reshape(48, 48, 3).astype(np.uint8))[:90],
        bomb(6000),
        bomb(100_000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
    ids=["nothing", "text", "cut", "many pixels", "a bomb", "another format"],
)
def test_what_is_no_image_is_refused_and_nothing_begins(data):
    session = Session(ToyWorldModel(IMAGES["bytes"], OneHot(2)), seed=0)
    with pytest.raises(PlayError, match="image"):
        session.begin_from_image(data)
    assert len(session.branches) == 1


def test_a_model_that_sees_no_image_begins_from_none(beside):
    with pytest.raises(PlayError, match="observes no image"):
        Session(beside.model, seed=0).begin_from_image(png(np.zeros((9, 9, 3), np.uint8)))
