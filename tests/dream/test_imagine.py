"""Imagination: gradients, noise, refusals; agreement with stepping is in tests/contract/test_dream.py."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.drive import some_states
from tests.support.models import PointMass
from wmcomponents.dream import compiled_rollout, imagine, latent_policy, tensordict_policy
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError


@pytest.fixture
def model():
    return ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), noise="normal")


def linear(model):
    torch.manual_seed(0)
    return nn.Linear(2 * model.size, 2)


def test_gradients_reach_policy_start_and_model(model):
    net = linear(model)
    start = {key: value.requires_grad_() for key, value in some_states(model, 4).items()}
    dream = imagine(model, latent_policy(model, net), start, 5, generator=torch.Generator())
    dream["next", "reward"].sum().backward()
    for parameter in (*net.parameters(), model.recur, *start.values()):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_the_same_noise_repeats_the_dream_and_no_noise_is_the_mode(model):
    policy, start = latent_policy(model, linear(model)), some_states(model, 4)
    noise = model.noise_source("imagine")((5, 4), torch.Generator().manual_seed(1))
    drawn = imagine(model, policy, start, 5, generator=torch.Generator().manual_seed(1))
    given = imagine(model, policy, start, 5, noise=noise)
    mode = imagine(model, policy, start, 5)
    assert torch.equal(drawn["z"], given["z"]) and not torch.equal(drawn["z"], mode["z"])
    assert torch.equal(mode["z"], imagine(model, policy, start, 5)["z"])


def test_a_policy_may_read_a_tensordict(model):
    net = linear(model)
    module = TensorDictModule(net, ["latent"], ["action"])
    start = some_states(model, 4)
    one = imagine(model, tensordict_policy(model, module), TensorDict(start, batch_size=[4]), 3)
    other = imagine(model, latent_policy(model, net), start, 3)
    torch.testing.assert_close(one["action"], other["action"])


def test_a_latent_policy_needs_features():
    with pytest.raises(CapabilityError, match="latent policy"):
        latent_policy(PointMass(), nn.Linear(2, 1))


def test_what_the_model_does_not_predict_is_not_there():
    model = ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), parts=("features",))
    dream = imagine(model, latent_policy(model, linear(model)), some_states(model, 2), 2)
    assert set(dream["next"].keys()) == set(model.state_spec.keys())


def test_the_start_is_left_as_it_was(model):
    start = some_states(model, 3)
    before = {key: value.clone() for key, value in start.items()}
    dream = imagine(model, latent_policy(model, linear(model)), start, 2)
    dream["memory"].data.zero_()
    assert all(torch.equal(start[key], before[key]) for key in start)


def test_arguments_that_make_no_sense_are_refused(model):
    policy, start = latent_policy(model, linear(model)), some_states(model, 4)
    with pytest.raises(ValueError, match="at least 1"):
        imagine(model, policy, start, 0)
    with pytest.raises(KeyError, match="lacks.*z"):
        imagine(model, policy, {"memory": start["memory"]}, 2)
    noise = model.noise_source("imagine")((5, 4), torch.Generator())
    for wrong in (6, 4):
        with pytest.raises(ValueError, match="time first"):
            imagine(model, policy, start, wrong, noise=noise)


@pytest.mark.compile
@pytest.mark.slow
def test_a_compiled_rollout_has_the_gradients_of_the_eager_one(model):
    start = some_states(model, 4)
    noise = model.noise_source("imagine")((2, 4), torch.Generator().manual_seed(1))
    gradients = []
    for scan in (None, compiled_rollout()):
        net = linear(model)
        imagine(model, latent_policy(model, net), start, 2, noise=noise, scan=scan)["next", "reward"].sum().backward()
        gradients.append(net.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
