"""A controller evolved in dreams: fitness, common luck, the optimum of a known world, and its state."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.line_world import Walk
from tests.support.linear_world import LinearWorld
from wmcomponents import Prediction
from wmcomponents.agents import Agent
from wmcomponents.agents.evolution import DreamReturns, EvolutionAgent, LinearController, RealReturns, SteeringAndPedals
from wmcomponents.data import make_env
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.models import WorldModels, WorldModelsConfig
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import DivergedError
from wmcomponents.training.nested_state import load_nested, save_nested
from wmcomponents.world_model import CapabilityError

pytest.importorskip("cma")

SMALL = {"population": 6, "rollouts": 3, "horizon": 4}


class Countdown(Walk):
    """An episode ends for certain when its place, which falls by one each step, is no longer above zero."""

    def imagine(self, state, action, noise):
        place = state["place"] - 1.0
        return Prediction({"place": place}, self.gain * torch.ones_like(place), (place > 0).float())


class Door(gymnasium.Env):
    """Three steps, at one side of a door; of the two choices the second pays 1."""

    observation_space, action_space = spaces.Box(-9.0, 9.0, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self.clock += 1
        return np.ones(1, np.float32), float(action == 1), False, self.clock == 3, {}


def doors():
    return make_env(Door)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_world_models(**changes):
    torch.manual_seed(0)
    sizes = {"latent": 3, "hidden": 4, "units": 4, "components": 2, **changes}
    return WorldModels(WorldModelsConfig.tiny(**sizes), Composite(observation=Unbounded(4)), OneHot(2))


def returns_of(model, genomes, starts, horizon=4, seed=0, **options):
    controller = LinearController(model.features(starts).shape[-1], model.action_spec)
    rows = next(iter(starts.values())).shape[0]
    dreams = DreamReturns(model, rows, horizon, options)
    return dreams.dream(controller, genomes(controller), starts, seeded(seed))


def test_a_dream_is_worth_its_rewards_until_it_ends_and_no_more():
    starts = {"place": torch.tensor([[1.0], [3.0], [9.0]])}
    found = returns_of(Countdown(OneHot(2)), lambda c: torch.zeros(2, c.size), starts, horizon=5)
    assert found.returns.tolist() == [[1.0, 3.0, 5.0]] * 2 == found.lengths.tolist()


def test_controllers_meet_the_same_luck_and_rows_are_independent():
    model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), noise="normal")
    starts = {
        key: torch.randn(5, *leaf.shape, generator=seeded(1)) for key, leaf in model.state_spec.items()
    }  # fmt: skip

    def mixed(controller):
        one, other = torch.randn(2, controller.size, generator=seeded(2))
        return torch.stack([one, other, one])

    found = returns_of(model, mixed, starts, horizon=6)
    assert torch.equal(found.returns[0], found.returns[2]) and torch.equal(found.lengths[0], found.lengths[2])
    alone = returns_of(model, lambda c: mixed(c)[1:2], starts, horizon=6)
    assert torch.allclose(found.returns[1], alone.returns[0]) and torch.equal(found.lengths[1], alone.lengths[0])
    assert not torch.equal(found.returns, returns_of(model, mixed, starts, horizon=6, seed=7).returns)


def test_it_reaches_the_linear_quadratic_regulator():
    """Its gain is known: the fixed point of the Riccati equation."""
    model = LinearWorld(-20.0, 20.0)
    agent = EvolutionAgent(
        model, population=10, rollouts=8, horizon=40, sigma=0.3, bias=False, generations=60, seed=1,
        squash=lambda raw: raw,
    )  # fmt: skip
    agent.learn(Experience(model, starts=PoolStarts({"motion": torch.randn(64, 2, generator=seeded(3))})))
    a, b, price = model.step.double(), model.push.double(), torch.tensor([[model.PUSH]], dtype=torch.float64)
    cost = torch.eye(2, dtype=torch.float64)
    for _ in range(500):
        gain = torch.linalg.solve(price + b.T @ cost @ b, b.T @ cost @ a)
        cost = torch.eye(2, dtype=torch.float64) + a.T @ cost @ (a - b @ gain)
    assert torch.allclose(agent.controller.genome.double(), -gain[0], atol=0.02)


def test_of_two_choices_it_finds_the_one_that_pays():
    model = Walk(OneHot(2))
    agent = EvolutionAgent(model, **SMALL, generations=5)
    found = agent.learn(Experience(model))
    assert found["return"] > 3.5 and found["length"] == 4.0
    assert agent.dream_policy(latent=model.features({"place": torch.ones(1)})).tolist() == [1, 0]
    assert agent.dreamed_steps == 5 * 6 * 3 * 4


def test_where_all_are_alike_the_strategy_is_told_nothing():
    model = Countdown(OneHot(2))
    agent = EvolutionAgent(model, **SMALL)
    agent.learn(Experience(model))
    assert agent.search.generations == 0 and agent.search.sigma == 0.1 and agent.evolved == 1


@pytest.mark.parametrize("make", [small_world_models, lambda: Walk(Bounded(-1, 1, (1,)))])
def test_it_goes_on_from_its_saved_state_to_the_bit_and_leaves_the_model_as_it_is(tmp_path, make):
    model = make().train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    first, second = EvolutionAgent(model, **SMALL, seed=1), EvolutionAgent(model, **SMALL, seed=2)
    assert isinstance(first, Agent)
    starts = [Experience(model, seed=3) for _ in range(2)]
    first.learn(Experience(model, seed=2))
    save_nested(tmp_path / "state", first.state_dict())
    second.load_state_dict(load_nested(tmp_path / "state"))
    assert second.dreamed_steps == first.dreamed_steps > 0
    found = [
        [agent.learn(experience) for _ in range(2)] for agent, experience in zip((first, second), starts, strict=True)
    ]
    assert found[0] == found[1] and torch.equal(first.controller.genome, second.controller.genome)
    assert model.training and all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_the_temperature_is_the_model_s():
    model = small_world_models()
    starts = model.initial_state((6,))
    cold, hot = (
        returns_of(small_world_models(temperature=value), lambda c: torch.zeros(1, c.size), starts, horizon=8)
        for value in (1.0, 1.25)
    )
    assert not torch.equal(cold.returns, hot.returns)
    assert WorldModelsConfig.doom().network.memory.temperature == 1.25


def test_a_model_without_rewards_is_evolved_on_a_reward_that_is_given():
    model = Walk(Bounded(-1, 1, (1,)), reward=False)
    with pytest.raises(CapabilityError, match="reward"):
        EvolutionAgent(model, **SMALL)

    def alive(state, action, after):
        return torch.ones_like(after["place"])

    agent = EvolutionAgent(model, **SMALL, dream={"reward": alive, "termination": "off"})
    assert agent.learn(Experience(model))["return"] == 4.0
    with pytest.raises(CapabilityError, match="features"):
        EvolutionAgent(Walk(OneHot(2), features=False), **SMALL)


def test_a_return_that_is_no_number_stops_it_before_the_strategy_hears_of_it():
    model = Walk(Bounded(-1, 1, (1,)))
    agent = EvolutionAgent(model, **SMALL)
    with torch.no_grad():
        model.gain.fill_(math.nan)
    with pytest.raises(DivergedError, match="not finite in generation 0"):
        agent.learn(Experience(model))
    assert agent.search.generations == 0 and agent.controller.genome.isfinite().all()


def test_in_reality_fitness_is_what_whole_episodes_pay():
    """The same episodes for all of a generation, and the controller acts as before afterwards."""
    model = Walk(OneHot(2))
    agent = EvolutionAgent(model, population=4, returns=RealReturns(model, doors, rollouts=2))
    agent.controller.genome.fill_(0.25)
    genomes = torch.zeros(3, agent.controller.size)
    genomes[1, -1] = 9.0  # the bias of the second
    earned = agent.returns(agent.controller, genomes, Experience(model), seeded())
    assert earned.returns[0].tolist() == [0.0, 0.0] and torch.equal(earned.returns[0], earned.returns[2])
    assert earned.returns[1].tolist() == [3.0, 3.0] and earned.lengths.tolist() == [[3.0, 3.0]] * 3
    assert agent.controller.genome.tolist() == [0.25] * agent.controller.size
    assert agent.real_steps == 3 * 2 * 3
    agent.learn(Experience(model))
    assert agent.real_steps == 18 + 4 * 2 * 3 and agent.dreamed_steps == 0
    again = EvolutionAgent(model, population=4, returns=RealReturns(model, doors, rollouts=2))
    again.load_state_dict(agent.state_dict())
    assert again.real_steps == agent.real_steps and agent.learn(Experience(model)) == again.learn(Experience(model))


def test_carracing_is_steered_as_the_paper_has_it():
    raw = torch.tensor([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0], [-9.0, -9.0, -9.0]])
    controller = LinearController(3, Bounded(torch.tensor([-1.0, 0.0, 0.0]), torch.ones(3)), squash=SteeringAndPedals())
    controller.genome[:9] = torch.eye(3).flatten()
    assert torch.allclose(
        controller.compute(raw)[0], torch.tensor([[0.0, 0.5, 0.0], [1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]]), atol=1e-6
    )
