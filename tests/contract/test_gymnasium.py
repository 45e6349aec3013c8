"""Clauses of gymnasium.Env and gymnasium.vector.VectorEnv, for every model."""

import inspect

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torchrl.envs.libs.gym import GymWrapper

from tests.support.drive import some_states, view_of, views
from tests.support.observations import equal, leaves
from wmcomponents.dream import FixedStarts, NotFiniteError, PoolStarts
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv, StepAfterDoneError

MODES = list(AutoresetMode)


def env_of(model, view=None, horizon=5, **options):
    return DreamEnv(model, view=view or view_of(model), horizon=horizon, **options)


def vector_of(model, rows=4, view=None, horizon=3, **options):
    starts = PoolStarts(some_states(model, 6))
    return DreamVectorEnv(model, rows, starts=starts, view=view or view_of(model), horizon=horizon, **options)


def played(env, steps=8, seed=3):
    """Everything an environment shows under a seed."""
    shown = [env.reset(seed=seed)[0]]
    env.action_space.seed(0)
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        shown.append((observation, reward, terminated, truncated))
        if isinstance(env, DreamEnv) and (terminated or truncated):
            shown.append(env.reset()[0])
    return shown


def same(one, other):
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return equal(one, other) if isinstance(one, (dict, np.ndarray)) else one == other


@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")  # the real env's is kept
def test_gymnasium_check_env_passes_in_every_view(model):
    for view in views(model):
        check_env(env_of(model, view), skip_render_check=True)


def test_a_reset_is_reproducible_and_so_is_the_unseeded_one_after_it(model):
    shown = []
    for garbage in (1, 2):
        torch.manual_seed(garbage)
        env = env_of(model, starts=PoolStarts(some_states(model, 6)))
        torch.manual_seed(garbage)
        first = env.reset(seed=123)[0]
        shown.append((first, env.reset()[0], played(env)))
    assert same(*shown)


def test_reset_takes_options_and_gives_a_dict(model):
    env = env_of(model)
    observation, info = env.reset(options={})
    assert info == {} and env.observation_space.contains(observation)
    assert not hasattr(env, "seed") and set(inspect.signature(env.reset).parameters) == {"seed", "options"}


def test_step_gives_plain_python_numbers_and_arrays_of_the_exact_dtype(model):
    for view in views(model):
        env = env_of(model, view, horizon=2)
        env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool and info == {}
        for value in leaves(observation):
            assert isinstance(value, (np.ndarray, np.generic))


def test_a_finished_episode_must_be_reset(model):
    env = env_of(model, horizon=1)
    with pytest.raises(StepAfterDoneError, match="reset"):
        env.step(env.action_space.sample())
    env.reset()
    assert env.step(env.action_space.sample())[3] is True
    with pytest.raises(StepAfterDoneError, match="reset"):
        env.step(env.action_space.sample())


def test_render_draws_rgb_and_close_may_be_called_twice(model):
    env = env_of(model, render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3
    env.close()
    env.close()
    vector = vector_of(model, render_mode="rgb_array")
    vector.reset()
    frames = vector.render()
    assert isinstance(frames, tuple) and len(frames) == 4 and frames[0].shape[-1] == 3
    vector.close()
    vector.close()


def test_vector_attributes_are_what_gymnasium_and_torchrl_read(model):
    for mode in MODES:
        env = vector_of(model, autoreset_mode=mode)
        assert env.num_envs == 4 and env.spec is None and env.render_mode is None
        assert env.metadata["autoreset_mode"] is mode and env.autoreset_mode is mode
        batched = gymnasium.vector.utils.batch_space
        assert env.observation_space == batched(env.single_observation_space, 4)
        assert env.action_space == batched(env.single_action_space, 4)
        assert "torch" not in env.metadata


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_vector_steps_have_the_layout_of_the_contract(model, mode):
    for view in views(model):
        env = vector_of(model, view=view, autoreset_mode=mode, horizon=50, termination="off")
        observation, info = env.reset(seed=0)
        assert env.observation_space.contains(observation) and info == {}
        observation, rewards, ends, cuts, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert rewards.shape == ends.shape == cuts.shape == (4,)
        assert rewards.dtype == np.float32 and ends.dtype == cuts.dtype == np.bool_ and info == {}


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_same_step_returns_the_reset_observation_and_the_final_one_exactly_then(model, output):
    env = vector_of(model, autoreset_mode=AutoresetMode.SAME_STEP, horizon=3, output=output)
    env.reset(seed=0)
    for _ in range(7):
        observation, _, ends, cuts, infos = env.step(env.action_space.sample())
        done = np.asarray(ends) | np.asarray(cuts)
        assert ("final_obs" in infos) == ("_final_obs" in infos) == ("final_info" in infos) == bool(done.any())
        if done.any():
            assert np.array_equal(np.asarray(infos["_final_obs"]), done)
            assert np.array_equal(np.asarray(infos["_final_info"]), done)
            final = infos["final_obs"]
            row = int(done.argmax())
            last = final[row] if not isinstance(final, dict) else {key: value[row] for key, value in final.items()}
            now = {k: v[row] for k, v in observation.items()} if isinstance(observation, dict) else observation[row]
            assert all(np.shape(a) == np.shape(b) for a, b in zip(leaves(last), leaves(now), strict=True))
            if output == "numpy":
                assert env.single_observation_space.contains(last)
                assert all(final[i] is None for i in np.flatnonzero(~done))
        elapsed = env.simulator.elapsed.flatten().numpy()
        assert (elapsed[done] == 0).all() and (elapsed[~done] > 0).all()


def test_next_step_restarts_at_the_step_after_and_ignores_its_action(model):
    shown = []
    for seed in (0, 1):
        env = vector_of(model, autoreset_mode=AutoresetMode.NEXT_STEP, horizon=2, termination="off")
        env.reset(seed=0)
        env.action_space.seed(5)
        for _ in range(2):
            observation, _, ends, cuts, _ = env.step(env.action_space.sample())
        assert cuts.all() and not ends.any()
        env.action_space.seed(seed)
        observation, rewards, ends, cuts, infos = env.step(env.action_space.sample())
        assert not rewards.any() and not ends.any() and not cuts.any() and infos == {}
        assert not env.simulator.elapsed.any()
        shown.append(observation)
    assert equal(*shown)


def test_next_step_restarts_only_the_rows_that_were_done(model):
    env = vector_of(model, autoreset_mode=AutoresetMode.NEXT_STEP, horizon=3, termination="off")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.reset(options={"reset_mask": np.array([True, False, False, False])})
    env.step(env.action_space.sample())
    *_, cuts, _ = env.step(env.action_space.sample())
    assert cuts.tolist() == [False, True, True, True]
    _, rewards, _, cuts, _ = env.step(env.action_space.sample())
    assert not rewards[1:].any() and cuts.tolist() == [True, False, False, False]
    assert env.simulator.elapsed.flatten().tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_disabled_waits_for_the_mask(model, output):
    env = vector_of(model, autoreset_mode=AutoresetMode.DISABLED, horizon=2, termination="off", output=output)
    with pytest.raises(StepAfterDoneError):
        env.step(env.action_space.sample())
    with pytest.raises(ValueError, match="first reset"):
        env.reset(options={"reset_mask": np.array([True, True, True, False])})
    env.reset(options={"reset_mask": np.ones(4, dtype=bool)})
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.step(env.action_space.sample())
    with pytest.raises(StepAfterDoneError, match=r"\[0, 1, 2, 3\]"):
        env.step(env.action_space.sample())
    env.reset(options={"reset_mask": np.array([True, True, False, True])})
    with pytest.raises(StepAfterDoneError, match=r"\[2\]"):
        env.step(env.action_space.sample())
    before = {key: value.clone() for key, value in env.simulator.state.items()}
    env.reset(options={"reset_mask": np.array([False, False, True, False])})
    for key, value in env.simulator.state.items():
        assert torch.equal(value[[0, 1, 3]], before[key][[0, 1, 3]])
    env.step(env.action_space.sample())
    for mask in (np.zeros(4, dtype=bool), np.ones(4), np.ones(3, dtype=bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})


def test_seeds_come_as_none_as_an_integer_or_as_a_list(model):
    env = vector_of(model)
    assert same(played(env, seed=3), played(env, seed=3))
    assert same(played(env, seed=[1, None, 2, 3]), played(env, seed=[1, None, 2, 3]))
    env.reset(seed=[None] * 4)
    env.reset(seed=None)
    with pytest.raises(ValueError, match="one for each"):
        env.reset(seed=[1, 2])


def test_a_list_of_other_seeds_is_another_dream(model):
    env = vector_of(model, rows=16)
    one, other = env.reset(seed=list(range(16)))[0], env.reset(seed=list(range(1, 17)))[0]
    assert not equal(one, other)


def test_arrays_belong_to_the_caller(model):
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env, witness = (vector_of(model, autoreset_mode=mode) for _ in range(2))
        for value in leaves(env.reset(seed=0)[0]):
            value.fill(0)
        witness.reset(seed=0)
        for step in range(5):
            env.action_space.seed(step)
            action = env.action_space.sample()
            ours, theirs = env.step(action.copy()), witness.step(action)
            assert same(ours[:4], theirs[:4])
            for value in (*leaves(ours[0]), *ours[1:4]):
                value.fill(0)


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_one_row_is_the_single_env_under_the_same_seed_through_all_its_ends(model, mode, output):
    options = {"horizon": 2, "view": view_of(model), "starts": PoolStarts(some_states(model, 6))}
    single, vector = DreamEnv(model, **options), DreamVectorEnv(model, 1, autoreset_mode=mode, output=output, **options)
    single.action_space.seed(0)
    one, many = single.reset(seed=7)[0], vector.reset(seed=7)[0]
    for _ in range(5):
        for a, b in zip(leaves(one), leaves(many), strict=True):
            np.testing.assert_array_equal(a, b[0])
        action = single.action_space.sample()
        one, reward, end, cut, _ = single.step(action)
        many, rewards, ends, cuts, infos = vector.step(np.asarray(action)[None])
        assert (reward, end, cut) == (rewards[0], ends[0], cuts[0])
        if end or cut:
            if mode is AutoresetMode.NEXT_STEP:
                many, rewards, ends, cuts, _ = vector.step(np.asarray(action)[None])
                assert (rewards[0], ends[0], cuts[0]) == (0.0, False, False)
            elif mode is AutoresetMode.DISABLED:
                many = vector.reset(options={"reset_mask": np.array([True])})[0]
            one = single.reset()[0]


def test_two_environments_without_a_seed_dream_apart(model):
    if model.noise_source("imagine").empty:
        pytest.skip("nothing is random")

    def dreamt(env):
        first = env.reset()[0]
        return [first, *(env.step(np.stack([env.single_action_space.sample()] * 4))[0] for _ in range(2))]

    envs = [DreamVectorEnv(model, 4, view=views(model)[-1], termination="off") for _ in range(2)]
    for env in envs:
        env.single_action_space.seed(0)
    assert not same(*map(dreamt, envs))


def test_the_generator_of_an_environment_is_there_before_its_first_reset(model):
    for env in (env_of(model), vector_of(model)):
        assert isinstance(env.np_random, np.random.Generator) and isinstance(env.np_random_seed, int)
        env.reset()
    pool = PoolStarts(some_states(model, 6))
    for make in (lambda model: env_of(model, starts=pool), vector_of):
        envs = [make(model) for _ in range(2)]
        for env in envs:
            env.np_random = np.random.default_rng(5)
            assert env.np_random_seed == -1
            env.reset()
        assert torch.equal(*(env.simulator.generator.get_state() for env in envs))
        envs[0].reset()
        assert not torch.equal(*(env.simulator.generator.get_state() for env in envs))


def test_rows_are_asked_as_gymnasiums_own_vector_envs_are_asked(model):
    env = vector_of(model, rows=2, render_mode="rgb_array")
    assert env.get_attr("render_mode") == ("rgb_array",) * 2
    assert env.call("action_space") == (env.single_action_space,) * 2
    assert env.get_attr("observation_space") == (env.single_observation_space,) * 2
    env.set_attr("note", 5)
    assert env.get_attr("note") == env.call("note") == (5, 5)
    env.set_attr("note", [7, 7])
    assert env.note == 7
    for differing in ([1, 2], (1, 1, 1)):
        with pytest.raises(ValueError, match="rows are one dream"):
            env.set_attr("note", differing)
    env.reset(seed=0)
    frames = env.call("render")
    assert len(frames) == 2 and frames[0].ndim == 3
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        env.get_attr("nothing_of_this_name")


def test_a_model_that_shows_what_is_not_finite_is_named(model):
    calls = {
        "single": (env_of(model, horizon=None), lambda env: env.step(env.action_space.sample())),
        "vector": (vector_of(model, horizon=None), lambda env: env.step(env.action_space.sample())),
        "torch": (vector_of(model, horizon=None, output="torch"), lambda env: env.step(env.action_space.sample())),
    }
    for env, step in calls.values():
        env.reset(seed=0)
        imagine = env.simulator.rules.imagine
        env.simulator.rules.imagine = lambda *given, imagine=imagine: _spoilt(imagine(*given))
        with pytest.raises(NotFiniteError, match=r"'reward' is not finite in rows \[0\]"):
            step(env)


def _spoilt(prediction):
    reward = prediction.reward.clone()
    reward[0] = float("nan")
    return prediction._replace(reward=reward)


def test_permuted_rows_give_the_permuted_dream(model):
    if not model.noise_source("imagine").empty:
        pytest.skip("rows share one generator; under the same noise, see test_dream")
    state, order = some_states(model, 4), np.array([2, 0, 3, 1])
    options = {"horizon": 9, "view": view_of(model), "termination": "off"}  # its draws come from that generator too
    here = DreamVectorEnv(model, 4, starts=FixedStarts(state), **options)
    permuted = FixedStarts({key: value[torch.from_numpy(order)] for key, value in state.items()})
    there = DreamVectorEnv(model, 4, starts=permuted, **options)
    one, other = here.reset(seed=0)[0], there.reset(seed=0)[0]
    for _ in range(4):
        np.testing.assert_allclose(one[order], other, rtol=1e-6)
        action = here.action_space.sample()
        one, other = here.step(action)[0], there.step(action[order])[0]


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED], ids=["SAME_STEP", "DISABLED"])
def test_torchrl_wraps_the_vector_env(model, mode, output):
    env = GymWrapper(vector_of(model, autoreset_mode=mode, output=output, termination="off"))
    shown = env.rollout(7, break_when_any_done=False)
    assert shown.batch_size == (4, 7)
    assert shown["next", "done"].squeeze(-1)[0].tolist() == [False, False, True] * 2 + [False]


def test_gymnasium_wrappers_of_vector_envs_work_around_next_step(model):
    from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics

    env = vector_of(model, horizon=3, termination="off")
    if isinstance(env.single_observation_space, gymnasium.spaces.Box) and len(env.single_observation_space.shape) == 1:
        env = NormalizeObservation(env)
    env = RecordEpisodeStatistics(env)
    env.reset(seed=0)
    lengths = []
    for _ in range(8):
        *_, infos = env.step(env.action_space.sample())
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
    assert lengths == [3] * 8
