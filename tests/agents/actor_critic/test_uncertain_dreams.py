"""Actor-critics in dreams that charge for what the model does not know, end there, or seek it."""

import copy

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.line_world import Walk
from tests.support.two_arms import TwoArms, sequences
from wmcomponents.agents import DreamerV3Agent
from wmcomponents.agents.actor_critic import (
    ImaginationAgent,
    diamond_loss,
    dreamer_v1_loss,
    dreamer_v2_loss,
    dreamer_v3_loss,
)
from wmcomponents.dream import Bonus, Disagreement, Exploration, Halt, Penalty, Uncertainty
from wmcomponents.dream.experience import Experience
from wmcomponents.models import DreamerV3, DreamerV3Config, Ensemble
from wmcomponents.world_model import CapabilityError

NUMBER, CHOICE = Bounded(-2.0, 2.0, (1,)), OneHot(3)
SIZES = {"deter": 8, "hidden": 8, "groups": 2, "classes": 2, "units": 8, "blocks": 1, "layers": 1, "bins": 11}


def second(model, state, action):
    """Nothing is known of what the second choice leads to."""
    return action[..., 1].float()


def starts(rows=16, **known):
    generator = torch.Generator().manual_seed(0)
    return TensorDict({"place": torch.randn(rows, 1, generator=generator), **known}, [rows])


def dreams(paper=dreamer_v3_loss, model=None, **changes):
    """A dream with and without looking at its uncertainty."""
    torch.manual_seed(0)
    loss = paper(Walk(CHOICE) if model is None else model, units=8, horizon=4, **changes)
    judged = loss.dream(starts(reward=torch.ones(16, 1)))
    loss.generator.manual_seed(0)
    loss.uncertainty = None
    return judged, loss.dream(starts(reward=torch.ones(16, 1)))


@pytest.mark.parametrize(("rule", "scale", "own"), [(Penalty(3.0), -3.0, 1.0), (Bonus(2.0), 2.0, 1.0)])
def test_uncertainty_is_charged_and_paid_step_by_step(rule, scale, own):
    judged, plain = dreams(uncertainty=Uncertainty(second, reward=rule))
    unknown = judged.vector[..., 1]
    assert torch.equal(judged.uncertainty, unknown) and plain.uncertainty is None and unknown.any()
    assert torch.equal(judged.vector, plain.vector) and torch.equal(judged.cont, plain.cont)
    torch.testing.assert_close(judged.reward[:, 1:], plain.reward[:, 1:] + scale * unknown)
    assert bool((judged.reward[:, 0] == own).all())  # a real reward is known


def test_an_exploration_bonus_takes_the_place_of_every_reward_also_in_the_start():
    judged, _ = dreams(uncertainty=Uncertainty(second, reward=Exploration(2.0)))
    torch.testing.assert_close(judged.reward[:, 1:], 2.0 * judged.vector[..., 1])
    assert not judged.reward[:, 0].any()


def test_a_dream_is_over_where_it_is_halted():
    judged, plain = dreams(uncertainty=Uncertainty(second, halt=Halt(0.5, -7.0)))
    halted = judged.vector[..., 1] == 1
    assert bool((judged.cont[:, 1:][halted] == 0).all()) and bool((judged.reward[:, 1:][halted] == -7).all())
    assert torch.equal(judged.cont[:, 1:][~halted], plain.cont[:, 1:][~halted])
    assert torch.equal(judged.reward[:, 1:][~halted], plain.reward[:, 1:][~halted])


@pytest.mark.parametrize("paper", [dreamer_v2_loss, dreamer_v3_loss])
def test_an_actor_goes_where_nothing_is_known_if_that_alone_pays(paper):
    torch.manual_seed(0)
    loss = paper(Walk(CHOICE, reward=False), units=16, horizon=4, uncertainty=Uncertainty(second, reward=Exploration()))
    optimizer = loss.make_optimizer(lr=1e-2, warmup=1)
    for step in range(30):
        found = loss(starts())
        optimizer.zero_grad()
        (found["loss_actor"] + found["loss_critic"]).backward()
        optimizer.step()
        loss.after_update(step)
    assert float(found["uncertainty"]) > 0.8
    assert ImaginationAgent(loss).needs.capabilities == ("features",)


def test_a_bonus_has_a_gradient_through_the_dream():
    def spread(model, state, action):
        return (state["place"] + action).square()

    torch.manual_seed(0)
    options = {"units": 8, "horizon": 3, "uncertainty": Uncertainty(spread, reward=Exploration())}
    loss = dreamer_v1_loss(Walk(NUMBER, reward=False), **options)
    loss(starts())["loss_actor"].backward()
    assert loss.actor.out.weight.grad.abs().sum() > 1e-4 and loss.critic.out.weight.grad is None
    assert loss.world_model.gain.grad is None


def test_dreamer_v3_explores_by_the_disagreement_of_an_ensemble():
    specs = Composite(observation=Unbounded(3)), OneHot(2)
    ensemble = Ensemble.of(lambda: DreamerV3(DreamerV3Config.tiny(**SIZES), *specs), members=2, seed=0)
    seeking = Uncertainty(Disagreement(), reward=Exploration())
    agent = DreamerV3Agent.behaviour_in(
        ensemble, units=8, horizon=2, dreams=8, replay_scale=0.0, uncertainty=seeking
    )  # fmt: skip
    found = agent.learn(Experience(ensemble))
    assert found["uncertainty"] > 0 and all(torch.isfinite(torch.tensor(value)) for value in found.values())
    twins = Ensemble([ensemble.members[0], copy.deepcopy(ensemble.members[0])])
    alike = DreamerV3Agent.behaviour_in(twins, units=8, horizon=2, dreams=8, replay_scale=0.0, uncertainty=seeking)
    assert alike.learn(Experience(twins))["uncertainty"] == 0


def test_what_a_model_cannot_tell_is_refused_and_so_is_a_critic_of_two_rewards():
    with pytest.raises(CapabilityError, match="Disagreement needs members"):
        dreamer_v3_loss(Walk(CHOICE), uncertainty=Uncertainty())
    with pytest.raises(CapabilityError, match="Disagreement needs members"):
        diamond_loss(TwoArms(), units=8, uncertainty=Uncertainty())
    with pytest.raises(CapabilityError, match="reward"):
        dreamer_v3_loss(Walk(CHOICE, reward=False), uncertainty=Uncertainty(second, reward=Penalty()))
    with pytest.raises(ValueError, match="one number a row"):
        dreamer_v3_loss(Walk(CHOICE), uncertainty=Uncertainty(lambda model, state, action: action.float()))
    loss = dreamer_v3_loss(Walk(CHOICE), units=8, uncertainty=Uncertainty(second, reward=Bonus()))
    with pytest.raises(ValueError, match="replay_scale=0"):
        ImaginationAgent(loss, replay_scale=0.3)


def test_a_recurrent_actor_critic_is_charged_behind_what_is_made_of_its_rewards():
    torch.manual_seed(0)
    model = TwoArms()
    options = {"units": 16, "horizon": 5, "reward": lambda reward: 10.0 * reward}
    loss = diamond_loss(model, uncertainty=Uncertainty(second, reward=Penalty(3.0)), **options)
    dreamt = loss.dream(sequences(model))
    arm = dreamt.action.float()
    assert torch.equal(dreamt.uncertainty, arm) and 0 < float(arm.mean()) < 1
    torch.testing.assert_close(dreamt.reward, 10.0 * arm - 3.0 * arm)
    assert float(loss(sequences(model))["uncertainty"]) > 0
    halting = diamond_loss(model, uncertainty=Uncertainty(second, halt=Halt(0.5, -1.0)), **options)
    dreamt = halting.dream(sequences(model))
    assert torch.equal(dreamt.ended, dreamt.action == 1) and bool((dreamt.reward == -dreamt.action).all())
