"""Planning with short fits of random data and nothing else: real returns, and return against the time of a step.

``python -m benchmarks.planning`` plans with the models of ``benchmarks.learning`` (fitted where they are not kept in
``runs/learning``) and writes ``docs/benchmarks/planning.json``, ``planning.md`` and the curve. What was played is kept
in ``runs/planning`` and not played again.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torchrl.envs import SerialEnv, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarks.fitting import REAL_STEPS, kept
from benchmarks.learning import fitted
from benchmarks.openings import figure
from benchmarks.plots import draw
from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import Milliseconds, cem, mppi
from wmcomponents.agents.search import SearchAgent, lightzero_search, uniform_prior
from wmcomponents.data import make_env
from wmcomponents.data.random_policy import RandomPolicy
from wmcomponents.data.returns import Returns, evaluate_policy

OUT, RUNS, FITS = Path("docs/benchmarks"), Path("runs/planning"), Path("runs/learning")
HORIZON, CANDIDATES, ELITES, ITERATIONS, SIMULATIONS = 16, 48, 6, 3, 32
EPISODES, ON_BUDGET, SEED, DISCOUNT = 5, 3, 2026, 0.99
FAMILIES = ("WorldModels", "PlaNet", "TDMPC2", "MuZero", "EfficientZero")
ENVS = {"CartPole-v1": ("CEM", "MPPI", "MCTS"), "Pendulum-v1": ("CEM", "MPPI")}
CURVE = {"env": "Pendulum-v1", "family": "WorldModels", "planners": ("CEM", "MPPI")}
BUDGETS = (5, 10, 20, 30, 40, 60)
"""Milliseconds of a step, of the processor and not of the clock: other work on the machine does not count."""


def _sampled(make: Callable[..., Any], model: Any, **changes: Any) -> PlanningAgent:
    sizes = {"horizon": HORIZON, "candidates": CANDIDATES, "elites": ELITES, "budget": ITERATIONS, **changes}
    return PlanningAgent(make(model, noise="mode", seed=0, **sizes), sample=False)


def going_on(state: Any) -> torch.Tensor:
    """What is left to an episode that pays 1 a step and never ends, ``[B, 1]``; an end leaves 0."""
    some = next(iter(state.values()))
    return torch.full((some.shape[0], 1), 1 / (1 - DISCOUNT))


def _searched(model: Any) -> SearchAgent:
    search = lightzero_search(
        model, simulations=SIMULATIONS, temperature=0.0, discount=DISCOUNT, prior=uniform_prior, value=going_on
    )
    return SearchAgent(search)


def planner(name: str, model: Any, **changes: Any) -> Any:
    """An agent that only plans: no policy, no value."""
    if name == "MCTS":
        return _searched(model)
    return _sampled({"CEM": cem, "MPPI": mppi}[name], model, **changes)


def real(env_id: str, policy: Any, rows: int) -> TransformedEnv:
    """The real environment, as many side by side, with what a policy carries."""
    made: Any = make_env(env_id) if rows == 1 else TransformedEnv(SerialEnv(rows, lambda: make_env(env_id)))
    return made.append_transform(policy.make_tensordict_primer()) if hasattr(policy, "make_tensordict_primer") else made


def played(env_id: str, policy: Any, rows: int, episodes: int = EPISODES) -> Returns:
    """Whole real episodes, the same beginnings for everybody."""
    env = real(env_id, policy, rows)
    with set_exploration_type(ExplorationType.MODE):
        found = evaluate_policy(env, policy, episodes, seed=SEED)
    env.close()
    return found


def milliseconds(env_id: str, agent: Any, steps: int = 10) -> float:
    """Of the processor, of one step of one environment: filter and plan."""
    policy = agent.real_policy
    env = real(env_id, policy, 1)
    found, now = [], env.reset()
    with torch.no_grad(), set_exploration_type(ExplorationType.MODE):
        for _ in range(steps + 2):
            begun = time.process_time()
            now = policy(now)
            found.append(1e3 * (time.process_time() - begun))
            now = env.step_mdp(env.step(now))
    env.close()
    return statistics.median(found[2:])


def planned(env_id: str, family: str, name: str, seed: int) -> dict[str, Any]:
    """What a planner earns with a model, and how long a step takes."""
    _, model = fitted(family, env_id, seed, FITS)
    found = played(env_id, planner(name, model).real_policy, EPISODES)
    return {
        "env": env_id, "family": family, "planner": name, "seed": seed, **found.to_json(),
        "ms": round(milliseconds(env_id, planner(name, model)), 2),
    }  # fmt: skip


def on_budget(name: str, limit: float, seed: int) -> dict[str, Any]:
    """What a planner earns with so many milliseconds a step."""
    env_id, family = str(CURVE["env"]), str(CURVE["family"])
    _, model = fitted(family, env_id, seed, FITS)

    def agent() -> Any:
        return planner(name, model, budget=Milliseconds(limit, clock=time.process_time))

    found = played(env_id, agent().real_policy, 1, ON_BUDGET)
    facts = {"env": env_id, "family": family, "planner": name, "seed": seed, "budget": limit}
    return {**facts, **found.to_json(), "ms": round(milliseconds(env_id, agent(), 20), 2)}


def guessed(env_id: str) -> dict[str, Any]:
    """What a random policy earns."""
    policy = RandomPolicy(make_env(env_id).action_spec, generator=torch.Generator().manual_seed(0))
    return {"env": env_id, **played(env_id, policy, 1, 50).to_json()}


def play(families: list[str], envs: list[str], seeds: list[int], curve: list[str], runs: Path) -> None:
    """Whatever is missing."""
    for seed in seeds:
        for family in families:
            for env_id in envs:
                for name in ENVS[env_id]:
                    kept(
                        f"{family}-{env_id}-{name}-{seed}",
                        lambda e=env_id, f=family, n=name, s=seed: planned(e, f, n, s),
                        runs / "returns",
                    )
    for env_id in envs:
        kept(env_id, lambda e=env_id: guessed(e), runs / "random")
    for limit in BUDGETS:
        for name in curve:
            kept(f"{name}-{limit}-0", lambda n=name, b=limit: on_budget(n, b, 0), runs / "curve")


def collected(runs: Path) -> dict[str, Any]:
    """All that was found so far."""
    parts = {
        part: [json.loads(file.read_text()) for file in sorted((runs / part).glob("*.json"))]
        for part in ("returns", "random", "curve")
    }
    return {"torch": torch.__version__, "command": "python -m benchmarks.planning", **parts}


INTRODUCTION = f"""\
# Planning without a learned policy

What the real environment pays to planners that have nothing but a small model of {REAL_STEPS:,} random steps: no actor,
no value.

{figure("planning", "Real returns of every planner, a dot an episode, and by milliseconds of a step")}
"""

METHOD = f"""\
## How it was measured

The models are those of [how well every family learns](learning.md): `tiny` presets, {REAL_STEPS:,} real steps of a
random policy, a minute of fitting. Each planner plays {EPISODES} whole real episodes ({ON_BUDGET} on a budget) that
begin alike for all; the real observations pass through the model's filter, and the first action of the plan is taken.

- **CEM** and **MPPI**: `cem(model)` and `mppi(model)`, {ITERATIONS} iterations of {CANDIDATES} sequences of {HORIZON}
  actions, {ELITES} elites, the plan of the step before as a start, the dream's most likely z.
- **MCTS**: `lightzero_search(model)`, {SIMULATIONS} simulations, no preference among actions (`prior=uniform_prior`),
  and below a leaf what an episode pays that goes on for ever (1 / (1 - {DISCOUNT})): that a step pays 1 is known of
  CartPole. With a value of 0 there, a search cannot tell a leaf that lives from one that has fallen. On choices alone:
  a tree of {SIMULATIONS} nodes ends long before a pendulum has swung up.
- The budget: `budget=Milliseconds(limit)` with the processor's clock, which other work on the machine does not move;
  an iteration that has begun is ended, and one is always made.
- Milliseconds: median of the processor's time for filter and plan of one environment, one thread.
"""


def table(facts: dict[str, Any]) -> str:
    """The page."""
    lines = [INTRODUCTION]
    for env_id, every in ENVS.items():
        here = [one for one in facts["returns"] if one["env"] == env_id]
        names = [name for name in every if any(one["planner"] == name for one in here)]
        guess = [one["mean"] for one in facts["random"] if one["env"] == env_id]
        lines += [f"## {env_id}", "", f"| model | {' | '.join(f'{name} | ms' for name in names)} |"]
        lines.append("|---" * (1 + 2 * len(names)) + "|")
        for family in sorted({one["family"] for one in here}, key=FAMILIES.index):
            cells = [family]
            for name in names:
                found = [one for one in here if (one["family"], one["planner"]) == (family, name)]
                returns = " / ".join(f"{one['mean']:.1f}" for one in found)
                cells += [returns, f"{statistics.median(one['ms'] for one in found):.0f}" if found else ""]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"Uniform random actions earn {value:.1f}." for value in guess), ""]
    lines += _curve(cast(Any, facts["curve"]))
    wanted, budgets = len(FAMILIES) * sum(map(len, ENVS.values())), len(BUDGETS) * len(CURVE["planners"])
    there = {(one["env"], one["family"], one["planner"]) for one in facts["returns"]}
    if len(there) < wanted or len(facts["curve"]) < budgets:
        lines += [
            f"Not played yet: {wanted - len(there)} of {wanted} pairs of model and planner, and "
            f"{budgets - len(facts['curve'])} of {budgets} budgets of a step.",
            "",
        ]
    end = ["", f"Command: `{facts['command']}` (numbers of every episode in `planning.json`).", ""]
    return "\n".join([*lines, METHOD, *end[1:]])


def _curve(points: list[dict[str, Any]]) -> list[str]:
    """The budget's part of the page; none where nothing was played on one."""
    if not points:
        return []
    names = list(CURVE["planners"])
    lines = ["## Return by the time of a step", "", f"{CURVE['family']} on {CURVE['env']}.", ""]
    lines += [f"| budget, ms | {' | '.join(f'{name} | ms it took' for name in names)} |"]
    lines.append("|---" * (1 + 2 * len(names)) + "|")
    for limit in sorted({one["budget"] for one in points}):
        cells = [f"{limit:g}"]
        for name in names:
            found = [one for one in points if (one["planner"], one["budget"]) == (name, limit)]
            cells += [f"{found[0]['mean']:.1f}", f"{found[0]['ms']:.1f}"] if found else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    """Play what is missing and write the page."""
    parser = argparse.ArgumentParser(description="planning without a learned policy")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--envs", nargs="+", choices=list(ENVS), default=list(ENVS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--curve", nargs="*", choices=CURVE["planners"], default=list(CURVE["planners"]), help="planners on a budget"
    )
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report", action="store_true", help="play nothing; write the page of what was found so far")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.report:
        play(given.families, given.envs, given.seeds, given.curve, given.runs)
    facts = collected(given.runs)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "planning.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "planning.md").write_text(table(facts))
    draw("planning", given.out)


if __name__ == "__main__":
    main()
