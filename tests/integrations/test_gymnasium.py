"""The filter on real environments, registration, and what is not of one model; see tests/contract/test_gymnasium.py."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import MIXED, VECTOR, PointMass
from tests.support.real import LENGTH, Counts
from wmcomponents.dream import PoolStarts
from wmcomponents.integrations.gymnasium import (
    DreamEnv,
    DreamVectorEnv,
    EpisodeStatistics,
    LatentFilter,
    LatentObservation,
    LatentVectorObservation,
)
from wmcomponents.integrations.gymnasium.latent_wrappers import with_final_rows
from wmcomponents.integrations.gymnasium_registration import register
from wmcomponents.integrations.spaces import SpaceError
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError

MODES = list(AutoresetMode)


def model_of(as_dict=False):
    return ToyWorldModel(MIXED if as_dict else VECTOR, Bounded(-1, 1, (2,)), noise="normal")


def vector_of(mode, as_dict=False, rows=3):
    """Rows whose episodes have different lengths."""
    makers = [lambda row=row: Counts(row, LENGTH + row, as_dict) for row in range(rows)]
    return SyncVectorEnv(makers, autoreset_mode=mode)


def by_hand(model, history):
    """Features of one episode: a list of (action that led here or None, observation)."""
    state = model.initial_state((1,))
    with torch.no_grad():
        for action, observation in history:
            entries = observation if isinstance(observation, dict) else {"observation": observation}
            state = model.observe(
                state,
                torch.zeros(1, 2) if action is None else torch.as_tensor(action)[None],
                {key: torch.as_tensor(value)[None] for key, value in entries.items()},
                torch.tensor([[action is None]]),
                None,
            )
        return model.features(state)[0].numpy()


@pytest.mark.parametrize("as_dict", [False, True], ids=["vector", "dict"])
def test_the_single_filter_sees_what_the_episode_showed(as_dict):
    model, raw = model_of(as_dict), Counts(as_dict=as_dict)
    env = LatentObservation(Counts(as_dict=as_dict), model)
    raw.reset()  # the wrapped one begins its second episode with the others
    rng = np.random.default_rng(0)
    for _ in range(2):
        latent, info = env.reset()
        history = [(None, env.unwrapped._shown())]
        while True:
            np.testing.assert_allclose(latent, by_hand(model, history), rtol=1e-5)
            assert env.observation_space.contains(latent)
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            latent, reward, terminated, truncated, info = env.step(action)
            history.append((action, env.unwrapped._shown()))
            assert type(reward) is float and info["clock"] == reward
            if truncated:
                break
        np.testing.assert_allclose(latent, by_hand(model, history), rtol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:.*we recommend using a symmetric", "ignore:.*is different from the unwrapped version"
)
def test_gymnasium_accepts_the_filtered_environment():
    pendulum = gymnasium.make("Pendulum-v1").unwrapped
    check_env(LatentObservation(pendulum, ToyWorldModel(VECTOR, Bounded(-2, 2, (1,)))), skip_render_check=True)
    env = LatentObservation(
        gymnasium.make("CartPole-v1"), ToyWorldModel(Composite(observation=Unbounded(4)), OneHot(2))
    )
    latent, _ = env.reset(seed=0)
    assert env.step(1)[0].shape == latent.shape == (16,)


@pytest.mark.parametrize("as_dict", [False, True], ids=["vector", "dict"])
@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_the_vector_filter_sees_what_each_rows_episode_showed(mode, as_dict):
    model, rows = model_of(as_dict), 3
    env, witness = LatentVectorObservation(vector_of(mode, as_dict), model), vector_of(mode, as_dict)

    def row_of(observation, i):
        return {key: value[i] for key, value in observation.items()} if as_dict else observation[i]

    features, _ = env.reset(seed=0)
    shown, _ = witness.reset(seed=0)
    history = [[(None, row_of(shown, i))] for i in range(rows)]
    pending = np.zeros(rows, dtype=bool)
    rng = np.random.default_rng(0)
    finals = 0
    for _ in range(14):
        for i in range(rows):
            np.testing.assert_allclose(features[i], by_hand(model, history[i]), rtol=1e-4, atol=1e-5)
        actions = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
        features, rewards, ends, cuts, infos = env.step(actions)
        shown, expected, *_, told = witness.step(actions)
        np.testing.assert_array_equal(rewards, expected)
        assert env.observation_space.contains(features)
        done = ends | cuts
        for i in range(rows):
            if mode is AutoresetMode.SAME_STEP and done[i]:
                final = by_hand(model, [*history[i], (actions[i], told["final_obs"][i])])
                np.testing.assert_allclose(infos["final_obs"][i], final, rtol=1e-4, atol=1e-5)
                finals += 1
            if (mode is AutoresetMode.SAME_STEP and done[i]) or (mode is AutoresetMode.NEXT_STEP and pending[i]):
                history[i] = [(None, row_of(shown, i))]
            else:
                history[i].append((actions[i], row_of(shown, i)))
        pending = done
        if mode is AutoresetMode.DISABLED and done.any():
            features, _ = env.reset(options={"reset_mask": done.copy()})
            shown, _ = witness.reset(options={"reset_mask": done.copy()})
            for i in np.flatnonzero(done):
                history[i] = [(None, row_of(shown, i))]
    assert (finals > 0) is (mode is AutoresetMode.SAME_STEP)


def test_final_rows_may_come_as_a_batch_too():
    """What DreamVectorEnv gives with torch output, and other vector environments with dicts of arrays."""
    done = np.array([False, True])
    observation = {"a": np.zeros((2, 3)), "b": np.zeros(2)}
    final = {"a": np.ones((2, 3)), "b": np.ones(2)}
    as_objects = np.array([None, {"a": np.ones(3), "b": 1.0}], dtype=object)
    for given in (final, as_objects):
        mixed = with_final_rows(observation, given, done)
        assert mixed["a"].tolist() == [[0.0] * 3, [1.0] * 3] and mixed["b"].tolist() == [0.0, 1.0]
    assert not observation["a"].any()


def test_a_dream_can_be_filtered_like_reality():
    model = model_of()
    dream = DreamVectorEnv(model, 4, horizon=3, autoreset_mode=AutoresetMode.SAME_STEP)
    env = LatentVectorObservation(dream, model)
    env.reset(seed=0)
    for _ in range(7):
        assert env.step(env.action_space.sample())[0].shape == (4, 16)


def test_a_vector_env_without_final_observations_is_refused_when_one_is_needed():
    env = LatentVectorObservation(vector_of(AutoresetMode.SAME_STEP), model_of())
    step = env.env.step
    env.env.step = lambda actions: (*step(actions)[:4], {})
    env.reset()
    with pytest.raises(SpaceError, match="final_obs"):
        for _ in range(LENGTH):
            env.step(np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_episode_statistics_are_exact_in_every_mode(mode):
    env = EpisodeStatistics(vector_of(mode))
    env.reset(seed=0)
    told = []
    for _ in range(16):
        *_, ends, cuts, infos = env.step(np.zeros((3, 2), np.float32))
        done = ends | cuts
        assert ("episode" in infos) == bool(done.any())
        if done.any():
            np.testing.assert_array_equal(infos["_episode"], done)
            rows = np.flatnonzero(done)
            told += [(i, infos["episode"]["l"][i], infos["episode"]["r"][i]) for i in rows]
            assert all(infos["episode"]["t"][i] > 0 for i in rows)
            if mode is AutoresetMode.DISABLED:
                env.reset(options={"reset_mask": done.copy()})
    for i, length, total in told:
        assert length == LENGTH + i and total == length * (length + 1) / 2  # step t pays t
    assert len(told) >= 9


def test_sampled_features_are_reproducible_and_not_the_mode():
    model, shown = model_of(), []
    for sample, seed in ((True, 0), (True, 0), (True, 1), (False, 0)):
        env = LatentObservation(Counts(), model, sample=sample, seed=seed)
        env.reset()
        shown.append(env.step(np.zeros(2, np.float32))[0])
    assert np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], shown[2]) and not np.array_equal(shown[0], shown[3])


def test_features_belong_to_the_caller():
    model, features = model_of(), []
    for spoil in (False, True):
        env = LatentVectorObservation(vector_of(AutoresetMode.NEXT_STEP), model)
        seen, _ = env.reset()
        for _ in range(5):
            if spoil:
                seen.fill(0)
            seen = env.step(np.zeros((3, 2), np.float32))[0]
        features.append(seen)
    np.testing.assert_array_equal(*features)


def test_environments_the_model_was_not_trained_on_are_refused():
    for model in (
        ToyWorldModel(Composite(observation=Unbounded(4)), Bounded(-1, 1, (2,))),
        ToyWorldModel(VECTOR, OneHot(2)),
    ):
        with pytest.raises(SpaceError, match="trained on"):
            LatentObservation(Counts(), model)
        with pytest.raises(SpaceError, match="trained on"):
            LatentVectorObservation(vector_of(AutoresetMode.NEXT_STEP), model)
    with pytest.raises(CapabilityError, match="features"):
        LatentObservation(Counts(), PointMass())


def test_an_observation_that_is_not_finite_names_its_rows():
    latents = LatentFilter(model_of(), 2)
    bad = np.array([[0, 0, 0], [0, np.nan, 0]], np.float32)
    with pytest.raises(SpaceError, match=r"rows \[1\]"):
        latents(torch.zeros(2, 2), bad, np.array([True, True]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "dreamer"
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2))
    model.save_pretrained(path, starts=model.initial_state((5,)))
    return path


def test_a_dream_is_made_by_its_id_from_a_path(saved):
    register()
    register()
    env = gymnasium.make("wmcomponents/Dream-v0", model=str(saved), termination="off", max_episode_steps=3)
    assert isinstance(env.unwrapped, DreamEnv)
    env.reset(seed=0)
    flags = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    env.close()


def test_every_declared_render_mode_is_made(saved):
    register()
    env = gymnasium.make("wmcomponents/Dream-v0", model=saved, horizon=5)
    check_env(env.unwrapped)


def test_vector_dreams_are_made_by_their_id(saved):
    register()
    env = gymnasium.make_vec(
        "wmcomponents/Dream-v0", num_envs=3, model=str(saved), max_episode_steps=4, termination="off"
    )
    assert isinstance(env.unwrapped, DreamVectorEnv) and env.unwrapped.spec.id == "wmcomponents/Dream-v0"
    assert env.unwrapped.simulator.horizon == 4
    env.reset(seed=0)
    cuts = [env.step(env.action_space.sample())[3].all() for _ in range(4)]
    assert cuts == [False, False, False, True]
    with pytest.raises(Exception, match="wrappers|vector_kwargs|not be set"):
        gymnasium.make_vec("wmcomponents/Dream-v0", num_envs=2, model=str(saved), vector_kwargs={"x": 1})


class Weighty(ToyWorldModel):
    """A model that nobody may copy."""

    def __deepcopy__(self, memo):
        raise AssertionError("the user's model was copied")

    def __reduce__(self):
        raise AssertionError("the user's model was pickled")


@pytest.mark.parametrize("max_episode_steps", [None, 3])
def test_no_spec_copies_a_model_that_was_handed_over_as_an_object(max_episode_steps):
    register()
    model = Weighty(VECTOR, Bounded(-1, 1, (2,)))
    starts = PoolStarts(model.initial_state((5,)))
    options = {"model": model, "starts": starts, "horizon": 7, "termination": "off"}
    env = gymnasium.make("wmcomponents/Dream-v0", max_episode_steps=max_episode_steps, **options)
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.wrappers.ClipReward(env, -1, 1))
    spec = env.spec
    assert spec.kwargs["model"] is model and spec.kwargs["starts"] is starts
    assert spec.max_episode_steps == (max_episode_steps or 7)
    again = gymnasium.make(spec)
    assert again.unwrapped.simulator.model is model and env.unwrapped.simulator.model is model
    again.reset(seed=0)
    cuts = [again.step(again.action_space.sample())[3] for _ in range(max_episode_steps or 7)]
    assert cuts == [False] * (len(cuts) - 1) + [True]
    vector = gymnasium.make_vec("wmcomponents/Dream-v0", num_envs=2, **options)
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(vector)
    assert wrapped.spec.kwargs["model"] is model and wrapped.spec.max_episode_steps == 7
    assert wrapped.unwrapped.simulator.model is model
    assert copy.deepcopy(wrapped.spec).kwargs["model"] is model


def test_of_two_limits_the_shorter_counts():
    options = {"termination": "off", "max_episode_steps": 2}
    assert DreamVectorEnv(PointMass(), 2, horizon=5, **options).simulator.horizon == 2
    assert DreamVectorEnv(PointMass(), 2, horizon=1, **options).simulator.horizon == 1


def test_a_dream_goes_through_a_pickle():
    env = DreamEnv(ToyWorldModel(VECTOR, OneHot(2), noise="normal"), horizon=9)
    env.reset(seed=0)
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(3):
        np.testing.assert_array_equal(env.step(1)[0], twin.step(1)[0])
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])


def test_choices_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="render_mode"):
        DreamEnv(PointMass(), render_mode="human")
    with pytest.raises(ValueError, match="output"):
        DreamVectorEnv(PointMass(), 2, output="jax")
    with pytest.raises(ValueError):
        DreamVectorEnv(PointMass(), 2, autoreset_mode="sometimes")


def test_autoreset_modes_may_be_named_by_their_value():
    assert DreamVectorEnv(PointMass(), 2, autoreset_mode="SameStep").autoreset_mode is AutoresetMode.SAME_STEP


def test_a_dream_is_rewound_through_its_simulator():
    env = DreamEnv(PointMass(), horizon=2)
    env.reset(seed=0)
    saved = env.simulator.get_state()
    first = [env.step([0.5])[0] for _ in range(2)]
    env.simulator.set_state(saved)
    np.testing.assert_array_equal(first, [env.step([0.5])[0] for _ in range(2)])


def test_torch_output_stays_torch_in_the_layout_of_the_space():
    model = ToyWorldModel(Composite(choice=OneHot(3), observation=Unbounded(2)), OneHot(2), noise="normal")
    env = DreamVectorEnv(model, 4, horizon=3, output="torch", autoreset_mode=AutoresetMode.SAME_STEP)
    observation, _ = env.reset(seed=0)
    twin = DreamVectorEnv(model, 4, horizon=3, autoreset_mode=AutoresetMode.SAME_STEP)
    expected, _ = twin.reset(seed=0)
    for _ in range(6):
        for key, value in observation.items():
            assert isinstance(value, torch.Tensor)
            np.testing.assert_array_equal(value.numpy(), expected[key])
        actions = env.action_space.sample()
        observation, *numbers, _ = env.step(torch.as_tensor(actions))
        expected, *arrays, _ = twin.step(actions)
        for number, array in zip(numbers, arrays, strict=True):
            assert number.shape == (4,)
            np.testing.assert_array_equal(number.numpy(), array)


def test_dreams_run_in_gymnasiums_own_vector_env():
    env = SyncVectorEnv([lambda: DreamEnv(PointMass(), horizon=3)] * 2)
    env.reset(seed=0)
    assert [env.step(env.action_space.sample())[3].all() for _ in range(4)] == [False, False, True, False]
