"""The simulator, its start states and imagination, for every model."""

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict

from tests.support.drive import STARTS, actions, assert_same, differ, sequences, some_states, views
from tests.support.models import MODELS
from wmcomponents.dream import PoolStarts, Simulator, compiled_rollout, filtered_states, imagine


def is_random(model) -> bool:
    return not model.noise_source("imagine").empty


def dream(simulator, model, steps=6, seed=0):
    """Observations, rewards and flags of a dream under fixed actions; finished rows go on."""
    seen = [simulator.step(actions(model, simulator.batch_size, seed=seed + step)) for step in range(steps)]
    names = ("reward", "terminated", "truncated")
    told = {name: torch.stack([getattr(step, name) for step in seen]) for name in names}
    return {key: torch.stack([step.observation[key] for step in seen]) for key in seen[0].observation} | told


def test_every_view_shows_what_its_spec_says(model):
    for view in views(model):
        simulator = Simulator(model, batch_size=3, horizon=4, view=view)
        spec = simulator.observation_spec.expand(3)
        assert spec.is_in(TensorDict(simulator.reset(), batch_size=[3]))
        for step in range(6):
            observation, reward, terminated, truncated = simulator.step(actions(model, 3, seed=step))
            assert spec.is_in(TensorDict(observation, batch_size=[3]))
            assert reward.shape == (3, 1) and reward.dtype is torch.float32 and reward.isfinite().all()
            assert terminated.shape == truncated.shape == (3, 1)
            assert terminated.dtype is truncated.dtype is torch.bool
            assert torch.equal(simulator.done, terminated | truncated)


@pytest.mark.parametrize("kind", STARTS)
def test_every_kind_of_starts_begins_dreams_of_any_size(model, kind):
    starts = STARTS[kind](model)
    for count in (1, 5, 12):
        state = starts.sample(count, torch.Generator().manual_seed(0))
        assert {key: value.shape for key, value in state.items()} == {
            key: (count, *leaf.shape) for key, leaf in model.state_spec.items()
        }
        simulator = Simulator(model, starts, batch_size=count, view=views(model)[0])
        simulator.reset()
        simulator.step(actions(model, count))


@pytest.mark.parametrize("kind", ["prior", "pool", "fixed", "mixture", "replay"])
def test_same_seed_same_dream_whatever_torch_drew_before(model, kind):
    dreams = []
    for noise_of_the_world in (1, 2):
        torch.manual_seed(noise_of_the_world)
        simulator = Simulator(model, STARTS[kind](model), batch_size=4, horizon=3, view=views(model)[0])
        simulator.seed(5)
        simulator.reset()
        dreams.append(dream(simulator, model))
    assert_same(*dreams, rtol=0, atol=0)


def test_another_seed_another_dream(model):
    if not is_random(model):
        pytest.skip("the model is deterministic")
    dreams = []
    for seed in (1, 2):
        simulator = Simulator(model, batch_size=4, view=views(model)[-1], seed=seed)
        simulator.reset()
        dreams.append(dream(simulator, model))
    assert differ(*dreams)


def test_a_fork_under_the_same_noise_has_the_same_future_and_its_own_fate(model):
    simulator = Simulator(model, PoolStarts(some_states(model, 6)), batch_size=4, horizon=5, view=views(model)[0])
    simulator.reset()
    dream(simulator, model, steps=2)
    twin = simulator.fork()
    before = {key: value.clone() for key, value in simulator.state.items()}
    future = dream(twin, model, seed=50)
    assert_same(simulator.state, before, rtol=0, atol=0)
    assert_same(dream(simulator, model, seed=50), future, rtol=0, atol=0)


def test_copies_of_a_fork_stand_beside_each_other(model):
    simulator = Simulator(model, PoolStarts(some_states(model, 6)), batch_size=2, horizon=5, view=views(model)[0])
    simulator.reset()
    dream(simulator, model, steps=2)
    twin = simulator.fork(3)
    for key, value in simulator.state.items():
        assert torch.equal(twin.state[key], value.repeat_interleave(3, 0))
    assert torch.equal(twin.elapsed, simulator.elapsed.repeat_interleave(3, 0))
    observation = twin.step(actions(model, 6)).observation
    assert next(iter(observation.values())).shape[0] == 6


def test_going_back_repeats_the_future_even_through_a_pickle(model):
    simulator = Simulator(model, PoolStarts(some_states(model, 6)), batch_size=4, horizon=4, view=views(model)[0])
    simulator.reset()
    dream(simulator, model, steps=2)
    saved = simulator.get_state()
    through_a_pickle = pickle.loads(pickle.dumps(saved))
    future, done = dream(simulator, model, seed=9), simulator.done
    for state in (saved, through_a_pickle):
        simulator.set_state(state)
        assert_same(dream(simulator, model, seed=9), future, rtol=0, atol=0)
        assert torch.equal(simulator.done, done)
    other = Simulator(model, batch_size=4, horizon=4, view=views(model)[0], seed=77)
    other.set_state(saved)
    assert_same(dream(other, model, seed=9), future, rtol=0, atol=0)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"])
def test_a_copied_simulator_dreams_the_same(clone):
    model = MODELS[1][1]()
    simulator = Simulator(model, PoolStarts(some_states(model, 6)), batch_size=4, horizon=4)
    simulator.reset()
    other = clone(simulator)
    assert other.model is not model
    assert_same(dream(simulator, model), dream(other, model), rtol=0, atol=0)


def test_a_masked_reset_leaves_other_rows_alone(model):
    simulator = Simulator(model, PoolStarts(some_states(model, 6)), batch_size=4, horizon=9, view=views(model)[0])
    simulator.reset()
    dream(simulator, model, steps=3)
    before = {key: value.clone() for key, value in simulator.state.items()}
    mask = torch.tensor([True, False, False, True])
    simulator.reset(mask)
    for key, value in simulator.state.items():
        assert torch.equal(value[~mask], before[key][~mask])
    assert simulator.elapsed.flatten().tolist() == [0, 3, 3, 0]


def test_nothing_handed_out_shares_memory_with_what_is_kept(model):
    for view in views(model):
        simulator = Simulator(model, PoolStarts(some_states(model, 6)), batch_size=4, horizon=3, view=view)
        witness = simulator.fork()
        for tensor in simulator.reset().values():
            tensor.zero_()
        witness.set_state(simulator.get_state())
        for step in range(5):
            action = actions(model, 4, seed=step)
            ours, theirs = simulator.step(action.clone()), witness.step(action)
            assert_same(ours.observation, theirs.observation, rtol=0, atol=0)
            for tensor in (*ours.observation.values(), *ours[1:]):
                tensor.zero_()
            assert torch.equal(simulator.done, witness.done)


def test_rows_do_not_see_each_other(model):
    """The permuted batch gives the permuted dream: same states, same actions, noise of mode."""
    state = some_states(model, 5)
    action, order = actions(model, 5), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        here = model.imagine(state, action, None)
        there = model.imagine({key: value[order] for key, value in state.items()}, action[order], None)
    assert_same({key: value[order] for key, value in here.state.items()}, there.state, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(here.reward[order], there.reward, rtol=1e-5, atol=1e-5)


def policy_of(model):
    """A deterministic policy over states, for any leading dims."""
    first, leaf = next(iter(model.state_spec.items()))
    spec, width = model.action_spec, leaf.shape.numel()

    def act(state):
        flat = state[first].flatten(-leaf.ndim) if leaf.ndim else state[first].unsqueeze(-1)
        score = torch.tanh(flat.sum(-1) / width)
        if spec.dtype.is_floating_point:
            return (
                score.unsqueeze(-1).expand(*score.shape, spec.shape.numel()).reshape(*score.shape, *spec.shape).clone()
            )
        choice = ((score + 1) / 2 * (spec.space.n - 1)).round().long()
        if spec.shape:
            return torch.nn.functional.one_hot(choice, spec.space.n).to(spec.dtype)
        return choice

    return act


def test_imagine_agrees_at_every_batch(model):
    state = some_states(model, 6)
    noise = model.noise_source("imagine")((4, 6), torch.Generator().manual_seed(3))
    flat = imagine(model, policy_of(model), state, 4, noise=noise)
    assert flat.batch_size == (6, 4)
    shaped = imagine(
        model,
        policy_of(model),
        {key: value.unflatten(0, (2, 3)) for key, value in state.items()},
        4,
        noise={key: value.unflatten(1, (2, 3)) for key, value in noise.items()},
    )
    assert shaped.batch_size == (2, 3, 4)
    single = imagine(
        model,
        policy_of(model),
        {key: value[1] for key, value in state.items()},
        4,
        noise={key: value[:, 1] for key, value in noise.items()},
    )
    assert single.batch_size == (4,)
    for key in flat.keys(True, True):
        torch.testing.assert_close(flat[key].unflatten(0, (2, 3)), shaped[key], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(flat[key][1], single[key], rtol=1e-5, atol=1e-5)


def test_imagine_is_what_stepping_gives(model):
    state = some_states(model, 3)
    noise = model.noise_source("imagine")((3, 3), torch.Generator().manual_seed(3))
    trajectory = imagine(model, policy_of(model), state, 3, noise=noise)
    assert set(trajectory.keys()) == {*model.state_spec.keys(), "action", "next"}
    for t in range(3):
        action = policy_of(model)(state)
        torch.testing.assert_close(trajectory["action"][:, t], action)
        assert_same({key: trajectory[key][:, t] for key in state}, state)
        state, reward, cont = model.imagine(state, action, {key: value[t] for key, value in noise.items()})
        assert_same({key: trajectory["next", key][:, t] for key in state}, state)
        torch.testing.assert_close(trajectory["next", "reward"][:, t], reward)
        torch.testing.assert_close(trajectory["next", "continue"][:, t], cont)


def assert_compiled_is_eager(model, horizon, **options):
    state = some_states(model, 5)
    noise = model.noise_source("imagine")((horizon, 5), torch.Generator().manual_seed(3))
    policy = policy_of(model)
    with torch.no_grad():
        eager = imagine(model, policy, state, horizon, noise=noise)
        compiled = imagine(model, policy, state, horizon, noise=noise, scan=compiled_rollout(**options))
    for key in eager.keys(True, True):
        torch.testing.assert_close(compiled[key], eager[key], rtol=1e-4, atol=1e-5)


@pytest.mark.compile
def test_imagination_is_one_graph_without_a_break(model):
    assert_compiled_is_eager(model, 1, backend="eager")


@pytest.mark.slow
@pytest.mark.compile
def test_compiled_imagination_is_the_eager_one(model):
    assert_compiled_is_eager(model, 1)


def test_the_filter_over_fake_data_gives_states_of_the_spec(model):
    states = filtered_states(model, sequences(model), generator=torch.Generator().manual_seed(0))
    assert {key: value.shape for key, value in states.items()} == {
        key: (3, 5, *leaf.shape) for key, leaf in model.state_spec.items()
    }


def test_a_sequence_from_the_middle_of_an_episode_begins_with_its_first_frame(model):
    data = sequences(model, batch=2, time=3)
    from_start, from_middle = data.clone(), data.clone()
    from_start["is_init"][:, 0], from_middle["is_init"][:, 0] = True, False
    expected = filtered_states(model, from_start)
    for key, value in filtered_states(model, from_middle).items():
        assert torch.equal(value, expected[key])
