"""What the strategies and the sampler draw fits the specs that it was drawn for."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.testing import strategies
from wmcomponents.testing.compare import difference
from wmcomponents.testing.sampling import draw, global_generators, moved_generators, reseed_globals, untouched_globals


@given(st.data(), strategies.batch_sizes())
def test_observations_fit_their_spec(data, batch):
    spec = data.draw(strategies.observation_specs())
    observation = data.draw(strategies.observations(spec, batch))
    assert set(observation) == set(spec.keys())
    for key, leaf in spec.items():
        assert observation[key].shape == (*batch, *leaf.shape)
        assert observation[key].dtype is leaf.dtype
        assert leaf.is_in(observation[key])


@given(st.data(), strategies.batch_sizes())
def test_actions_fit_their_spec(data, batch):
    spec = data.draw(strategies.action_specs())
    action = data.draw(strategies.actions(spec, batch))
    assert action.shape == (*batch, *spec.shape)
    assert spec.is_in(action)


@given(strategies.batch_sizes(max_dims=3, max_size=2))
def test_batch_sizes_are_small_and_never_empty(batch):
    assert len(batch) <= 3
    assert all(1 <= size <= 2 for size in batch)


@given(strategies.toy_models(), strategies.batch_sizes())
def test_a_toy_model_has_the_parts_it_declares(model, batch):
    state = model.initial_state(batch)
    prediction = model.imagine(state, model.action_spec.zero(torch.Size(batch)), None)
    assert (prediction.reward is not None) == ("reward" in model.capabilities)
    assert (prediction.cont is not None) == ("continue" in model.capabilities)


@given(strategies.seeds())
def test_sampling_repeats_itself_and_leaves_the_global_generators_alone(seed):
    before = global_generators()
    spec = Composite(a=Unbounded(3), b=OneHot(4), c=Bounded(0, 255, (2, 2, 3), dtype=torch.uint8))
    for leaf in spec.values():
        one, two = (draw(leaf, (5,), torch.Generator().manual_seed(seed)) for _ in range(2))
        assert torch.equal(one, two)
    assert not moved_generators(before)


def test_half_bounded_specs_are_sampled_near_their_finite_end():
    drawn = draw(Bounded(0, float("inf"), (100,)), (), torch.Generator().manual_seed(0))
    assert drawn.min() >= 0
    assert drawn.max() < 10


def test_the_global_generators_come_back_whatever_happens_inside():
    before = global_generators()
    with untouched_globals():
        reseed_globals(123)
        torch.rand(1)
        np.random.rand()
        assert set(moved_generators(before)) == {"torch", "numpy.random", "random"}
    assert not moved_generators(before)


def test_rounding_is_no_difference_and_a_leak_is():
    value = torch.tensor([1.0, -2.0, 1e-3])
    assert not difference({"x": value * (1 + 1e-7)}, {"x": value})
    assert "x: 3 of 3 entries differ" in difference({"x": value * 1.001 + 1e-3}, {"x": value})
    assert "missing" in difference({}, {"x": value})
    assert "shape (3, 1) against (3,)" in difference({"x": value[:, None]}, {"x": value})


def test_one_flipped_digit_of_a_large_image_is_no_difference():
    image = torch.full((64, 64, 3), 100, dtype=torch.uint8)
    flipped = image.clone()
    flipped[0, 0, 0] += 1
    assert not difference({"x": flipped}, {"x": image})
    flipped[0, 0, 0] += 1
    assert difference({"x": flipped}, {"x": image})
    assert difference({"x": flipped[:2, :2]}, {"x": image[:2, :2]})
