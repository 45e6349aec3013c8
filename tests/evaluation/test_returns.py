import pytest
import torch

from tests.support.worlds import Counter, PointMass
from wmcomponents.data import RandomPolicy, make_env
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import FixedStarts
from wmcomponents.evaluation import EndlessEpisodeError, Returns, evaluate_dream, evaluate_policy
from wmcomponents.integrations.torchrl import TorchRLDreamEnv

pytest.importorskip("gymnasium")


def random_policy(env, seed=0):
    return RandomPolicy(env.action_spec, generator=torch.Generator().manual_seed(seed))


def test_returns_are_of_whole_episodes():
    env = make_env("CartPole-v1")
    returns = evaluate_policy(env, random_policy(env), episodes=5, seed=0)
    assert len(returns) == 5
    assert returns.returns == [float(length) for length in returns.lengths]  # CartPole pays one a step
    assert returns.min <= returns.median <= returns.max
    assert returns.mean == returns.mean_length


def test_the_same_seed_gives_the_same_returns():
    def returns():
        env = make_env("CartPole-v1")
        return evaluate_policy(env, random_policy(env), episodes=3, seed=4).returns

    assert returns() == returns()


def test_a_batch_shares_the_episodes_out_whatever_their_length():
    env = make_env("CartPole-v1", num_envs=3)
    ended = []
    returns = evaluate_policy(env, random_policy(env), episodes=7, seed=0, progress=ended.append)
    assert len(returns) == sum(ended) == 7
    assert returns.returns == [float(length) for length in returns.lengths]


def test_no_episodes_are_refused():
    env = make_env("CartPole-v1")
    with pytest.raises(ValueError, match="at least 1"):
        evaluate_policy(env, random_policy(env), episodes=0)


def test_episodes_that_never_end_are_given_up():
    env = TorchRLDreamEnv(Counter(), [2], termination="off")
    with pytest.raises(EndlessEpisodeError, match="after 30 steps: give the dream a horizon"):
        evaluate_policy(env, zero_action, episodes=2, max_steps=30)
    ends = TorchRLDreamEnv(Counter(), [2], termination="off", horizon=30)
    assert evaluate_policy(ends, zero_action, episodes=2, max_steps=30).lengths == [30, 30]


def zero_action(tensordict):
    return tensordict.set("action", torch.zeros(*tensordict.batch_size, 1))


def test_a_dream_row_is_one_episode_by_hand():
    starts = FixedStarts({"point": torch.tensor([[1.0, 0.0], [2.95, 1.0]])})
    dream = Simulator(PointMass(), starts, batch_size=2, horizon=5, termination="threshold")
    returns = evaluate_dream(dream, zero_action)
    assert returns.lengths == [5, 1]  # the second leaves |x| < 3 in its first step
    assert returns.returns == pytest.approx([-5.0, -(3.05**2)], rel=1e-6)


def test_a_dream_tells_its_policy_where_episodes_begin():
    seen = []

    def policy(tensordict):
        seen.append(tensordict["is_init"].all().item())
        return zero_action(tensordict)

    evaluate_dream(Simulator(PointMass(), batch_size=2, horizon=3, termination="off"), policy, seed=1)
    assert seen == [True, False, False]


def test_a_dream_without_a_horizon_is_refused():
    with pytest.raises(ValueError, match="horizon="):
        evaluate_dream(Simulator(Counter()), zero_action)


def test_returns_as_json():
    json = Returns([1.0, 3.0], [10, 20]).to_json()
    assert json == {
        "episodes": 2, "mean": 2.0, "median": 2.0, "min": 1.0, "max": 3.0, "mean_length": 15.0, "returns": [1.0, 3.0],
    }  # fmt: skip
