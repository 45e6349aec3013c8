"""Worlds of features in two rooms: goals reached by planning, what each term against collapse is worth.

``python -m benchmarks.features`` fits and plays what is missing (runs are kept in ``runs/features``, and resumed where
they were) and writes ``docs/benchmarks/features.json`` and ``features.md``. Each run is one thread of a CPU.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torchrl.data import Bounded, Composite, TensorDictReplayBuffer

from benchmarks.fitting import kept, kept_replay
from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import BestSequence, GoalDistance, RecedingHorizon, ShiftedPlan, icem
from wmcomponents.data import DrawMasks, collect, make_env, make_replay
from wmcomponents.data.random_policy import RandomPolicy
from wmcomponents.data.two_rooms import BORDER, DOOR, DOT, PUBLISHED_DOOR, Rooms, drawn_rooms, picture
from wmcomponents.dream import GoalReward, GoalWorldModel
from wmcomponents.encoders import FrozenEncoder
from wmcomponents.evaluation import evaluate_goals
from wmcomponents.functional import Cosine, channel_std, participation_ratio, rankme
from wmcomponents.models import MODELS, make_pretraining
from wmcomponents.models.loading import load_encoder
from wmcomponents.training import Trainer

ENV, SIDE = "wmcomponents/TwoRooms-v0", 64
OUT, RUNS = Path("docs/benchmarks"), Path("runs/features")
IMAGE_SIZE, STEPS, MORE, EPISODE, REPEAT = 32, 128_000, 512_000, 20, 0.95
BATCH, LENGTH, UPDATES, LONGER, LONG, PRETRAINING = 48, 8, 1_500, 4_500, 12_000, 1_500
EPISODES, MAX_STEPS = 50, 200


class Plans(NamedTuple):
    """How plans are made.

    Attributes:
        horizon: moves of a plan.
        candidates: plans of an iteration.
        iterations: of iCEM.
        executed: moves of a plan that are executed.
    """

    horizon: int = 60
    candidates: int = 128
    iterations: int = 1
    executed: int = 8


FEWER = Plans(40, 64)
"""For transformers, of which a predicted step costs tens of times that of a perceptron."""


@dataclass(frozen=True)
class World:
    """What is fitted, and how.

    Attributes:
        family: of ``MODELS``.
        told: in the table.
        changes: of the ``tiny`` preset.
        updates: gradient steps.
        lr: learning rate, which falls to a twentieth along half a cosine.
        plans: how plans are made in it.
        on_encoder: whether the world stands on a frozen encoder, which is pretrained on the same walks.
        image_size: side of the images.
        steps: of random walks that it learns from.
        door: width of the door in its rooms.
        door_starts: share of its random walks that begin by a door.
    """

    family: str
    told: str
    changes: dict[str, Any] = field(default_factory=dict)
    updates: int = UPDATES
    lr: float = 2e-3
    plans: Plans = Plans()
    on_encoder: bool = False
    image_size: int = IMAGE_SIZE
    steps: int = STEPS
    door: float = DOOR
    door_starts: float = 0.0


SCALE: dict[str, Any] = {"pixel_mean": (0.005, 0.17, 0.0), "pixel_std": (0.26, 0.33, 1.0)}
"""Means of the channels, the deviation of the walls, and for the dot one that shows it a little larger than they are.

By its own deviation, 0.05, the dot is told after 500 updates and the door not after 1,500; as bright as the walls, it
is the other way round after 500. Without a scale both are told as well after 3,000 as with this one after 500."""

SIZES: dict[str, Any] = {
    **SCALE, "predictor": "mlp", "units": 512, "latent": 128, "channels": (8, 16, 32), "blocks": 0,
    "similarity": 3.0,
}  # fmt: skip
"""A perceptron learns how the dot moves in a fifth of a GRU's updates, and convolutions alone cost half as much.
With a quarter of the published weight of temporal similarity the dot is told better: after 1,000 updates and 20 steps
it is foretold to 9 pixels in place of 12."""

DIMMED: dict[str, Any] = {"pixel_std": (0.5, 0.33, 1.0)}
"""With the deviation above, R^2 in images of 64 pixels is 1.00 of the dot, 0.27 of the wall and -0.05 of the door."""

MAPS: dict[str, Any] = {
    **SCALE, "predictor": "conv", "units": 512, "latent": 8, "channels": (16, 32), "blocks": 2, "similarity": 3.0,
}  # fmt: skip
"""Eight numbers at each of 8 x 8 places, which convolutions predict: what a wall does to a dot is told from what is
near it."""

NO_TERM = {"variance": 0.0, "covariance": 0.0, "similarity": 0.0, "inverse_dynamics": 0.0}
UNAIDED = {**NO_TERM, "against_collapse": "none"}
BESIDE: dict[str, Any] = {**SCALE, "channels": (8, 16, 32), "blocks": 0}

WORLDS = {
    "jepa-map": World("JEPA", "JEPA, eb_jepa's four terms, a map predicted by convolutions", MAPS),
    "jepa-long": World("JEPA", f"JEPA, eb_jepa's four terms, {LONG:,} updates", SIZES, LONG, plans=Plans(60, 256)),
    "jepa-wide": World("JEPA", "JEPA, eb_jepa's four terms, wide door", SIZES, door=PUBLISHED_DOOR),
    "jepa-64-doors": World("JEPA", "JEPA, 64 pixels, half the walks from doors", SIZES, image_size=64, door_starts=0.5),
    "jepa-64-wide-doors": World(
        "JEPA",
        "JEPA, 64 pixels, wide door, half the walks from it",
        SIZES,
        image_size=64,
        door=PUBLISHED_DOOR,
        door_starts=0.5,
    ),
    "jepa-64-wide": World("JEPA", "JEPA, 64 pixels, wide door", SIZES, image_size=64, door=PUBLISHED_DOOR),
    "jepa-64-more": World(
        "JEPA",
        f"JEPA, 64 pixels, {LONGER:,} updates, {MORE:,} steps of walks",
        SIZES,
        LONGER,
        image_size=64,
        steps=MORE,
    ),
    "jepa-64-long": World("JEPA", f"JEPA, 64 pixels, {LONGER:,} updates", SIZES, LONGER, image_size=64),
    "jepa-64": World("JEPA", "JEPA, eb_jepa's four terms, 64 pixels", SIZES, image_size=64),
    "jepa-64-even": World("JEPA", "JEPA, 64 pixels, the dot half as bright", {**SIZES, **DIMMED}, image_size=64),
    "jepa": World("JEPA", "JEPA, eb_jepa's four terms", SIZES),
    "jepa-no-variance": World("JEPA", "without the variance", {**SIZES, "variance": 0.0}),
    "jepa-no-covariance": World("JEPA", "without the covariances", {**SIZES, "covariance": 0.0}),
    "jepa-no-similarity": World("JEPA", "without temporal similarity", {**SIZES, "similarity": 0.0}),
    "jepa-no-inverse": World("JEPA", "without inverse dynamics", {**SIZES, "inverse_dynamics": 0.0}),
    "jepa-sigreg": World("JEPA", "SIGReg", {**SIZES, **NO_TERM, "against_collapse": "distribution"}),
    "jepa-pldm": World("JEPA", "PLDM's terms", {**SIZES, "against_collapse": "pldm"}),
    "jepa-average": World("JEPA", "an average as target, no term", {**SIZES, **UNAIDED, "target": "average"}),
    "jepa-none": World("JEPA", "nothing", {**SIZES, **UNAIDED}),
    "lewm": World("LeWM", "LeWorldModel", BESIDE, lr=1e-3, plans=FEWER),
    "pldm": World("PLDM", "PLDM", {**BESIDE, "network.units": 512}, lr=1e-3),
    "dino-wm": World("DINOWM", "DINO-WM on a masked autoencoder's patches", {"frames": 1}, 2_000, 1e-3, FEWER, True),
}  # fmt: skip
"""By the name of their run."""


def steps_of_random_walks(
    length: int = LENGTH,
    batch: int = BATCH,
    size: int = IMAGE_SIZE,
    steps: int = STEPS,
    door: float = DOOR,
    door_starts: float = 0.0,
) -> TensorDictReplayBuffer:
    """Offline data: a random walk of 20 steps in each of thousands of rooms; collected once and kept."""
    rooms = {"door_width": door, "door_starts": door_starts}
    kinds: dict[str, Any] = {"env_kwargs": rooms, "max_episode_steps": EPISODE}
    env = make_env(ENV, image_size=size, num_envs=16 * steps // STEPS, seed=0, **kinds)
    replay = make_replay(steps, env, sequence_length=length, batch_size=batch, seed=0, print_fn=None)
    changed = f"{'' if door == DOOR else f'-{door:g}'}{f'-by-door-{door_starts:g}' if door_starts else ''}"
    folder = RUNS / f"data-{size}-{steps}-{EPISODE}-{REPEAT}{changed}"
    return kept_replay(replay, folder, lambda: collect(env, replay, steps, seed=0, action_repeat_prob=REPEAT))


def fitted(name: str, seed: int) -> tuple[Any, dict[str, Any]]:
    """A world, fitted or gone on with, and what that took."""
    world, folder = WORLDS[name], RUNS / f"{name}-{seed}"
    env = make_env(ENV, image_size=world.image_size)
    cpu, wall = time.process_time(), time.perf_counter()
    parts = {"encoder": encoder_of_walks(seed)} if world.on_encoder else {}
    torch.manual_seed(seed)
    kind: Any = MODELS[world.family]
    model = kind(kind.config_class.tiny(**world.changes), env, **parts)
    schedule = Cosine(1.0, 0.05, world.updates)
    options: Any = {"out": folder, "lr": world.lr, "schedule": schedule, "seed": seed, "progress": False}
    walks = steps_of_random_walks(
        size=world.image_size, steps=world.steps, door=world.door, door_starts=world.door_starts
    )
    trainer = Trainer(model, walks, **options)
    begun, kept_in = trainer.steps, folder / "took.json"
    trainer.train(world.updates)
    took = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall, "timed_from": begun}
    if not kept_in.is_file():
        kept_in.write_text(json.dumps(took) + "\n")
    size = sum(p.numel() for p in model.parameters())
    return model.eval(), {**json.loads(kept_in.read_text()), "updates": trainer.steps, "parameters": size}


def encoder_of_walks(seed: int) -> FrozenEncoder:
    """A masked autoencoder's encoder, pretrained on single frames of the walks, or gone on with."""
    folder = RUNS / f"encoder-{seed}"
    if not (folder / "model").is_dir():
        spec = Composite(pixels=Bounded(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=torch.uint8))
        torch.manual_seed(seed)
        model = make_pretraining("MAE", "tiny", spec, patch=8, steps=PRETRAINING, warmup=100)
        replay = steps_of_random_walks(length=1, batch=256)
        replay.append_transform(DrawMasks(model.masks()))
        Trainer(model, replay, out=folder, seed=seed, progress=False).train(PRETRAINING)
        model.save_pretrained(folder / "model")
    return load_encoder(folder / "model")


def told(model: Any, rows: int = 2_000, door: float = DOOR) -> dict[str, float]:
    """What a linear map tells of unseen rooms out of the features: R^2 of the dot, the wall and the door."""
    features, truth = [], []
    for seed in (1, 2):
        rooms = drawn_rooms(rows, np.random.default_rng(seed), door_width=door)
        features.append(torch.cat([features_of(model, rooms), torch.ones(rows, 1)], -1).double())
        truth.append(torch.tensor(np.stack([*rooms.position.T, rooms.wall, rooms.door], -1)))
    (fit, test), (known, wanted) = features, truth
    middle = known.mean(0)
    weights = torch.linalg.solve(fit.T @ fit + torch.eye(fit.shape[-1]), fit.T @ (known - middle))
    left = 1 - (test @ weights + middle - wanted).square().mean(0) / (wanted - wanted.mean(0)).square().mean(0)
    spread = test[:, :-1]
    return {
        "r2_dot": left[:2].mean().item(), "r2_wall": left[2].item(), "r2_door": left[3].item(),
        "rankme": rankme(spread).item(), "rank": participation_ratio(spread).item(), "std": channel_std(spread).item(),
    }  # fmt: skip


@torch.no_grad()
def features_of(model: Any, rooms: Rooms) -> torch.Tensor:
    """Features of what rooms look like, one frame each, ``[N, F]``."""
    images = torch.from_numpy(picture(rooms)).movedim(-1, 1).float()
    rows, size = len(images), model.observation_spec["pixels"].shape[:2]
    seen = {"pixels": torch.nn.functional.interpolate(images, size, mode="area").round().byte().movedim(1, -1)}
    begins = torch.ones(rows, 1, dtype=torch.bool)
    state = model.observe(model.initial_state((rows,)), model.null_action((rows,)), seen, begins, None)
    return model.features(state)


def near_over_far(model: Any, rows: int = 3_000, door: float = DOOR) -> float:
    """Distances of features where dots are within 8 pixels of each other, over those where they are 24 or more apart.

    Means of both, in the same rooms; 1 where distances do not tell near from far.
    """
    draws = np.random.default_rng(3)
    rooms = drawn_rooms(rows, draws, door_width=door)
    others = rooms._replace(position=draws.uniform(BORDER + DOT, SIDE - 1 - BORDER - DOT, (rows, 2)))
    apart = (features_of(model, rooms) - features_of(model, others)).square().mean(-1)
    gaps = torch.from_numpy(np.linalg.norm(rooms.position - others.position, axis=-1))
    return float(apart[gaps <= 8].mean() / apart[gaps >= 24].mean())


def played(policy: Any, seed: int, size: int = IMAGE_SIZE, door: float = DOOR) -> dict[str, Any]:
    """Goals reached in the real rooms, the same for everybody."""
    real = make_env(ENV, env_kwargs={"goal": True, "door_width": door}, image_size=size, num_envs=25)
    found = evaluate_goals(
        real,
        policy,
        EPISODES,
        seed=1_000 + seed,
        max_steps=MAX_STEPS,
        distance=lambda step: -SIDE * step["next", "reward"],
    )
    return found.to_json()


def planner(model: Any, plans: Plans) -> PlanningAgent:
    """Plans towards the picture of the goal: the sum of distances of features over the horizon.

    The ways along the wall, to the left and to the right of a door, have no mean that leads through it: the best of
    many sequences is executed, of one iteration. With the true dynamics it reaches 45 to 49 of 50 goals (by how far
    distances count), and the mean of the elites of three iterations 42 to 44.
    """
    goals, first = GoalWorldModel(model, GoalReward(model)), ShiftedPlan(steps=plans.executed)
    numbers = {"horizon": plans.horizon, "candidates": plans.candidates, "budget": plans.iterations, "noise": "mode"}
    options: Any = {"choice": BestSequence(), "elite_ratio": 0.02, "warm_start": first, **numbers}
    search = icem(goals, GoalDistance.of(goals.reward, running=1.0), seed=0, **options)
    return PlanningAgent(RecedingHorizon(search, plans.executed))


def run(name: str, seed: int) -> dict[str, Any]:
    """A world fitted, looked at and planned in."""
    model, took = fitted(name, seed)
    cpu = time.process_time()
    world = WORLDS[name]
    goals = played(planner(model, world.plans).real_policy, seed, world.image_size, world.door)
    return {
        "name": name,
        "seed": seed,
        **took,
        **told(model, door=world.door),
        "near_over_far": near_over_far(model, door=world.door),
        **goals,
        "planning_cpu_seconds": time.process_time() - cpu,
    }


def at_random() -> dict[str, Any]:
    """What random walks reach."""
    env = make_env(ENV, env_kwargs={"goal": True}, image_size=IMAGE_SIZE, num_envs=25)
    policy = RandomPolicy(env.action_spec, REPEAT, generator=torch.Generator().manual_seed(0))
    return {"name": "random", "seed": 0, **played(policy, 0)}


def told_of(plans: Plans) -> str:
    """Of a planner, in words."""
    tried = f"{plans.candidates} sequences of {plans.horizon} moves"
    tried = tried if plans.iterations == 1 else f"{plans.iterations} iterations of {tried}"
    return f"{tried}, {plans.executed} executed"


def page(facts: dict[str, Any]) -> str:
    """The page that the numbers give."""
    lines = [
        "# Worlds of features in two rooms",
        "",
        "A dot, two rooms, a wall with a door that stand elsewhere in every episode, and the picture of a goal in the",
        f"other room. Worlds of features learn from {STEPS:,} steps of random walks (or as many as are named), without",
        f"rewards; then a planner looks for the goals of {EPISODES} unseen rooms, at most {MAX_STEPS} steps each.",
        "",
        "| world | seed | updates | reached | 95 % interval | steps | missed by | dot, wall, door | near over far "
        "| rank | deviation | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in facts["runs"]:
        low, high = one["interval"]
        steps = "" if one["mean_length_reached"] is None else f"{one['mean_length_reached']:.0f}"
        row = [
            facts["worlds"].get(one["name"], one["name"]),
            one["seed"],
            f"{one['updates']:,}" if "updates" in one else "",
            f"{one['rate']:.0%}",
            f"{low:.0%} to {high:.0%}",
        ]
        row += [steps, f"{one['mean_distance']:.0f}"]
        if "rank" in one:
            r2 = ", ".join(f"{one[key]:.2f}" for key in ("r2_dot", "r2_wall", "r2_door"))
            row += [
                r2,
                f"{one['near_over_far']:.2f}" if "near_over_far" in one else "",
                f"{one['rank']:.1f}",
                f"{one['std']:.2f}",
                f"{one['cpu_seconds'] + one['planning_cpu_seconds']:.0f}",
            ]
        else:
            row += [""] * 5
        lines.append(f"| {' | '.join(map(str, row))} |")
    if any(one["name"] == "dino-wm" for one in facts["runs"]):
        lines += [
            "",
            "From DINO-WM's patches a linear map reads where the dot, the wall and the door are, and planning fails: a",
            "dot that moves within a patch changes its features as much as one that moves to another patch, so that",
            "distances do not tell near from far.",
        ]
    lines += [
        "",
        "Seen move by move, where doors are wide and images have 32 pixels: most of the goals that are missed lie",
        "behind a door far to the side. The way there leads away from the goal first, and the dot goes up and down",
        "along the wall where the goal is nearest.",
    ]
    if facts["agents"]:
        lines += ["", "## An agent that learned in a dream alone", ""]
        lines += [
            "Stable-Baselines3's PPO, paid by `GoalReward` in a world's dreams, in the same real rooms",
            "(`python -m benchmarks.features_agent --world NAME`). Its dreams begin in 40,000 further real steps of",
            "random walks, which show their goals; their rewards are not read.",
        ]
        head = ["agent", "world", "seed", "dreamed steps", "reached", "95 % interval", "CPU s"]
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for one in facts["agents"]:
        for look in one["curve"]:
            low, high = look["interval"]
            last = f"{one['cpu_seconds']:.0f}" if look is one["curve"][-1] else ""
            cells = [one["agent"], facts["worlds"][one["world"]], one["seed"], f"{look['dreamed_steps']:,}"]
            cells.append(f"{look['rate']:.0%}")
            lines.append(f"| {' | '.join(map(str, [*cells, f'{low:.0%} to {high:.0%}', last]))} |")
    lines += [
        "",
        "## How it was measured",
        "",
        f"`{facts['command']}` with torch {facts['torch']}, one thread a run, beside other work. Images have",
        f"{IMAGE_SIZE} pixels a side where nothing else is said; doors {DOOR:g}, of which the dot's middle has half,",
        f"wide ones {PUBLISHED_DOOR:g}, of which it has {PUBLISHED_DOOR - 2 * DOT:g} as in PLDM's task;",
        f"walks have {EPISODE} steps, and a move is kept with",
        f"probability {REPEAT}; updates are of {BATCH} sequences of {LENGTH} steps, presets `tiny` with the sizes that",
        "the script names. The",
        f"planner is iCEM, whose best sequence is executed: {told_of(Plans())}; of the first world",
        f"{told_of(WORLDS['jepa-long'].plans)}; where a transformer predicts, {told_of(FEWER)}.",
        "Plans are judged by the sum of distances of features to those of the goal (means of squares); reached it is",
        "at 4.5 of 64 pixels,",
        "also the unit of what it was missed by. Dot, wall, door: R^2 of a linear map from the features to where they",
        "are, in unseen rooms; near over far: the mean distance of features where dots are within 8 pixels of each",
        "other, over that where they are 24 or more apart (1 tells nothing); rank: participation ratio of features;",
        "deviation: mean of their channels'.",
        "",
    ]
    return "\n".join(lines)


def latest(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last of each run, worlds in their order."""
    runs = {(one.get("agent", ""), one.get("name", one.get("world")), one["seed"]): one for one in found}
    order = [*WORLDS, "random"]
    return [runs[key] for key in sorted(runs, key=lambda key: (key[0], order.index(key[1]), key[2]))]


def main() -> None:
    """Fit and play what is missing and write the page."""
    parser = argparse.ArgumentParser(description="worlds of features in two rooms")
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--table", action="store_true", help="only write the page of the runs that are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        kept("random-0", at_random, RUNS)
        for seed in given.seeds:
            for name in given.worlds:
                kept(f"{name}-{seed}", lambda n=name, s=seed: run(n, s), RUNS)
    files = [RUNS / f"{name}-{seed}.json" for name in (*WORLDS, "random") for seed in range(10)]
    agents = sorted(RUNS.glob("agent-*.json"))
    page_file = OUT / "features.json"
    published = json.loads(page_file.read_text()) if page_file.is_file() else {"runs": [], "agents": []}
    facts = {
        "torch": torch.__version__, "command": "python -m benchmarks.features",
        "worlds": {name: world.told for name, world in WORLDS.items()} | {"random": "random walk"},
        "runs": latest([*published["runs"], *(json.loads(file.read_text()) for file in files if file.is_file())]),
        "agents": latest([*published["agents"], *(json.loads(file.read_text()) for file in agents)]),
    }  # fmt: skip
    page_file.write_text(json.dumps(facts, indent=1) + "\n")
    (OUT / "features.md").write_text(page(facts))


if __name__ == "__main__":
    main()
