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
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarks.dream_only_page import EPISODES, GLANCE_EPISODES, table
from benchmarks.fitting import HELD_OUT_STEPS, REAL_STEPS, REPEAT_PROBABILITY, data
from benchmarks.measuring import digits
from benchmarks.pixel_worlds import FITS, MINATAR, WORLDS, World, run_name
from benchmarks.pixels import fit
from benchmarks.plots import draw
from wmcomponents.agents.actor_critic import RecurrentAgent, diamond_loss, iris_loss
from wmcomponents.agents.actor_critic.recurrent import until_first_end
from wmcomponents.agents.actor_critic.recurrent_policy import Reconstruction
from wmcomponents.cli.console import quiet
from wmcomponents.data import RandomPolicy, make_env
from wmcomponents.data.boards import PALETTE
from wmcomponents.data.episodes import derived_seed
from wmcomponents.dream import ReplayStarts
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.make import make_simulator
from wmcomponents.evaluation import Returns, evaluate_policy
from wmcomponents.integrations.sb3_agent import SB3Agent
from wmcomponents.models import IRIS, Diamond
from wmcomponents.models.loading import load
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.training import seed_everything
from wmcomponents.training.nested_state import load_nested, save_nested
from wmcomponents.world_model import WorldModel

LOSSES: dict[str, Any] = {"Diamond": diamond_loss, "IRIS": iris_loss}


@dataclass(frozen=True)
class Plan:
    """How much an agent dreams.

    Attributes:
        rounds: calls of the agent's ``learn``.
        look_every: rounds between two looks at reality.
        dreams: side by side.
    """

    rounds: int
    look_every: int
    dreams: int


PLANS = {
    ("Diamond", "PPO"): Plan(rounds=50, look_every=30, dreams=128),
    ("Diamond", "own"): Plan(rounds=600, look_every=200, dreams=32),
    ("IRIS", "PPO"): Plan(rounds=50, look_every=30, dreams=128),
    ("IRIS", "own"): Plan(rounds=300, look_every=75, dreams=32),
}
BUNDLE_EVERY = 5
"""Rounds between two bundles: what a kill costs at most."""

OWN: dict[str, Any] = {"units": 128, "channels": (16,), "coarsest": 8, "entropy_scale": 1e-2}
"""A shallow encoder keeps each cell apart; the papers' four layers lose the ball among black pixels."""

OWN_LR, OWN_WARMUP = 1e-3, 20
"""The papers' rate is 1e-4, for days instead of minutes."""
SEQUENCES = {"Diamond": 4, "IRIS": 9}
PPO: dict[str, Any] = {
    "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.97, "ent_coef": 0.01,
    "policy_kwargs": {"net_arch": [256, 128], "activation_fn": torch.nn.ReLU},
}  # fmt: skip
PPO_HORIZON, PPO_ROUND, POOL = 14, 2048, 2048
DENOISING_STEPS = 1
SPANS, RATE_ROWS = ((0, 5), (5, 10), (10, 14)), 512
THINGS = ("paddle", "ball", "trail", "brick")
"""Of the game, in the order of its planes."""


def settings() -> dict[str, Any]:
    """Sizes of the agents, as the page tells them."""
    layers = PPO["policy_kwargs"]["net_arch"]
    numbers = {name: PPO[name] for name in ("n_epochs", "learning_rate", "gamma")}
    sizes = {"dreams": PLANS["Diamond", "PPO"].dreams, "horizon": PPO_HORIZON, "round": PPO_ROUND, "layers": layers}
    return {"own": {**OWN, "lr": OWN_LR, "dreams": PLANS["Diamond", "own"].dreams}, "PPO": {**numbers, **sizes}}


def real(policy: TensorDictModuleBase, seed: int, episodes: int = EPISODES, world: World = WORLDS[MINATAR]) -> Returns:
    """What a policy earns on the real game; it draws its actions, as the papers' do."""
    env = make_env(MINATAR, seed=seed, **world.options)
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
    return learned(agent, model, replay, plan, seed, kept, world)


def learned(
    agent: RecurrentAgent | SB3Agent,
    model: WorldModel,
    replay: TensorDictReplayBuffer,
    plan: Plan,
    seed: int,
    kept: Path,
    world: World,
) -> dict[str, Any]:
    """What became of an agent's rounds; an unfinished run goes on.

    Args:
        agent: begins at its first round.
        model: the world model.
        replay: where dreams begin.
        plan: how much it dreams.
        seed: of the pool and of reality.
        kept: the file of the unfinished run.
        world: how the real game is shown.
    """
    starts = ReplayStarts(model, replay.sample, pool_size=POOL, seed=seed)
    experience, draws = Experience(model, replay.sample, starts=starts, seed=seed), torch.Generator()
    replay.set_rng(draws)
    done: dict[str, Any] = {"rounds": 0, "curve": [], "cpu_seconds": 0.0, "seconds": 0.0, "numbers": {}}
    if kept.is_file():
        state = load_nested(kept)
        agent.load_state_dict(state["agent"])
        done = state["done"]
    if isinstance(agent, SB3Agent):  # the pool of an agent that goes on is that of one that never stopped
        draws.manual_seed(derived_seed(seed, "pool"))
        starts.refresh(seed)
    while done["rounds"] < plan.rounds:
        begun = time.process_time(), time.perf_counter()
        for _ in range(BUNDLE_EVERY):
            draws.manual_seed(derived_seed(seed, "sequences", done["rounds"]))
            done["numbers"] = agent.learn(experience)
            done["rounds"] += 1
        done["cpu_seconds"] += time.process_time() - begun[0]
        done["seconds"] += time.perf_counter() - begun[1]
        if done["rounds"] % plan.look_every == 0 and done["rounds"] < plan.rounds:
            done["curve"].append(look(agent, seed, GLANCE_EPISODES, done, world))
        save_nested(kept, {"agent": agent.state_dict(), "done": done})
    done["curve"].append(look(agent, seed, EPISODES, done, world))
    return {name: done[name] for name in ("curve", "cpu_seconds", "seconds")}


def look(
    agent: RecurrentAgent | SB3Agent, seed: int, episodes: int, done: dict[str, Any], world: World
) -> dict[str, Any]:
    """What an agent earns in reality by now, and what it said last of its learning."""
    earned = real(agent.real_policy, 10_000 + seed, episodes, world)
    shown = {key: digits(value) for key, value in done["numbers"].items()}
    print(agent.dreamed_steps, f"{done['cpu_seconds']:.0f} s", earned.mean, shown, flush=True)
    return {"dreamed_steps": agent.dreamed_steps, **earned.to_json(), "diagnostics": shown}


def chance(seed: int) -> dict[str, Any]:
    """What uniform actions earn."""
    env = make_env(MINATAR, **WORLDS[MINATAR].options)
    policy = RandomPolicy(env.action_spec, generator=torch.Generator().manual_seed(seed))
    env.close()
    return {"curve": [{"dreamed_steps": 0, **real(policy, 10_000 + seed).to_json()}], "cpu_seconds": 0, "seconds": 0}


def frozen(family: str, seed: int, pixels: Path) -> PretrainedModel:
    """The fitted model."""
    model = load(pixels / run_name(family, MINATAR, seed) / "model")
    if isinstance(model, Diamond):
        model.sampler = replace(model.sampler, steps=DENOISING_STEPS)
    return model


def rates(family: str, model: PretrainedModel, seed: int, pixels: Path) -> dict[str, Any]:
    """Rewards and ends a step in the data and in dreams from its states, under the policy that collected it.

    Returns:
        ``spans`` of steps from there, and for each of ``reality`` and ``dream`` the means of ``reward`` and ``end`` in
        them, over rows that have not ended before.
    """
    options, steps = WORLDS[MINATAR].options, SPANS[-1][1]
    real_ones = data(MINATAR, seed, REAL_STEPS, steps, 8 * RATE_ROWS, pixels, **options)
    replay = data(MINATAR, seed, REAL_STEPS, SEQUENCES[family], 64, pixels, **options)
    for one in (real_ones, replay):
        one.set_rng(torch.Generator().manual_seed(seed))
    sequences = cast(TensorDictBase, real_ones.sample())["next"]
    starts = ReplayStarts(model, replay.sample, pool_size=RATE_ROWS, seed=seed)
    dream = make_simulator(model, batch_size=RATE_ROWS, seed=seed, starts=starts)
    draws = torch.Generator().manual_seed(seed)
    policy = RandomPolicy(model.action_spec.expand(RATE_ROWS, *model.action_spec.shape), REPEAT_PROBABILITY, draws)
    dream.reset()
    dreamt = []
    for _ in range(steps):
        step = dream.step(policy(TensorDict(batch_size=[RATE_ROWS]))["action"])
        dreamt.append((step.reward[:, 0], step.terminated[:, 0]))
    reward, end = (torch.stack(each, 1) for each in zip(*dreamt, strict=True))
    real_reward, real_end = sequences["reward"][..., 0], sequences["terminated"][..., 0]
    return {"spans": SPANS, "reality": while_alive(real_reward, real_end), "dream": while_alive(reward, end)}


def while_alive(reward: Tensor, end: Tensor) -> dict[str, list[float]]:
    """Means over the spans of what rows ``[N, T]`` receive that have not ended before."""
    alive = until_first_end(end)
    spans = [(slice(first, last), alive[:, first:last]) for first, last in SPANS]
    return {
        name: [digits(float(what[:, span][rows].float().mean())) for span, rows in spans]
        for name, what in (("reward", reward), ("end", end))
    }


def seen_in_tokens(model: IRIS, seed: int, pixels: Path) -> dict[str, float]:
    """What a policy sees that reads reality through the model's tokenizer; see :func:`kept`."""
    options = WORLDS[MINATAR].options
    replay = data(MINATAR, seed + 1000, HELD_OUT_STEPS, 1, RATE_ROWS, pixels, **options)
    replay.set_rng(torch.Generator().manual_seed(seed))
    frames = cast(TensorDictBase, replay.sample())["pixels"][:, 0]
    return kept(frames, Reconstruction(model.tokenizer)(frames))


def kept(frames: Tensor, drawn: Tensor) -> dict[str, float]:
    """Share of each thing's pixels that are nearest to its colour in other frames too, both ``[N, H, W, 3]``."""
    colours = torch.cat([torch.zeros(1, 3), torch.tensor(PALETTE[: len(THINGS)]).float()])
    real, other = ((each.unsqueeze(-2).float() - colours).square().sum(-1).argmin(-1) for each in (frames, drawn))
    return {
        thing: digits(float((other[real == number] == number).float().mean()))
        for number, thing in enumerate(THINGS, start=1)
    }


def run(family: str, agent: str, seed: int, pixels: Path, kept: Path) -> dict[str, Any]:
    """One agent in one model, in one thread."""
    torch.set_num_threads(1)
    seed_everything(seed)
    if agent == "random":
        return {"family": family, "agent": agent, "seed": seed, "real_steps": 0, **chance(seed)}
    fitted = fit(family, MINATAR, seed, pixels, FITS[family, MINATAR])
    model = frozen(family, seed, pixels)
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
    runs, measured = [], {}
    for family, agent, seed in wanted:
        kept = given.runs / (f"random-{seed}.json" if agent == "random" else f"{family}-{agent}-{seed}.json")
        if not kept.is_file() and not given.report:
            unfinished = kept.with_suffix(".state")
            kept.write_text(json.dumps(run(family, agent, seed, given.pixels, unfinished)) + "\n")
            unfinished.unlink(missing_ok=True)
        if kept.is_file():
            runs.append(json.loads(kept.read_text()))
    for family in sorted({one["family"] for one in runs if one["agent"] != "random"}):
        kept = given.runs / f"{family}-rates.json"
        if not kept.is_file() and not given.report:
            model = frozen(family, given.seeds[0], given.pixels)
            kept.write_text(json.dumps(rates(family, model, given.seeds[0], given.pixels)) + "\n")
        if kept.is_file():
            measured[family] = json.loads(kept.read_text())
    tokens = given.runs / "IRIS-tokens.json"
    if "IRIS" in given.families and not tokens.is_file() and not given.report:
        model = cast(IRIS, frozen("IRIS", given.seeds[0], given.pixels))
        tokens.write_text(json.dumps(seen_in_tokens(model, given.seeds[0], given.pixels)) + "\n")
    facts = {"torch": torch.__version__, "command": "python -m benchmarks.dream_only", "settings": settings()}
    facts |= {"rates": measured, "tokens": json.loads(tokens.read_text()) if tokens.is_file() else {}, "runs": runs}
    (given.out / "dream_only.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "dream_only.md").write_text(table(facts))
    draw("dream_only", given.out)


if __name__ == "__main__":
    main()
