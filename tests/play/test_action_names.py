import gymnasium
import pytest

from wmcomponents.data import make_env
from wmcomponents.play.action_names import action_names


def test_names_are_known_or_asked_for():
    assert action_names("CartPole-v1", 2) == ["push left", "push right"]
    assert action_names("MinAtar/Breakout-v1", 3) == ["NOOP", "LEFT", "RIGHT"]
    assert action_names("MinAtar/Breakout-v0", 6)[1] == "LEFT"
    assert action_names("ALE/Pong-v5", 18)[0] == "NOOP"
    assert action_names("ALE/Pong-v5", 6) is None  # which six, only the game knows
    assert action_names("My-v0", 3) is None and action_names(None, 3) is None


def test_an_environment_that_names_its_actions_is_asked_through_all_wrappers():
    class Named(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (2,))
        action_space = gymnasium.spaces.Discrete(2)

        def get_action_meanings(self):
            return ["SIT", "STAND"]

    env = make_env(gymnasium.wrappers.TimeLimit(Named(), 5))
    assert action_names("My-v0", 2, env) == ["SIT", "STAND"]
    assert action_names("My-v0", 3, env) is None


def test_known_names_are_as_many_as_the_environment_has_actions():
    from wmcomponents.play.action_names import KNOWN

    for env_id in ("CartPole-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "Taxi-v3"):
        assert gymnasium.make(env_id).action_space.n == len(KNOWN[env_id])


@pytest.mark.slow
def test_minatar_s_fewer_actions_are_its_own():
    games = pytest.importorskip("minatar")
    from wmcomponents.play.action_names import MINATAR, MINATAR_FEWER

    letters = {"n": "NOOP", "l": "LEFT", "u": "UP", "r": "RIGHT", "d": "DOWN", "f": "FIRE"}
    for game, kept in MINATAR_FEWER.items():
        name = {"SpaceInvaders": "space_invaders"}.get(game, game.lower())
        env = games.Environment(name)
        assert tuple(env.minimal_action_set()) == kept
        assert tuple(letters[letter] for letter in env.env.action_map) == MINATAR
