"""The papers' whole agents, in a few steps: they act, learn, replace their parts and go on with a run."""

import pytest
import torch
from torchrl.data import OneHot

from tests.support.line_world import Walk
from tests.support.worlds import PointMass
from wmcomponents.agents import (
    Agent,
    DreamerV1Agent,
    DreamerV2Agent,
    DreamerV3Agent,
    DreamerV3PreprintAgent,
    STORMAgent,
    WorldModelsAgent,
)
from wmcomponents.data import make_env
from wmcomponents.data.environments import maker_of
from wmcomponents.models import DreamerV3Config
from wmcomponents.world_model import CapabilityError

FEW = {"prefill": 20, "pretrain": 2, "batch_size": 2, "sequence_length": 4, "evaluate_every": 0}


@pytest.mark.parametrize(
    ("kind", "env"),
    [
        (DreamerV1Agent, "Pendulum-v1"),
        (DreamerV2Agent, "CartPole-v1"),
        (DreamerV3Agent, "CartPole-v1"),
        (DreamerV3PreprintAgent, "CartPole-v1"),
        (STORMAgent, "CartPole-v1"),
    ],
)
def test_a_paper_s_agent_is_an_agent_that_learns(kind, env):
    agent = kind.tiny(env, changes=FEW, progress=False)
    assert isinstance(agent, Agent)
    before = [p.clone() for p in agent.behaviour.loss.actor.parameters()]
    metrics = agent.train(30)
    assert agent.trainer.real_steps == 30 and agent.trainer.global_step == 4
    assert metrics["agent/return"] == metrics["agent/return"] and agent.dreamed_steps > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.behaviour.loss.actor.parameters(), strict=True))


def test_the_paper_s_numbers_are_beside_tiny():
    config = DreamerV3Agent._preset(DreamerV3Config.size12m(), 256)
    assert (config.batch_size, config.sequence_length, config.capacity) == (16, 64, 5_000_000)
    assert config.schedule.updates_per_step * 16 * 64 == 32 and config.lr is None


def test_numbers_are_varied_by_name_wherever_they_belong():
    config = DreamerV3Agent.tiny_config(prefill=7, deter=64, batch_size=3, behaviour={"units": 8})
    assert (config.schedule.prefill, config.model.network.deter, config.batch_size) == (7, 64, 3)
    assert config.behaviour["units"] == 8 and config.behaviour["discount"] == 0.99


def test_an_environment_is_made_again_from_what_it_was_made_of():
    made = maker_of(make_env("CartPole-v1", max_episode_steps=7))()
    assert made.rollout(50)["next", "truncated"].any() or len(made.rollout(50)) <= 7
    assert "step_count" in made.observation_spec.keys()
    import gymnasium

    assert maker_of(gymnasium.make("CartPole-v1"))().reset()["observation"].shape == (4,)


def test_a_model_without_features_is_refused_with_the_remedy():
    with pytest.raises(CapabilityError, match="features"):
        DreamerV3Agent.tiny("CartPole-v1", model=PointMass(), progress=False)


def test_a_behaviour_of_one_s_own_takes_the_place_of_the_paper_s():
    from wmcomponents.agents.actor_critic import ImaginationAgent, dreamer_v2_loss

    agent = DreamerV3Agent.tiny(
        "CartPole-v1", changes=FEW, progress=False, behaviour=lambda model: ImaginationAgent(dreamer_v2_loss(model))
    )
    assert agent.behaviour.loss.bootstrap == "slow"


def evolving(out=None, **changes):
    pytest.importorskip("cma")
    behaviour = {"population": 4, "rollouts": 2, "horizon": 3, "generations": 2}
    sizes = {
        "latent": 3,
        "hidden": 4,
        "units": 4,
        "vision_steps": 1,
        "steps_between": 4,
        "agent_every": 2,
        "updates_per_step": 0.5,
    }
    given = {**FEW, **sizes, "behaviour": behaviour, **changes}
    return WorldModelsAgent.tiny("CartPole-v1", changes=given, out=out, progress=False)


def test_world_models_evolve_their_controller_after_each_phase_and_go_on_to_the_bit(tmp_path):
    straight = evolving()
    straight.train(32)
    assert straight.behaviour.search.generations > 2 and straight.dreamed_steps > 0
    assert straight.trainer.global_step == 2 + 6
    evolving(tmp_path).train(25)
    last = evolving(tmp_path)
    assert last.trainer.real_steps == 25
    last.train(32)
    assert torch.equal(last.behaviour.controller.genome, straight.behaviour.controller.genome)
    assert last.behaviour.search.sigma == straight.behaviour.search.sigma
    assert last.trainer.episodes == straight.trainer.episodes


def test_world_models_that_are_fitted_once_evolve_afterwards_and_go_on_to_the_bit(tmp_path):
    once = {"updates_per_step": 0.0, "agent_every": 10**9, "generations_after": 6}
    straight = evolving(**once)
    told = straight.train(20)
    assert straight.behaviour.evolved == 6 and straight.trainer.global_step == 2 and "agent/sigma" in told
    stopped = evolving(tmp_path, **{**once, "generations_after": 0})
    stopped.train(20)
    assert stopped.behaviour.evolved == 0
    stopped.evolve(4)
    last = evolving(tmp_path, **once)
    assert last.behaviour.evolved == 4
    last.train(20)
    assert torch.equal(last.behaviour.controller.genome, straight.behaviour.controller.genome)


def test_the_paper_s_numbers_of_evolution_are_the_defaults():
    pytest.importorskip("cma")
    agent = WorldModelsAgent.behaviour_in(Walk(OneHot(2)))
    assert (len(agent.search.ask()), agent.returns.rollouts, agent.search.sigma) == (64, 16, 0.1)
