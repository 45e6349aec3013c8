"""A search as a policy: in the dream, behind the filter, between moves; and pairs that cannot be."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from tests.support.small_muzero import SPEC, efficientzero, muzero, sequences
from tests.support.tabular import TabularWorld
from tests.support.worlds import PointMass
from wmcomponents.agents.agent import Agent
from wmcomponents.agents.search import (
    ContinuedSearch,
    DirichletNoise,
    SampledActions,
    SearchAgent,
    SearchPolicy,
    VisitCounts,
    WidenedRootActions,
    efficientzero_search,
    efficientzero_v2_search,
    gumbel_search,
    lightzero_search,
    muzero_search,
    no_value,
    sampled_search,
    uniform_prior,
)
from wmcomponents.models import MuZero, MuZeroConfig
from wmcomponents.world_model import CapabilityError


def states_of(model, rows=4, seed=0):
    torch.manual_seed(seed)
    observation = {"observation": torch.randn(rows, 3)}
    first = torch.ones(rows, 1, dtype=torch.bool)
    return model.observe(model.initial_state((rows,)), model.null_action((rows,)), observation, first, None)


@pytest.mark.parametrize("build", [muzero, efficientzero])
@pytest.mark.parametrize("make", [muzero_search, lightzero_search, gumbel_search, efficientzero_search])
def test_the_policy_writes_what_the_losses_read(build, make):
    model = build()
    policy = SearchPolicy(make(model, simulations=8), seed=0)
    out = policy(TensorDict(states_of(model), [4]))
    assert model.action_spec.is_in(out["action"])
    torch.testing.assert_close(out["search", "policy"].sum(-1), torch.ones(4))
    assert out["search", "value"].shape == (4, 1)
    data = sequences()
    data["search"] = {"policy": torch.full((2, 6, 2), 0.5), "value": torch.zeros(2, 6, 1)}
    keys = model.objective().tensor_keys
    assert {keys.search_policy, keys.search_value} == set(policy.out_keys[1:])


def test_leading_dims_are_free_and_the_model_keeps_its_mode():
    model = muzero().train()
    search = muzero_search(model, simulations=6)
    state = states_of(model.eval(), rows=6)
    model.train()
    flat = search.plan(state)
    boxed = search.plan({key: value.unflatten(0, (2, 3)) for key, value in state.items()})
    assert model.training
    assert boxed.action.shape == (2, 3, 2) and boxed.value.shape == (2, 3, 1)
    assert torch.equal(boxed.visits.flatten(0, 1), flat.visits)
    alone = search.plan({key: value[0] for key, value in state.items()})
    assert torch.equal(alone.visits, flat.visits[0]) and alone.action.shape == (2,)


def test_it_explores_where_exploration_is_asked_for():
    model = muzero()
    state = TensorDict({key: value.repeat_interleave(64, 0) for key, value in states_of(model, 1).items()}, [64])
    policy = SearchPolicy(muzero_search(model, simulations=4, fraction=1.0), seed=0)
    best = policy(state.clone())["action"]
    assert (best == best[0]).all()
    with set_exploration_type(ExplorationType.RANDOM):
        tried = policy(state.clone())["action"]
    assert not (tried == tried[0]).all()


def test_a_mask_in_the_data_is_kept():
    model = muzero()
    policy = SearchPolicy(gumbel_search(model, simulations=6), seed=0)
    mask = torch.tensor([[True, False], [False, True]])
    out = policy(TensorDict({**states_of(model, 2), "action_mask": mask}, [2]))
    assert torch.equal(out["action"].bool(), mask)
    with pytest.raises(ValueError, match="forbids every action"):
        policy(TensorDict({**states_of(model, 2), "action_mask": mask & False}, [2]))


def test_an_agent_acts_in_the_dream_and_in_reality_and_goes_on_from_its_state():
    agent = SearchAgent(muzero_search(muzero(), simulations=4))
    assert isinstance(agent, Agent)
    assert agent.real_policy.make_tensordict_primer() is not None
    state = TensorDict(states_of(agent.model), [4])
    with set_exploration_type(ExplorationType.RANDOM):
        agent.dream_policy(state.clone())
        saved = {key: value.clone() for key, value in agent.state_dict().items()}
        first = agent.dream_policy(state.clone())["action"]
        agent.load_state_dict(saved)
        assert torch.equal(agent.dream_policy(state.clone())["action"], first)


def test_a_continued_search_takes_its_tree_along():
    model = muzero()
    search = ContinuedSearch(gumbel_search(model, simulations=10))
    state = states_of(model)
    first = search.plan(state)
    below = first.tree.subtree(first.edge).edge_visits[:, 0].sum(1)
    second = search.plan(model.imagine(state, first.action, None).state)
    assert torch.equal(second.visits.sum(1), below + 10)
    search.play(second.edge)
    search.forget()
    assert torch.equal(search.plan(state).visits, first.visits)


def numbers_muzero():
    torch.manual_seed(0)
    return MuZero(MuZeroConfig.tiny(), SPEC, Bounded(-2.0, 2.0, (2,)))


@pytest.mark.parametrize(
    "make", [sampled_search, lambda m, **o: efficientzero_v2_search(m, edges=WidenedRootActions(m.action_spec), **o)]
)
def test_sampled_actions_lie_in_their_bounds_and_are_targets(make):
    model = numbers_muzero()
    policy = SearchPolicy(make(model, simulations=12), seed=0)
    out = policy(TensorDict(states_of(model), [4]))
    assert model.action_spec.is_in(out["action"])
    torch.testing.assert_close(out["search", "policy"] * 2, out["action"])


def test_nodes_below_a_widened_root_have_only_a_few_actions():
    model = numbers_muzero()
    search = efficientzero_v2_search(model, simulations=64, considered=16, edges=WidenedRootActions(model.action_spec))
    tree = search.plan(states_of(model), noise=search.draw([4], torch.Generator().manual_seed(0))).tree
    assert (tree.edge_visits[:, 0] > 0).sum(1).eq(16).all()
    assert not tree.edge_visits[:, 1:, 2:].any()


def test_sampled_choices_are_different_ones():
    torch.manual_seed(0)
    model = MuZero(MuZeroConfig.tiny(), SPEC, OneHot(9))
    search = sampled_search(model, simulations=20, samples=4)
    plan = search.plan(states_of(model), noise=search.draw([4], torch.Generator().manual_seed(0)))
    assert (plan.tree.actions[:, 0].sum(1) <= 1).all()
    torch.testing.assert_close(plan.target.sum(1), torch.ones(4))


def test_a_model_without_value_or_prior_is_searched_with_those_handed_in():
    point = PointMass()
    search = sampled_search(
        point, simulations=30, samples=8, discount=0.9, prior=lambda s: torch.zeros(len(s["point"]), 2), value=no_value
    )
    plan = search.plan({"point": torch.full((2, 2), 0.5)}, noise=search.draw([2], torch.Generator().manual_seed(0)))
    assert point.action_spec.is_in(plan.action)
    rewards = point.imagine({"point": torch.full((2, 2), 0.5)}, plan.action, None).reward
    middle = point.imagine({"point": torch.full((2, 2), 0.5)}, torch.zeros(2, 1), None).reward
    assert (rewards >= middle - 0.05).all()


WORLD = TabularWorld(torch.zeros(2, 2), torch.zeros(2, 2))
PARTS = {"discount": 0.9, "prior": uniform_prior, "value": no_value}


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: muzero_search(WORLD, discount=0.9, prior=uniform_prior), CapabilityError, "value=function"),
        (lambda: muzero_search(WORLD, discount=0.9, value=no_value), CapabilityError, "prior=uniform_prior"),
        (lambda: muzero_search(WORLD, prior=uniform_prior, value=no_value), ValueError, "discount=0.997"),
        (lambda: muzero_search(WORLD, **{**PARTS, "discount": -1.0}), ValueError, r"in \[0, 1\]"),
        (lambda: muzero_search(PointMass(), **PARTS), ValueError, "sampled_search"),
        (lambda: muzero_search(WORLD, simulations=0, **PARTS), ValueError, "at least 1"),
        (lambda: muzero_search(WORLD, max_depth=0, **PARTS), ValueError, "at least 1"),
        (lambda: sampled_search(WORLD, samples=3, **PARTS), ValueError, "AllChoices"),
        (lambda: SampledActions(OneHot(3), 0), ValueError, "at least 1|a number of actions"),
        (lambda: WidenedRootActions(OneHot(3)), ValueError, "AllChoices"),
        (lambda: ContinuedSearch(efficientzero_search(WORLD, **PARTS)), ValueError, "lightzero_search"),
        (lambda: VisitCounts(-1.0), ValueError, "at least 0"),
        (lambda: DirichletNoise(0.0), ValueError, "alpha is positive"),
    ],
)
def test_pairs_that_cannot_be_are_refused_with_the_remedy(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_a_mask_of_sampled_actions_is_refused():
    model = numbers_muzero()
    with pytest.raises(ValueError, match="sampled actions have none"):
        sampled_search(model, simulations=2).plan(states_of(model), mask=torch.ones(4, 20, dtype=torch.bool))


def test_several_choices_are_searched_in_every_combination():
    from torchrl.data import MultiOneHot

    torch.manual_seed(0)
    model = MuZero(MuZeroConfig.tiny(), Composite(observation=Unbounded(3)), MultiOneHot([2, 3]))
    search = gumbel_search(model, simulations=12)
    plan = search.plan(states_of(model))
    assert plan.visits.shape == (4, 6)
    assert model.action_spec.is_in(plan.action)
    torch.testing.assert_close(plan.target.sum(1), torch.full((4,), 2.0))
