"""Agents trained only in the dreams of DIAMOND and IRIS of MinAtar's Breakout: real return beside the random one.

Run it with ``python -m benchmarks.dream_only``; it writes ``docs/benchmarks/dream_only.json`` and ``dream_only.md``.
The world models are those of ``python -m benchmarks.pixels``, fitted first where they are missing. Finished runs are
kept in ``runs/dream-only`` and not repeated; one that was stopped goes on where it was.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarks.dream_only_page import EPISODES, GLANCE_EPISODES, table
from benchmarks.fitting import REAL_STEPS, data
from benchmarks.pixel_worlds import FITS, MINATAR, WORLDS, run_name
from benchmarks.pixels import fit
from wmcomponents.agents.actor_critic import RecurrentAgent, diamond_loss, iris_loss
from wmcomponents.cli.console import quiet
from wmcomponents.data import RandomPolicy, make_env
from wmcomponents.data.episodes import derived_seed
from wmcomponents.dream import ReplayStarts
from wmcomponents.dream.experience import Experience
from wmcomponents.evaluation import Returns, evaluate_policy
from wmcomponents.integrations.sb3_agent import SB3Agent
from wmcomponents.models.loading import load
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.training import seed_everything
from wmcomponents.training.nested_state import load_nested, save_nested

LOSSES: dict[str, Any] = {"Diamond": diamond_loss, "IRIS": iris_loss}


@dataclass(frozen=True)
class Plan:
    """How much an agent dreams.

    Attributes:
        rounds: calls of the agent's ``learn`` between two looks at reality, and between two bundles.
        looks: looks at reality, the last one at the end.
        dreams: side by side.
    """

    rounds: int
    looks: int
    dreams: int


PLANS = {
    ("Diamond", "PPO"): Plan(rounds=30, looks=6, dreams=128),
    ("Diamond", "own"): Plan(rounds=100, looks=6, dreams=24),
    ("IRIS", "PPO"): Plan(rounds=30, looks=6, dreams=128),
    ("IRIS", "own"): Plan(rounds=100, looks=6, dreams=24),
}
BUNDLE_EVERY = 5
"""Rounds between two bundles: what a kill costs at most."""

OWN: dict[str, Any] = {"units": 128, "entropy_scale": 3e-3}
OWN_LR, OWN_WARMUP = 1e-3, 20
"""The papers' rate is 1e-4, for days instead of minutes."""
SEQUENCES = {"Diamond": 4, "IRIS": 9}
PPO: dict[str, Any] = {
    "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.97, "ent_coef": 0.01,
    "policy_kwargs": {"net_arch": [256, 128], "activation_fn": torch.nn.ReLU},
}  # fmt: skip
PPO_HORIZON, PPO_ROUND, POOL = 14, 2048, 2048
DENOISING_STEPS = 1


def real(policy: TensorDictModuleBase, seed: int, episodes: int = EPISODES) -> Returns:
    """What a policy earns on the real game; it draws its actions, as the papers' do."""
    env = make_env(MINATAR, seed=seed, **WORLDS[MINATAR].options)
    primer = getattr(policy, "make_tensordict_primer", None)
    if primer is not None:
        env.append_transform(primer())
    torch.manual_seed(seed)
    with set_exploration_type(ExplorationType.RANDOM):
        found = evaluate_policy(env, policy, episodes, seed=seed)
    env.close()
    return found


def own(family: str, model: PretrainedModel, seed: int) -> RecurrentAgent:
    """The actor-critic of the family's paper."""
    loss = LOSSES[family](model, seed=seed, **OWN)
    return RecurrentAgent(loss, optimizer=loss.make_optimizer(lr=OWN_LR, warmup=OWN_WARMUP))


def ppo(family: str, model: PretrainedModel, seed: int, dreams: int) -> SB3Agent:
    """Stable-Baselines3's PPO: on frames, or on the features of a model that has them."""
    return SB3Agent("ppo", model, dreams=dreams, horizon=PPO_HORIZON, round_steps=PPO_ROUND, seed=seed, **PPO)


def trained(family: str, name: str, model: PretrainedModel, seed: int, pixels: Path, kept: Path) -> dict[str, Any]:
    """An agent that learned in dreams behind the data that the model was fitted to.

    Args:
        family: of the model.
        name: ``"own"`` or ``"PPO"``.
        model: the world model.
        seed: of the agent, its dreams and reality.
        pixels: where the data are.
        kept: the file of the unfinished run.
    """
    plan, world = PLANS[family, name], WORLDS[MINATAR]
    replay = data(MINATAR, seed, REAL_STEPS, SEQUENCES[family], plan.dreams, pixels, **world.options)
    seed_everything(seed)
    agent = own(family, model, seed) if name == "own" else ppo(family, model, seed, plan.dreams)
    starts = ReplayStarts(model, replay.sample, pool_size=POOL, seed=seed)
    experience, draws = Experience(model, replay.sample, starts=starts, seed=seed), torch.Generator()
    replay.set_rng(draws)
    done: dict[str, Any] = {"rounds": 0, "curve": [], "cpu_seconds": 0.0, "seconds": 0.0, "numbers": {}}
    if kept.is_file():
        state = load_nested(kept)
        agent.load_state_dict(state["agent"])
        done = state["done"]
    if name == "PPO":  # the pool of an agent that goes on is that of one that never stopped
        draws.manual_seed(derived_seed(seed, "pool"))
        starts.refresh(seed)
    while done["rounds"] < plan.rounds * plan.looks:
        begun = time.process_time(), time.perf_counter()
        for _ in range(BUNDLE_EVERY):
            draws.manual_seed(derived_seed(seed, "sequences", done["rounds"]))
            done["numbers"] = agent.learn(experience)
            done["rounds"] += 1
        done["cpu_seconds"] += time.process_time() - begun[0]
        done["seconds"] += time.perf_counter() - begun[1]
        if done["rounds"] % plan.rounds == 0:
            is_last = done["rounds"] == plan.rounds * plan.looks
            earned = real(agent.real_policy, 10_000 + seed, EPISODES if is_last else GLANCE_EPISODES)
            shown = {key: round(value, 4) for key, value in done["numbers"].items()}
            done["curve"].append({"dreamed_steps": agent.dreamed_steps, **earned.to_json(), "diagnostics": shown})
            print(family, name, agent.dreamed_steps, f"{done['cpu_seconds']:.0f} s", earned.mean, shown, flush=True)
        save_nested(kept, {"agent": agent.state_dict(), "done": done})
    return {name: done[name] for name in ("curve", "cpu_seconds", "seconds")}


def chance(seed: int) -> dict[str, Any]:
    """What uniform actions earn."""
    env = make_env(MINATAR, **WORLDS[MINATAR].options)
    policy = RandomPolicy(env.action_spec, generator=torch.Generator().manual_seed(seed))
    env.close()
    return {"curve": [{"dreamed_steps": 0, **real(policy, 10_000 + seed).to_json()}], "cpu_seconds": 0, "seconds": 0}


def run(family: str, agent: str, seed: int, pixels: Path, kept: Path) -> dict[str, Any]:
    """One agent in one model, in one thread."""
    torch.set_num_threads(1)
    seed_everything(seed)
    if agent == "random":
        return {"family": family, "agent": agent, "seed": seed, "real_steps": 0, **chance(seed)}
    fitted = fit(family, MINATAR, seed, pixels, FITS[family, MINATAR])
    model = load(pixels / run_name(family, MINATAR, seed) / "model")
    if family == "Diamond":
        model.sampler = replace(model.sampler, steps=DENOISING_STEPS)
    made = trained(family, agent, model, seed, pixels, kept)
    facts = {"real_steps": REAL_STEPS, "model_cpu_seconds": fitted["cpu_seconds"]}
    return {"family": family, "agent": agent, "seed": seed, **facts, **made}


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--agents", nargs="+", default=["own", "PPO"], choices=["own", "PPO"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pixels", type=Path, default=Path("runs/pixels"), help="where the world models are kept")
    parser.add_argument("--runs", type=Path, default=Path("runs/dream-only"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--report", action="store_true", help="run nothing; write the page of what was found so far")
    given = parser.parse_args()
    quiet()
    given.runs.mkdir(parents=True, exist_ok=True)
    wanted = [(given.families[0], "random", seed) for seed in given.seeds]
    wanted += [(f, agent, seed) for f in given.families for seed in given.seeds for agent in given.agents]
    runs = []
    for family, agent, seed in wanted:
        kept = given.runs / (f"random-{seed}.json" if agent == "random" else f"{family}-{agent}-{seed}.json")
        if not kept.is_file() and not given.report:
            unfinished = kept.with_suffix(".state")
            kept.write_text(json.dumps(run(family, agent, seed, given.pixels, unfinished)) + "\n")
            unfinished.unlink(missing_ok=True)
        if kept.is_file():
            runs.append(json.loads(kept.read_text()))
    facts = {"torch": torch.__version__, "command": "python -m benchmarks.dream_only", "runs": runs}
    (given.out / "dream_only.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "dream_only.md").write_text(table(runs))


if __name__ == "__main__":
    main()
