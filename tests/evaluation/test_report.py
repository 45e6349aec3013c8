import pytest
import torch

from wmcomponents.data import RandomPolicy, action_spec, make_env, observation_spec
from wmcomponents.evaluation import dream_report
from wmcomponents.evaluation.report import play, windows
from wmcomponents.testing.toy import ToyWorldModel

pytest.importorskip("gymnasium")
pytest.importorskip("matplotlib")


def world(env_id):
    env = make_env(env_id)
    return env, ToyWorldModel(observation_spec(env), action_spec(env)), RandomPolicy(env.action_spec)


def test_playing_keeps_what_is_compared_and_crosses_episode_ends():
    env, model, policy = world("CartPole-v1")
    played = play(env, policy, 100, model)
    assert played.batch_size == (100,)
    assert played["next", "done"].any() and played["is_init"].sum() > 1


def test_windows_are_consecutive_steps():
    env, model, policy = world("CartPole-v1")
    played = play(env, policy, 50, model)
    cut = windows(played, 20, 4)
    assert cut.batch_size == (4, 20)
    torch.testing.assert_close(cut[0], played[:20])
    torch.testing.assert_close(cut[-1], played[-20:])
    with pytest.raises(ValueError, match="no window of 60"):
        windows(played, 60, 1)


@pytest.mark.slow
def test_the_story_of_numbers_is_a_figure_and_a_film(tmp_path):
    env, model, policy = world("CartPole-v1")
    files = dream_report(model, env, policy, env_id="CartPole-v1", out=tmp_path, steps=120, horizon=10, film_steps=15)
    assert set(files) == {"figure", "film"}
    assert all(0 < path.stat().st_size < 2_000_000 for path in files.values())


@pytest.mark.slow
def test_the_story_of_a_board_has_a_filmstrip_too(tmp_path):
    pytest.importorskip("minatar")
    env, model, policy = world("MinAtar/Breakout-v1")
    files = dream_report(model, env, policy, out=tmp_path, steps=120, horizon=10, film_steps=15)
    assert set(files) == {"figure", "film", "filmstrip"}
