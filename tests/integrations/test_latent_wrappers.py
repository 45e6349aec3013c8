"""The filter on real environments: beginnings in mid-episode, modes, seeds, specs; see also test_gymnasium.py."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_checker import check_env
from torch import nn
from torchrl.data import Bounded

from tests.support.models import VECTOR
from tests.support.real import LENGTH, Counts
from wmcomponents.integrations.gymnasium import (
    EpisodeStatistics,
    LatentFilter,
    LatentObservation,
    LatentVectorObservation,
)
from wmcomponents.integrations.spaces import SpaceError
from wmcomponents.testing.toy import ToyWorldModel

MODES = list(AutoresetMode)
ACTIONS = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 3, 2)
"""[step, row, action]"""


@pytest.fixture
def model():
    return ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="normal")


def by_hand(model, history):
    """Features after what is known of an episode: a list of (action that led here or None, observation)."""
    state = model.initial_state((1,))
    with torch.no_grad():
        for action, observation in history:
            led = torch.zeros(1, 2) if action is None else torch.as_tensor(action)[None]
            shown = {"observation": torch.as_tensor(observation, dtype=torch.float32)[None]}
            state = model.observe(state, led, shown, torch.tensor([[action is None]]), None)
        return model.features(state)[0].numpy()


def vector_of(mode, rows=3, length=9):
    return SyncVectorEnv([lambda row=row: Counts(row, length) for row in range(rows)], autoreset_mode=mode)


def test_a_filter_put_around_an_episode_under_way_begins_at_what_it_sees_first(model):
    inner = Counts(7, length=9)
    inner.reset()
    inner.step(ACTIONS[0, 0])
    env = LatentObservation(inner, model)
    history = [(None, [7, 1, 2]), (ACTIONS[1, 0], [7, 1, 3])]
    np.testing.assert_allclose(env.step(ACTIONS[0, 1])[0], by_hand(model, history[:1]), rtol=1e-5)
    np.testing.assert_allclose(env.step(ACTIONS[1, 0])[0], by_hand(model, history), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_so_do_the_rows_of_a_vector_environment(model, mode):
    inner = vector_of(mode, length=LENGTH)
    inner.reset()
    inner.step(ACTIONS[0])
    env = LatentVectorObservation(inner, model)
    for step in (1, 2):
        features, *_, infos = env.step(ACTIONS[step])
    for row in range(3):
        history = [(None, [row, 1, 2]), (ACTIONS[2, row], [row, 1, 3])]
        if mode is AutoresetMode.SAME_STEP:  # the episode is over: the new one is shown, the old one told
            np.testing.assert_allclose(infos["final_obs"][row], by_hand(model, history), rtol=1e-5)
            history = [(None, [row, 2, 0])]
        np.testing.assert_allclose(features[row], by_hand(model, history), rtol=1e-5)


def test_an_end_that_is_the_first_thing_seen_is_filtered_as_such(model):
    inner = vector_of(AutoresetMode.SAME_STEP, length=2)
    inner.reset()
    inner.step(ACTIONS[0])
    *_, infos = LatentVectorObservation(inner, model).step(ACTIONS[1])
    for row in range(3):
        np.testing.assert_allclose(infos["final_obs"][row], by_hand(model, [(None, [row, 1, 2])]), rtol=1e-5)


def test_a_masked_reset_begins_the_rows_of_which_nothing_is_known_too(model):
    inner = vector_of(AutoresetMode.DISABLED)
    inner.reset()
    inner.step(ACTIONS[0])
    env = LatentVectorObservation(inner, model)
    first, _ = env.reset(options={"reset_mask": np.array([True, False, False])})
    second, _ = env.reset(options={"reset_mask": np.array([False, False, True])})
    np.testing.assert_allclose(first[0], by_hand(model, [(None, [0, 2, 0])]), rtol=1e-5)
    np.testing.assert_allclose(first[1], by_hand(model, [(None, [1, 1, 1])]), rtol=1e-5)
    np.testing.assert_array_equal(second[:2], first[:2])
    np.testing.assert_allclose(second[2], by_hand(model, [(None, [2, 2, 0])]), rtol=1e-5)


def test_the_filter_knows_actions_as_the_environment_clips_them(model):
    features = []
    for action in ([1.0, -0.5], [7.0, -0.5]):
        env = LatentObservation(Counts(), model)
        env.reset()
        features.append(env.step(np.array(action, np.float32))[0])
    np.testing.assert_array_equal(*features)


def test_an_action_that_is_no_number_steps_nothing(model):
    env, bad = LatentObservation(Counts(), model), np.array([0, np.nan], np.float32)
    env.reset()
    with pytest.raises(SpaceError, match="finite"):
        env.step(bad)
    assert env.unwrapped.clock == 0
    rows = LatentVectorObservation(vector_of(AutoresetMode.NEXT_STEP), model)
    rows.reset()
    with pytest.raises(SpaceError, match=r"rows \[1\]"):
        rows.step(np.stack([0 * bad[:1].repeat(2), bad, 0 * bad[:1].repeat(2)]))
    assert [env.clock for env in rows.unwrapped.envs] == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:.*use of fork")  # Python 3.12 warns where threads are about
def test_a_reset_that_is_repeated_at_the_next_step_is_noticed(model):
    """Gymnasium's workers without shared memory reset a finished row again, although it has been reset."""
    makers = [lambda row=row: Counts(row, LENGTH + row) for row in range(2)]
    inner = AsyncVectorEnv(makers, shared_memory=False, context="fork")
    try:
        env = EpisodeStatistics(LatentVectorObservation(inner, model))
        env.reset()
        for _ in range(LENGTH):
            env.step(ACTIONS[0, :2])
        env.reset()
        features, *_ = env.step(ACTIONS[1, :2])
        np.testing.assert_allclose(features[0], by_hand(model, [(None, [0, 3, 0])]), rtol=1e-5)  # reset twice
        np.testing.assert_allclose(
            features[1], by_hand(model, [(None, [1, 2, 0]), (ACTIONS[1, 1], [1, 2, 1])]), rtol=1e-5
        )
        ended = {}
        for _ in range(LENGTH):
            *_, infos = env.step(ACTIONS[0, :2])
            ended |= {int(row): int(infos["episode"]["l"][row]) for row in np.flatnonzero(infos.get("_episode", [0]))}
        assert ended == {0: LENGTH, 1: LENGTH + 1}
    finally:
        inner.close(terminate=True)


def test_the_model_is_used_in_eval_mode_and_left_in_its_own(model):
    model.noise_layers = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    model.train()
    model.noise_layers[1].eval()
    modes = [part.training for part in model.modules()]
    seen = []
    features, observe = model.features, model.observe
    model.features = lambda state: seen.extend(part.training for part in model.modules()) or features(state)
    model.observe = lambda *inputs: seen.extend(part.training for part in model.modules()) or observe(*inputs)
    env = LatentObservation(Counts(), model)
    env.reset()
    env.step(ACTIONS[0, 0])
    assert seen and not any(seen) and [part.training for part in model.modules()] == modes


def test_a_model_in_a_wrappers_spec_is_never_copied(model, monkeypatch):
    pendulum = ToyWorldModel(VECTOR, Bounded(-2, 2, (1,)))
    monkeypatch.setattr(ToyWorldModel, "__deepcopy__", lambda self, memo: pytest.fail("copied"), raising=False)
    env = TimeLimit(LatentObservation(gymnasium.make("Pendulum-v1"), pendulum), 5)
    again = gymnasium.make(env.spec)
    assert again.get_wrapper_attr("_filter").model is pendulum
    np.testing.assert_array_equal(again.reset(seed=1)[0], env.reset(seed=1)[0])


def test_drawn_features_differ_from_worker_to_worker_unless_seeded(model):
    def drawn(**options):
        env = LatentObservation(Counts(), model, sample=True)
        return env.reset(**options)[0]

    assert not np.array_equal(drawn(), drawn())
    assert np.array_equal(drawn(seed=3), drawn(seed=3)) and not np.array_equal(drawn(seed=3), drawn(seed=4))


def test_the_seeds_of_a_vector_reset_seed_the_drawn_features(model):
    def drawn(seed):
        return LatentVectorObservation(vector_of(AutoresetMode.NEXT_STEP), model, sample=True).reset(seed=seed)[0]

    for seed in (3, [3, 4, None]):
        assert np.array_equal(drawn(seed), drawn(seed))
    assert not np.array_equal(drawn(3), drawn(4)) and not np.array_equal(drawn([None] * 3), drawn([None] * 3))


@pytest.mark.filterwarnings("ignore:.*we recommend")  # bounds of actions are the real environment's
def test_sb3_accepts_the_filtered_environment():
    model = ToyWorldModel(VECTOR, Bounded(-2, 2, (1,)))
    check_env(LatentObservation(gymnasium.make("Pendulum-v1"), model), skip_render_check=True)


def test_a_filter_knows_the_rows_it_has_seen(model):
    latents = LatentFilter(model, 2)
    assert latents.known.tolist() == [False, False]
    latents(torch.zeros(2, 2), np.zeros((2, 3), np.float32), np.array([False, False]))
    assert latents.known.tolist() == [True, True]
