"""Planners against the authors' own numbers."""

import pytest
import torch

from tests.support.golden_tdmpc2 import recorded
from tests.support.golden_vectors import load
from wmcomponents.agents.planners import (
    ClippedGaussian,
    EqualElites,
    SamplingSearch,
    ShiftedPlan,
    SmoothedGaussian,
    SmoothedStd,
    SoftElites,
    TruncatedGaussian,
    sample_std,
    tdmpc2_mppi,
)
from wmcomponents.agents.planners.planner import IterationNoise, PlanNoise


@pytest.mark.parametrize("iterations", [1, 3])
def test_planets_search_finds_the_authors_mean(iterations):
    info, tensors = load("planet_cem")
    config = info["config"]
    low, high = config["min_action"], config["max_action"]
    proposal = ClippedGaussian(spread=SmoothedStd(), low=low, high=high)
    search = SamplingSearch(proposal, EqualElites(config["topk"]), config["amount"])
    noise = tensors["in/noise"][:1]

    def score(candidates):
        state = tensors["in/state0"][:1, None].expand(-1, candidates.shape[1], -1)
        total = 0.0
        for action in candidates.unbind(-2):
            state = 0.9 * state + action
            total = total - (state - tensors["in/target"]).square().sum(-1)
        return total

    plan = search.begin(torch.zeros(1, config["horizon"], noise.shape[-1]))
    for _ in range(iterations):
        plan = search.improve(plan, score, {"z": noise}, "middle")
    expected = tensors[f"out/mean_iter{iterations}_batch1"]
    torch.testing.assert_close(plan.params["mean"], expected, **info["tolerance"])


def toy(target):
    return lambda pop: -(pop - target).square().sum((-2, -1)) + 0.3 * (5 * pop).cos().sum((-2, -1))


def searched(name, search, plan, info, tensors):
    """A recorded search, whose populations and values are the authors' at every iteration."""
    for i in range(info["config"]["num_iterations"]):
        seen = []

        def score(candidates, seen=seen):
            values = toy(tensors["in.target"])(candidates)
            seen.append((candidates, values))
            return values

        plan = search.improve(plan, score, {"z": tensors[f"noise.{i}"][None]}, "middle")
        torch.testing.assert_close(seen[0][0][0], tensors[f"out.population.{i}"], rtol=0, **info["tolerance"])
        if f"out.values.{i}" in tensors:
            torch.testing.assert_close(seen[0][1][0], tensors[f"out.values.{i}"], rtol=0, **info["tolerance"])
    return plan


@pytest.mark.parametrize("name", ["mbrl_cem_truncated", "mbrl_cem_clipped_best"])
def test_mbrls_cross_entropy_methods_are_the_authors(name):
    info, tensors = load(name)
    config = info["config"]
    (low, high), count = config["bounds"], config["population"]
    clipped = ClippedGaussian(spread=sample_std, low=low, high=high)
    proposal = clipped if config["clipped_normal"] else TruncatedGaussian(low=low, high=high)
    elites = EqualElites(-int(-count * config["elite_ratio"] // 1))
    search = SamplingSearch(proposal, elites, count, momentum=config["alpha"])
    plan = searched(name, search, search.begin(torch.zeros(1, config["H"], config["A"])), info, tensors)
    solution = plan.params["mean"] if config["return_mean_elites"] else plan.best
    torch.testing.assert_close(solution[0], tensors["out.solution"], rtol=0, **info["tolerance"])


def test_mbrls_path_integral_control_is_the_authors():
    info, tensors = load("mbrl_mppi")
    config = info["config"]
    low, high = config["bounds"]
    selection = SoftElites(config["population"], config["gamma"])
    search = SamplingSearch(SmoothedGaussian(config["beta"], low=low, high=high), selection, config["population"])
    mean = tensors["in.mean"][None]
    plan = search.begin(ShiftedPlan(tail="last").begin(mean, torch.zeros_like(mean)))
    plan = searched("mbrl_mppi", search, plan, info, tensors)
    torch.testing.assert_close(plan.params["mean"][0], tensors["out.solution"], rtol=0, **info["tolerance"])


@pytest.mark.parametrize("name", ["tdmpc2_mppi_single", "tdmpc2_mppi_episodic", "tdmpc2_mppi_multitask"])
def test_tdmpc2s_planner_is_the_authors(name):
    info, tensors, model = recorded(name)
    config, tolerance = info["config"], info["tolerance"]
    seen = []
    planner = tdmpc2_mppi(
        model,
        horizon=config["horizon"],
        candidates=config["num_samples"],
        proposals=config["num_pi_trajs"],
        elites=config["num_elites"],
        inverse_temperature=config["temperature"],
        min_std=config["min_std"],
        max_std=config["max_std"],
        budget=info["effective_iterations"],
    )

    def of_iteration(i):
        objective = {
            "policy": tensors[f"noise.iter{i}.terminal_pi_eps"][None, :, None],
            "members": tensors[f"noise.iter{i}.qidx"],
        }
        z = tensors[f"noise.iter{i}.action"].transpose(0, 1)[None]
        return IterationNoise({"z": z}, None, objective)

    score = planner.score

    def watched(*args):
        seen.append(score(*args))
        return seen[-1]

    planner.score = watched
    policy = torch.stack([tensors[f"noise.pi_traj_eps.{t}"][None] for t in range(config["horizon"])])
    choice = {
        "exponential": tensors["noise.gumbel_exponential"][None],
        "explore": tensors["noise.final_action"][None],
    }
    noise = PlanNoise({"policy": policy}, None, choice, of_iteration)
    observation = {"observation": tensors["in.obs"]}
    if config["multitask"]:
        observation["task"] = torch.tensor([info["task"]])
    with torch.no_grad():
        state = model.observe(
            model.initial_state((1,)), model.null_action((1,)), observation, torch.ones(1, 1, dtype=torch.bool), None
        )
    planned = torch.full((1, 1), not info["t0"])
    carried = {"planned": planned, "plan_kept": tensors["in.prev_mean"][None]}
    found = planner.plan(state, noise=noise, carried=carried, explore=not info["eval_mode"])
    for i, values in enumerate(seen):
        torch.testing.assert_close(values[0], tensors[f"out.iter{i}.value"], **tolerance)
        order = values[0].topk(config["num_elites"]).indices
        assert order.tolist() == tensors[f"out.iter{i}.elite_idx"].flatten().tolist()
    torch.testing.assert_close(found.carried["plan_kept"][0], tensors["out.new_prev_mean"], **tolerance)
    torch.testing.assert_close(found.action[0], tensors["out.action"], **tolerance)
