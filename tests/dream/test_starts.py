"""Where dreams begin."""

import pytest
import torch
from tensordict import TensorDict

from tests.support.drive import sequences, some_states
from tests.support.models import PointMass
from wmcomponents.data.sequences import EmptyReplayError
from wmcomponents.dream import (
    EmptyStartsError,
    FixedStarts,
    MixtureStarts,
    PoolStarts,
    PriorStarts,
    ReplayStarts,
    filtered_states,
)
from wmcomponents.testing.toy import ToyWorldModel


def numbered(count):
    return {"point": torch.arange(count).float()[:, None].repeat(1, 2)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    from torchrl.data import Bounded, Composite, Unbounded

    return ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), noise="normal")


def test_a_pool_is_drawn_from_uniformly_and_with_replacement():
    drawn = PoolStarts(numbered(3)).sample(3000, generator())["point"][:, 0]
    counts = torch.bincount(drawn.long())
    assert counts.shape == (3,) and (counts - 1000).abs().max() < 120


def test_fixed_states_come_in_order_and_over_again():
    assert FixedStarts(numbered(3)).sample(5, generator())["point"][:, 0].tolist() == [0, 1, 2, 0, 1]


def test_starts_are_fresh_tensors():
    states = numbered(3)
    for starts in (PoolStarts(states), FixedStarts(states), PriorStarts(PointMass(), 0), PriorStarts(PointMass())):
        starts.sample(2, generator())["point"].fill_(99)
    assert states["point"].max() == 2


def test_a_mixture_draws_by_weight():
    low, high = FixedStarts(numbered(1)), FixedStarts({"point": torch.ones(1, 2)})
    drawn = MixtureStarts([low, high], [1, 3]).sample(4000, generator())["point"][:, 0].mean()
    assert abs(drawn - 0.75) < 0.03
    assert MixtureStarts([low, high], [0, 1]).sample(9, generator())["point"].min() == 1


@pytest.mark.parametrize("sources, weights", [([], None), ([1], [0.0]), ([1], [-1.0]), ([1], [1.0, 1.0])])
def test_a_mixture_without_sense_is_refused(sources, weights):
    with pytest.raises(ValueError, match="mixture"):
        MixtureStarts([FixedStarts(numbered(1)) for _ in sources], weights)


@pytest.mark.parametrize("states", [{}, {"point": torch.zeros(0, 2)}, {"a": torch.zeros(2, 1), "b": torch.zeros(3, 1)}])
def test_no_states_to_start_from_is_an_error_of_its_own(states):
    for kind in (PoolStarts, FixedStarts):
        with pytest.raises(EmptyStartsError, match="Collect data first"):
            kind(states)


def test_the_prior_imagines_from_the_initial_state(model):
    starts = PriorStarts(model, steps=2)
    state, source, noise = model.initial_state((3,)), model.noise_source("imagine"), generator(4)
    for _ in range(2):
        state = model.imagine(state, torch.zeros(3, 2), source((3,), noise)).state
    drawn = starts.sample(3, generator(4))
    assert all(torch.equal(drawn[key], state[key]) for key in state)
    assert not PriorStarts(model, steps=0).sample(3, generator())["memory"].any()


def test_filtered_states_are_those_of_the_filter_with_actions_shifted(model):
    data = sequences(model, batch=2, time=4)
    states = filtered_states(model, data)
    state = model.initial_state((2,))
    action = torch.zeros(2, 2)
    with torch.no_grad():
        for t in range(4):
            observation = {"observation": data["observation"][:, t]}
            state = model.observe(state, action, observation, data["is_init"][:, t], None)
            action = data["action"][:, t]
            for key in state:
                torch.testing.assert_close(states[key][:, t], state[key])


def test_replay_starts_keep_what_comes_after_the_burn_in(model):
    data = sequences(model, batch=3, time=5)
    last = ReplayStarts(model, lambda: data, pool_size=3, seed=0).pool
    assert last["memory"].shape == (3, 8)
    later = ReplayStarts(model, lambda: data, pool_size=6, burn_in=3, seed=0).pool
    assert later["memory"].shape == (6, 8)
    torch.testing.assert_close(later["memory"][1::2], last["memory"], rtol=1e-4, atol=1e-4)


def test_a_refresh_fills_the_pool_with_the_model_as_it_is_now(model):
    data = sequences(model)
    starts = ReplayStarts(model, lambda: data, pool_size=3)
    before = starts.pool["memory"].clone()
    with torch.no_grad():
        model.recur.add_(1.0)
    assert torch.equal(starts.pool["memory"], before)
    assert starts.refresh() is starts and not torch.equal(starts.pool["memory"], before)


def test_replay_starts_that_cannot_be_say_why(model):
    with pytest.raises(ValueError, match="burn_in=5.*length 5"):
        ReplayStarts(model, lambda: sequences(model), burn_in=5).pool  # noqa: B018
    nothing = sequences(model)[:0]
    with pytest.raises(EmptyStartsError):
        ReplayStarts(model, lambda: nothing).sample(1, generator())

    def empty() -> TensorDict:
        raise EmptyReplayError("empty")

    with pytest.raises(EmptyReplayError):
        ReplayStarts(model, empty).sample(1, generator())


def test_starts_of_a_pool_are_states_of_the_pool(model):
    pool = some_states(model, 4)
    drawn = PoolStarts(pool).sample(9, generator())
    for row in drawn["memory"]:
        assert (pool["memory"] == row).all(1).any()
