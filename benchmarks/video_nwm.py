"""A Navigation World Model in two rooms: pictures of goals reached by planning in what it dreams.

``python -m benchmarks.video_nwm`` fits and plays what is missing (runs are kept in ``runs/video_nwm``, and resumed
where they were) and writes ``docs/benchmarks/video_nwm.json`` and ``video_nwm.md``. Each run is one thread of a CPU.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer

from benchmarks.fitting import kept, kept_replay
from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import BestSequence, GoalDistance, RecedingHorizon, ShiftedPlan, icem, nwm_cem
from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.data.random_policy import RandomPolicy
from wmcomponents.data.two_rooms import LONGEST_STEP
from wmcomponents.dream import GoalReward, GoalTerm, GoalWorldModel
from wmcomponents.evaluation import evaluate_goals
from wmcomponents.functional import Cosine
from wmcomponents.models import NWM, CDiTConfig, ConvAutoencoderConfig, NWMConfig, NWMSamplingConfig
from wmcomponents.training import Trainer
from wmcomponents.world_model import State

ENV, SIDE = "wmcomponents/TwoRooms-v0", 64
OUT, RUNS = Path("docs/benchmarks"), Path("runs/video_nwm")
IMAGE_SIZE, MOVES = 16, 4
"""Side of images, and moves of the dot for each action."""

STEPS, EPISODE, REPEAT, DOOR_STARTS = 64_000, 12, 0.3, 0.5
"""Random walks: long ones that keep their moves stand at walls most of the time."""

BATCH, LENGTH, AUTOENCODER, UPDATES, LR = 64, 2, 450, 11_000, 2e-3
EPISODES, ROWS, MAX_STEPS = 50, 25, 50
HORIZON, CANDIDATES, EXECUTED = 8, 64, 4
"""Actions of a plan, how many sequences are tried, and how many actions of a plan are executed."""

PLANNING = NWMSamplingConfig("ddim", 1)
"""How frames of plans are drawn."""

BLUR = 9
"""Side of the square over which a picture is averaged, twice, before two are compared: what is near is alike then."""

SIZES: dict[str, Any] = {
    "context": 1,
    "autoencoder": ConvAutoencoderConfig(latent=4, width=32, mults=(1, 1), blocks=1, scale=1.0),
    "worst": 0.02,
    "kl_scale": 1e-5,
    "transformer": CDiTConfig(patch=1, dim=64, depth=2, heads=4, positions="sine"),
    "target": "clean",
    "sampling": NWMSamplingConfig("ddim", 2),
    "goals": 1,
    "reach": 2,
    "autoencoder_steps": AUTOENCODER,
}
TOLD = {
    "sequences": "NWM, sequences of moves (iCEM)",
    "lines": "NWM, straight lines (the paper's planner)",
    "straight": "straight towards the goal",
    "random": "random walk",
}
"""What is played, in the table's words."""


def steps_of_random_walks() -> TensorDictReplayBuffer:
    """Replay of random walks, recorded once and kept."""
    kinds: dict[str, Any] = {"env_kwargs": {"door_starts": DOOR_STARTS}, "max_episode_steps": EPISODE}
    env = make_env(ENV, image_size=IMAGE_SIZE, action_repeat=MOVES, **kinds)
    replay = make_replay(STEPS, env, sequence_length=LENGTH, batch_size=BATCH, seed=0, print_fn=None)
    folder = RUNS / f"data-{IMAGE_SIZE}-{STEPS}-{EPISODE}-{REPEAT}-{MOVES}-by-door-{DOOR_STARTS}"
    return kept_replay(replay, folder, lambda: collect(env, replay, STEPS, seed=0, action_repeat_prob=REPEAT))


def cooling(step: int) -> float:
    """The learning rate of each stage, over its first."""
    begin, end = (0, AUTOENCODER) if step < AUTOENCODER else (AUTOENCODER, UPDATES)
    return Cosine(1.0, 0.05, end - begin)(step - begin)


def fitted(seed: int) -> tuple[NWM, dict[str, Any]]:
    """A world, fitted or gone on with, and what that took, which is kept beside it."""
    env = make_env(ENV, image_size=IMAGE_SIZE, action_repeat=MOVES)
    cpu, wall = time.process_time(), time.perf_counter()
    torch.manual_seed(seed)
    model = NWM(NWMConfig.tiny(**SIZES), env.observation_spec, env.action_spec)
    options: Any = {"out": RUNS / f"nwm-{seed}", "lr": LR, "seed": seed, "progress": False}
    trainer = Trainer(model, steps_of_random_walks(), schedule=cooling, **options)
    begun, file = trainer.steps, RUNS / f"nwm-{seed}" / "fit.json"
    if begun < UPDATES or not file.is_file():
        trainer.train(UPDATES)
        took = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall, "timed_from": begun}
        file.write_text(json.dumps({**took, "parameters": sum(p.numel() for p in model.parameters())}) + "\n")
    return model.eval(), json.loads(file.read_text())


def blurred_difference(seen: Tensor, goal: Tensor) -> Tensor:
    """Mean squared difference of blurred pictures, flat ``[*B, F]``, ``[*B, 1]``: smaller the nearer two dots are."""
    side = math.isqrt(seen.shape[-1] // 3)
    apart = (seen - goal).reshape(-1, side, side, 3).movedim(-1, 1)
    for _ in range(2):
        apart = F.avg_pool2d(apart, BLUR, 1, BLUR // 2)
    return apart.square().flatten(1).mean(1).reshape(*seen.shape[:-1], 1)


def planner(model: NWM, kind: str) -> PlanningAgent:
    """Plans towards the picture of the goal, half of each executed."""

    def seen(state: State) -> Tensor:
        return model.decode(state)["pixels"].float().flatten(-3) / 255.0

    model.sampling = PLANNING
    reward = GoalReward(model, terms=[GoalTerm(seen, blurred_difference)])
    goals = GoalWorldModel(model, reward)
    if kind == "lines":
        evenly = {"mean": (0.0, 0.0), "std": (0.6, 0.6), "repeats": 1}
        search = nwm_cem(goals, GoalDistance.of(reward), seed=0, **evenly)
        return PlanningAgent(RecedingHorizon(search, EXECUTED))
    numbers: Any = {"horizon": HORIZON, "candidates": CANDIDATES, "budget": 1, "elite_ratio": 0.05, "seed": 0}
    first = ShiftedPlan(steps=EXECUTED)  # of ways around a wall the mean leads nowhere: the best is taken
    search = icem(goals, GoalDistance.of(reward, running=1.0), choice=BestSequence(), warm_start=first, **numbers)
    return PlanningAgent(RecedingHorizon(search, EXECUTED))


def dots(pictures: Tensor) -> Tensor:
    """Where the dots of pictures ``[*B, H, W, 3]`` are, in pixels of the rooms, ``[*B, 2]``."""
    red = pictures[..., 0].float()
    line = torch.arange(red.shape[-1], device=red.device) * (SIDE / red.shape[-1])
    weight = red.sum((-2, -1)).clamp_min(1.0)
    return torch.stack([(red.sum(-2) * line).sum(-1), (red.sum(-1) * line).sum(-1)], -1) / weight.unsqueeze(-1)


def straight(shown: TensorDictBase) -> TensorDictBase:
    """The longest move towards where the goal's picture has its dot; it knows of no wall."""
    way = dots(shown["desired_goal"]) - dots(shown["pixels"])
    longest = way / way.norm(dim=-1, keepdim=True).clamp_min(1e-6) * LONGEST_STEP
    return shown.set("action", longest.clamp(-LONGEST_STEP, LONGEST_STEP))


def played(policy: Any, seed: int) -> dict[str, Any]:
    """Goals reached in the real rooms, the same for everybody."""
    kinds: dict[str, Any] = {"env_kwargs": {"goal": True}, "image_size": IMAGE_SIZE, "action_repeat": MOVES}
    real = make_env(ENV, num_envs=ROWS, **kinds)
    found = evaluate_goals(real, policy, EPISODES, seed=1_000 + seed, max_steps=MAX_STEPS)
    return found.to_json()


def run(name: str, seed: int) -> dict[str, Any]:
    """What one policy reaches, in a world that is fitted where it needs one."""
    took: dict[str, Any] = {}
    if name == "straight":
        policy: Any = straight
    elif name == "random":
        kinds: dict[str, Any] = {"env_kwargs": {"goal": True}, "image_size": IMAGE_SIZE, "action_repeat": MOVES}
        spec = make_env(ENV, num_envs=ROWS, **kinds).action_spec
        policy = RandomPolicy(spec, REPEAT, generator=torch.Generator().manual_seed(seed))
    else:
        model, took = fitted(seed)
        policy = planner(model, name).real_policy
    cpu = time.process_time()
    goals = played(policy, seed)
    return {"name": name, "seed": seed, **took, **goals, "playing_cpu_seconds": time.process_time() - cpu}


def page(facts: dict[str, Any]) -> str:
    """The page that the numbers give."""
    lines = [
        "# A Navigation World Model in two rooms",
        "",
        "A dot, two rooms, a wall with a door that stand elsewhere in every episode, and the picture of a goal in the",
        f"other room. A small NWM learns from {STEPS:,} actions of random walks, without rewards; planners in its",
        f"dreams look for the goals of {EPISODES} unseen rooms, at most {MAX_STEPS} actions of {MOVES} moves each.",
        "",
        "| policy | seed | reached | 95 % interval | actions | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for one in facts["runs"]:
        low, high = one["interval"]
        steps = "" if one["mean_length_reached"] is None else f"{one['mean_length_reached']:.0f}"
        seconds = one.get("cpu_seconds", 0.0) + one["playing_cpu_seconds"]
        cells = [TOLD[one["name"]], one["seed"], f"{one['rate']:.0%}", f"{low:.0%} to {high:.0%}", steps]
        lines.append(f"| {' | '.join(map(str, [*cells, f'{seconds:.0f}']))} |")
    lines += [
        "",
        verdict({one["name"]: one for one in facts["runs"] if one["seed"] == 0}),
        "",
        "## How it was measured",
        "",
        f"`{facts['command']}` with torch {facts['torch']}, one thread a run. Images have {IMAGE_SIZE} pixels",
        f"a side. Walks are {EPISODE} actions long, half of them begin by the door, and an action is kept with",
        f"probability {REPEAT}: longer and straighter walks stand at walls most of the time. {AUTOENCODER:,} updates",
        "of the autoencoder, of which an image's worst error counts a fiftieth (without that it leaves the dot out),",
        f"then {UPDATES - AUTOENCODER:,} of the network, of {BATCH} pairs of frames at most {SIZES['reach']} actions",
        f"apart. The network looks at {SIZES['context']} frame, since nothing in these rooms has a speed; it predicts",
        "the frame's latent, and its positions begin as sines: of the noise, and from positions that begin at random,",
        f"it learns far later where the dot goes. In plans a frame is drawn in {PLANNING.steps} step of DDIM. Plans",
        "are judged by the mean squared difference of blurred pictures, what is dreamt and the goal's, both decoded:",
        f"of sequences the sum along {HORIZON} actions, and the best of {CANDIDATES} is taken; of lines at their end.",
        f"{EXECUTED} of the actions are executed. Straight towards the goal: the longest move from the dot to the",
        "goal's dot, as pictures show them.",
        "",
    ]
    return "\n".join(lines)


def verdict(runs: dict[str, Any]) -> str:
    """What the first seed says of plans, in a sentence.

    Args:
        runs: by the policy's name.
    """
    planned = [runs[name] for name in ("sequences", "lines") if name in runs]
    if not planned:
        return "No plan was played."
    best = max(planned, key=lambda one: one["rate"])
    rivals = [runs[name] for name in ("straight", "random") if name in runs]
    if all(best["interval"][0] > one["interval"][1] for one in rivals):
        return "Plans reach more goals than going straight and than a random walk: the intervals do not overlap."
    ahead = [one["name"] for one in rivals if best["rate"] > one["rate"]]
    if "straight" in ahead:
        return "Plans reach more goals than going straight, but the intervals overlap."
    if "random" in ahead:
        return "Plans reach more goals than a random walk, and no more than going straight."
    return "So short a fit does not navigate: no plan reaches more goals than a random walk."


def main() -> None:
    """Fit and play what is missing and write the page."""
    parser = argparse.ArgumentParser(description="a Navigation World Model in two rooms")
    parser.add_argument("--policies", nargs="+", choices=list(TOLD), default=list(TOLD))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--table", action="store_true", help="only write the page of the runs that are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        for seed in given.seeds:
            for name in given.policies:
                kept(f"{name}-{seed}", lambda n=name, s=seed: run(n, s), RUNS)
    files = [RUNS / f"{name}-{seed}.json" for name in TOLD for seed in range(10)]
    runs = [json.loads(file.read_text()) for file in files if file.is_file()]
    facts = {"torch": torch.__version__, "command": "python -m benchmarks.video_nwm", "runs": runs}
    (OUT / "video_nwm.json").write_text(json.dumps(facts, indent=1) + "\n")
    (OUT / "video_nwm.md").write_text(page(facts))


if __name__ == "__main__":
    main()
