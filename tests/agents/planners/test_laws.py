"""Laws of every planner: optima, rows, seeds, warm starts, budgets, and pairs that do not fit."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.line_world import Walk
from tests.support.linear_world import LinearWorld
from wmcomponents.agents.planners import (
    BestSequence,
    ColoredGaussian,
    DecayingPopulation,
    EqualElites,
    GoalDistance,
    Milliseconds,
    ModelValue,
    SamplingSearch,
    ShiftedPlan,
    SoftElites,
    SummedReward,
    cem,
    colored_noise,
    compiled_iteration,
    dino_wm_cem,
    dino_wm_gradient,
    eb_jepa_mppi,
    gradient_descent,
    icem,
    mbrl_clipped_cem,
    mppi,
    pddm_mppi,
    pets_cem,
    planet_cem,
    random_shooting,
    thresholded,
)
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import DivergedError
from wmcomponents.world_model import CapabilityError, Prediction

SMALL = {
    "random_shooting": lambda model, **o: random_shooting(model, horizon=3, candidates=12, **o),
    "cem": lambda model, **o: cem(model, horizon=3, candidates=12, elites=3, budget=2, **o),
    "mppi": lambda model, **o: mppi(model, horizon=3, candidates=12, elites=3, budget=2, **o),
    "planet": lambda model, **o: planet_cem(model, horizon=3, candidates=12, elites=3, budget=2, **o),
    "pets": lambda model, **o: pets_cem(model, horizon=3, candidates=12, particles=2, budget=2, **o),
    "clipped": lambda model, **o: mbrl_clipped_cem(model, horizon=3, candidates=20, budget=2, **o),
    "icem": lambda model, **o: icem(model, horizon=3, candidates=20, budget=3, **o),
    "pddm": lambda model, **o: pddm_mppi(model, horizon=3, candidates=12, budget=2, **o),
    "gradient": lambda model, **o: gradient_descent(model, horizon=3, starts=3, budget=3, **o),
    "dino-wm": lambda m, **o: dino_wm_cem(m, SummedReward(), horizon=3, candidates=12, elites=3, budget=2, **o),
    "dino-wm-gradient": lambda m, **o: dino_wm_gradient(m, SummedReward(), horizon=3, starts=2, budget=3, **o),
    "eb-jepa": lambda m, **o: eb_jepa_mppi(m, SummedReward(), horizon=3, candidates=12, elites=3, budget=2, **o),
}
NUMBERS = Bounded(-1, 1, (2,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(action_spec=NUMBERS, **options):
    return ToyWorldModel(Composite(observation=Unbounded(3)), action_spec, **options)


def states(model, rows, seed=0):
    return {
        key: torch.rand(rows, *leaf.shape, generator=seeded(seed)) * 2 - 1 for key, leaf in model.state_spec.items()
    }


def fixed(planner, rows, seed=0):
    """The noise of a plan with all its iterations, so that it can be cut and used again."""
    noise = planner.draw((rows,), seeded(seed))
    iterations = [noise.iterations(i) for i in range(planner.budget.most)]
    return noise._replace(iterations=iterations.__getitem__)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: cem(m, horizon=4, candidates=200, elites=20, budget=12),
        lambda m: planet_cem(m, horizon=4, candidates=200, elites=20, budget=12),
        lambda m: pets_cem(m, horizon=4, candidates=200, budget=12, particles=1),
        lambda m: mppi(m, horizon=4, candidates=200, elites=20, budget=20, min_std=0.01, inverse_temperature=5.0),
        lambda m: gradient_descent(m, horizon=4, lr=0.05, budget=100),
    ],
    ids=["cem", "planet", "pets", "mppi", "gradient"],
)
@given(place=st.floats(-0.2, 0.2), speed=st.floats(-0.2, 0.2))
@settings(max_examples=5, deadline=None)
def test_the_best_plan_of_a_linear_world_is_found(make, place, speed):
    world = LinearWorld()
    motion = torch.tensor([[place, speed], [-speed, place]])
    best = world.best(motion, 4)
    assert best.abs().max() < 0.95
    found = make(world).plan({"motion": motion}, generator=seeded())
    torch.testing.assert_close(found.actions, best, rtol=0, atol=0.05)


def test_actions_come_in_the_environments_own_bounds():
    motion = torch.tensor([[0.3, -0.2]])
    plain = cem(LinearWorld(), horizon=3).plan({"motion": motion}, generator=seeded())
    wide = cem(LinearWorld(low=0.0, high=10.0), horizon=3).plan({"motion": motion}, generator=seeded())
    torch.testing.assert_close(wide.actions, 5.0 + 5.0 * plain.actions, rtol=0, atol=1e-4)


@pytest.mark.parametrize("spec", [OneHot(3), Categorical(3)], ids=["one-hot", "index"])
@pytest.mark.parametrize("make", [cem, mppi, planet_cem, random_shooting])
def test_choices_are_planned_for(make, spec):
    found = make(Walk(spec), horizon=3, candidates=200).plan({"place": torch.zeros(2, 1)}, generator=seeded())
    chosen = found.actions.float().argmax(-1) if isinstance(spec, OneHot) else found.actions
    assert chosen.tolist() == [[0, 0, 0]] * 2  # the first alternative pays
    assert spec.is_in(found.action[0])


@pytest.mark.parametrize("name", SMALL)
@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_rows_are_planned_for_by_themselves(name, seed):
    model = toy(noise="normal")
    planner = SMALL[name](model)
    state, noise = states(model, 3, seed), fixed(planner, 3, seed)
    whole = planner.plan(state, noise=noise)
    changed = {key: value.clone() for key, value in state.items()}
    for value in changed.values():
        value[0] = 0.9
    other = planner.plan(changed, noise=noise)
    torch.testing.assert_close(other.actions[1:], whole.actions[1:], rtol=0, atol=0)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_plan(name):
    model = toy()
    state = states(model, 2)
    first, second, third = (SMALL[name](model).plan(state, generator=seeded(s)).actions for s in (3, 3, 4))
    assert torch.equal(first, second) and not torch.equal(first, third)


@pytest.mark.parametrize("name", SMALL)
def test_any_leading_dims_and_none_are_planned_for(name):
    model = toy()
    planner = SMALL[name](model)
    state = states(model, 6)
    for batch in ((), (2, 3)):
        rows = {k: v[0] if not batch else v.reshape(*batch, -1) for k, v in state.items()}
        found = planner.plan(rows, generator=seeded())
        assert found.action.shape == (*batch, 2) and found.actions.shape == (*batch, 3, 2)
        again = planner.plan(rows, generator=seeded(), carried=found.carried)
        assert again.action.isfinite().all() and (again.action.abs() <= 1).all()


@given(steps=st.integers(1, 3), horizon=st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_a_warm_start_is_the_plan_before_shifted(steps, horizon):
    kept = torch.rand(2, horizon, 1)
    center = torch.full_like(kept, -7.0)
    begin = ShiftedPlan(steps=steps).begin(kept, center)
    rest = max(horizon - steps, 0)
    assert torch.equal(begin[:, :rest], kept[:, steps:])
    assert (begin[:, rest:] == -7.0).all()
    assert (ShiftedPlan(tail="last", steps=steps).begin(kept, center)[:, rest:] == kept[:, -1:]).all()


def test_a_plan_begins_with_the_one_before_only_in_rows_that_have_one():
    planner = cem(toy(), horizon=4, candidates=8, elites=2, budget=1)
    kept = torch.rand(2, 4, 2)
    begun = []
    begin = planner.search.begin
    planner.search.begin = lambda center, elites=None: (begun.append(center), begin(center, elites))[1]
    planner.plan(
        states(planner.model, 2),
        generator=seeded(),
        carried={"planned": torch.tensor([[True], [False]]), "plan_kept": kept},
    )
    assert torch.equal(begun[0][0], torch.cat([kept[0, 1:], torch.zeros(1, 2)]))
    assert (begun[0][1] == 0).all()


@given(cost=st.floats(0.5, 30.0), limit=st.floats(1.0, 100.0))
@settings(max_examples=10, deadline=None)
def test_a_time_budget_is_kept(cost, limit):
    now = [0.0]
    budget = Milliseconds(limit, most=50, clock=lambda: now[0])
    count = 0
    for _ in budget.iterations(torch.device("cpu")):
        now[0] += cost / 1e3
        count += 1
    assert count == 1 or now[0] * 1e3 <= limit * (1 + 1e-6)
    assert count == 50 or (count + 1) * cost > limit * (1 - 1e-6)


def test_a_search_makes_as_many_iterations_as_its_budget_says():
    planner = cem(toy(), horizon=2, candidates=8, elites=2, budget=4)
    judged = []
    score = planner.score
    planner.score = lambda *a: (judged.append(1), score(*a))[1]
    planner.plan(states(planner.model, 1), generator=seeded())
    assert len(judged) == 4


def test_more_iterations_never_find_less():
    model = toy(noise="none")
    values = [
        random_shooting(model, horizon=4, candidates=16, budget=n)
        .plan(states(model, 3), generator=seeded())
        .plan.best_value
        for n in (1, 4)
    ]
    assert (values[1] >= values[0]).all()


def test_the_value_of_a_plan_is_the_discounted_reward_until_the_end_and_what_follows():
    class Three(Walk):
        def imagine(self, state, action, noise):
            place = state["place"] + 1
            return Prediction({"place": place}, place, 1.0 - 0.3 * place)

        def value(self, state):
            return 100 * state["place"]

    world = Three(Bounded(-1, 1, (1,)))
    start = {"place": torch.zeros(1, 1)}

    def value(objective):
        return (
            random_shooting(world, objective, horizon=2, candidates=1).plan(start, generator=seeded()).plan.best_value
        )

    # rewards 1 and 2, continuation 0.7 and 0.4, the last state worth 200
    assert value(SummedReward(0.5)).item() == pytest.approx(1 + 0.5 * 0.7 * 2)
    full = SummedReward(0.5, ModelValue(world))
    assert value(full).item() == pytest.approx(1 + 0.35 * 2 + 0.25 * 0.28 * 200)
    hard = SummedReward(0.5, ModelValue(world), thresholded)
    assert value(hard).item() == pytest.approx(1 + 0.5 * 2)


def test_a_model_without_a_reward_reaches_a_goal():
    model = Walk(Bounded(-1, 1, (1,)), reward=False)
    objective = GoalDistance.latent(model, torch.tensor([0.8, 1.0]))
    found = cem(model, objective, horizon=2, budget=8).plan({"place": torch.zeros(1, 1)}, generator=seeded())
    reached = 0.5 * found.actions[0, 0, 0] + found.actions[0, 1, 0]
    assert reached.item() == pytest.approx(0.8, abs=0.02)


def test_each_row_has_the_goal_that_stands_beside_its_state():
    model = Walk(Bounded(-1, 1, (1,)), reward=False)
    planner = cem(model, GoalDistance(lambda state: state["place"]), horizon=1, budget=8)
    goal = torch.tensor([[0.6], [-0.4]])
    found = planner.plan({"place": torch.zeros(2, 1)}, generator=seeded(), given={"goal": goal})
    torch.testing.assert_close(found.action, goal, rtol=0, atol=0.02)


def test_an_observed_goal_is_compared_with_what_the_model_decodes():
    model = toy(noise="none")
    planner = cem(model, GoalDistance.observation(model, "observation", torch.zeros(3)), horizon=2, candidates=30)
    assert (planner.plan(states(model, 2), generator=seeded()).plan.best_value <= 0).all()


def test_colored_noise_has_unit_variance_and_leans_on_its_past():
    for length in (1, 2, 9, 30):
        parts = torch.randn(2, 4000, length // 2 + 1, generator=seeded())
        red = colored_noise(parts[0], parts[1], 2.0, length)
        assert red.shape == (4000, length)
        around = red if length == 1 else red - red.mean(-1, keepdim=True)
        assert around.square().mean().item() == pytest.approx(1.0, abs=0.1)
        if length > 2:
            assert (red[:, 1:] * red[:, :-1]).mean() > 0.5
            white = colored_noise(parts[0], parts[1], 0.0, length)
            assert (white[:, 1:] * white[:, :-1]).mean().abs() < 0.5 / (length - 1) + 0.05


def test_kept_elites_are_judged_again_and_the_mean_at_last():
    model = toy(noise="none")
    planner = icem(model, horizon=3, candidates=20, elite_ratio=0.2, kept=0.5, decay=1.3, budget=3)
    seen = []
    score = planner.score
    planner.score = lambda *a: (seen.append(a[0]), score(*a))[1]
    first = planner.plan(states(model, 2), generator=seeded())
    assert [c.shape[1] for c in seen] == [20 + 2, 16 + 2, 12 + 1]  # 20 / 1.3 and 20 / 1.69, rounded up
    seen.clear()
    planner.plan(states(model, 2), generator=seeded(), carried=first.carried)
    old = first.carried["plan_elites"][0, :, 1:]
    for kept in seen[0][0, -2:, :-1]:
        assert any(torch.equal(kept, elite) for elite in old)


def test_rows_without_elites_are_not_fitted_to_made_up_ones():
    search = SamplingSearch(ColoredGaussian(), EqualElites(2), 4, recycled=icem(toy()).search.recycled)
    search.recycled.count = 2
    plan = search.begin(torch.zeros(1, 3, 1))
    noise = search.draw((1,), 3, 1, 0, "first", 0, seeded())
    plan = search.improve(plan, lambda c: torch.arange(6.0)[None], noise, "first")
    assert plan.best_value.item() == 3  # 4 and 5 are those of the shifted zeros


def test_fewer_candidates_at_every_iteration_but_twice_the_elites_at_least():
    population = DecayingPopulation(200, 1.3, 40)
    assert [population(i) for i in (0, 1, 2, 20)] == [200, 154, 119, 40]


def test_soft_elites_weigh_by_value():
    values, index, weights = SoftElites(2, 2.0)(torch.tensor([[0.0, 1.0, 0.5]]))
    assert index.tolist() == [[1, 2]] and values.tolist() == [[1.0, 0.5]]
    torch.testing.assert_close(weights, torch.tensor([[1.0, torch.e**-1.0]]) / (1 + torch.e**-1.0))


@pytest.mark.compile
def test_a_compiled_iteration_finds_the_same_plan():
    model = toy()
    plain, compiled = (
        SMALL["cem"](model, **o) for o in ({}, {"scan": compiled_iteration(fullgraph=True, backend="eager")})
    )
    state = states(model, 2)
    expected, found = (p.plan(state, generator=seeded()).actions for p in (plain, compiled))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


# -- pairs that do not fit ---------------------------------------------------------------------------------------------


def test_a_search_by_gradients_refuses_choices():
    with pytest.raises(ValueError, match=r"gradients needs actions that are numbers.*cem\(model\)"):
        gradient_descent(toy(OneHot(3)))


def test_a_model_without_reward_and_goal_is_refused():
    with pytest.raises(CapabilityError, match="GoalDistance"):
        cem(toy(parts=("features",)))


def test_goals_that_a_model_cannot_show_are_refused():
    model = toy(parts=())
    with pytest.raises(CapabilityError, match="observation"):
        GoalDistance.latent(model)
    with pytest.raises(CapabilityError, match="latent goal"):
        GoalDistance.observation(model, "observation")
    with pytest.raises(KeyError, match="not 'sight'"):
        GoalDistance.observation(toy(), "sight")
    with pytest.raises(CapabilityError, match="TerminalValue"):
        ModelValue(model)


def test_actions_without_bounds_are_refused():
    with pytest.raises(ValueError, match="these actions have none"):
        cem(toy(Unbounded(2)))


def test_values_that_are_no_numbers_are_refused_by_row():
    class Broken(Walk):
        def imagine(self, state, action, noise):
            after = super().imagine(state, action, noise)
            return after._replace(reward=after.reward / state["place"].gt(0))

    planner = cem(Broken(Bounded(-1, 1, (1,))), horizon=2, candidates=8, elites=2)
    with pytest.raises(DivergedError, match=r"rows \[1\].*nan_value"):
        planner.plan({"place": torch.tensor([[9.0], [-9.0]])}, generator=seeded())


def test_a_value_that_is_no_number_is_worth_what_the_paper_says_unless_none_is_one():
    planner = pets_cem(toy(), horizon=2, candidates=8, particles=1, budget=1)
    candidates = torch.zeros(2, 8, 2, 2)
    candidates[0, :3] = torch.nan
    candidates[1] = torch.nan
    noise = fixed(planner, 2).iterations(0)
    values = planner.score(candidates, states(planner.model, 2), noise, {})
    assert (values[0, :3] == -1e-10).all() and values[0, 3:].isfinite().all()
    assert values[1].isnan().all()


@pytest.mark.parametrize("name", SMALL)
def test_a_planner_can_be_sent_to_another_process(name):
    model = toy()
    planner = SMALL[name](model, seed=0)
    state = states(model, 2)
    sent = pickle.loads(pickle.dumps(planner))
    assert torch.equal(*(p.plan(state, generator=seeded()).actions for p in (planner, sent)))


def test_numbers_that_make_no_sense_are_refused():
    model = toy()
    with pytest.raises(ValueError, match="20 elites cannot be selected from 8"):
        cem(model, candidates=8)
    with pytest.raises(ValueError, match="momentum"):
        cem(model, momentum=1.0)
    with pytest.raises(ValueError, match="horizon"):
        cem(model, horizon=0)
    with pytest.raises(ValueError, match="limit"):
        Milliseconds(0)
    with pytest.raises(ValueError, match="generator= or noise="):
        cem(model).plan(states(model, 1))
    with pytest.raises(ValueError, match="proposes"):
        cem(model, proposals=3)
    with pytest.raises(KeyError, match="lacks 'z'"):
        cem(model).plan({"memory": torch.zeros(1, 8)}, generator=seeded())


def test_the_best_sequence_is_the_one_of_all_iterations():
    planner = mbrl_clipped_cem(toy(noise="none"), horizon=2, candidates=20, budget=3)
    assert isinstance(planner.choice, BestSequence)
    values = []
    score = planner.score
    planner.score = lambda *a: (values.append(score(*a)), values[-1])[1]
    found = planner.plan(states(planner.model, 2), generator=seeded())
    assert torch.equal(found.plan.best_value, torch.cat(values, -1).max(-1).values)
