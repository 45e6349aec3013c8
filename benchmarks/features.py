"""Worlds of features in two rooms: goals reached by planning, what each term against collapse is worth.

``python -m benchmarks.features`` fits and plays what is missing (runs are kept in ``runs/features``, and resumed where
they were) and writes ``docs/benchmarks/features.json`` and ``features.md``. Each run is one thread of a CPU.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchrl.data import Bounded, Composite, TensorDictReplayBuffer

from benchmarks.features_page import page
from benchmarks.features_worlds import (
    BATCH,
    EPISODE,
    EPISODES,
    IMAGE_SIZE,
    LENGTH,
    MAX_STEPS,
    PRETRAINING,
    REPEAT,
    STEPS,
    WORLDS,
    Plans,
    World,
)
from benchmarks.fitting import kept, kept_replay
from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import BestSequence, GoalDistance, RecedingHorizon, ShiftedPlan, icem
from wmcomponents.data import DrawMasks, collect, make_env, make_replay
from wmcomponents.data.random_policy import RandomPolicy
from wmcomponents.data.two_rooms import BORDER, DOOR, DOT, Rooms, drawn_rooms, picture
from wmcomponents.dream import GoalReward, GoalWorldModel
from wmcomponents.encoders import FrozenEncoder
from wmcomponents.evaluation import evaluate_goals
from wmcomponents.functional import Cosine, channel_std, participation_ratio, rankme
from wmcomponents.models import MODELS, make_pretraining
from wmcomponents.models.loading import load, load_encoder
from wmcomponents.training import Trainer

ENV, SIDE = "wmcomponents/TwoRooms-v0", 64
OUT, RUNS = Path("docs/benchmarks"), Path("runs/features")


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
    """A world, fitted or gone on with, and what that took.

    Raises:
        ValueError: if what was kept under the name has another config.
    """
    world, folder = WORLDS[name], RUNS / f"{name}-{seed}"
    if not (folder / "model").is_dir():
        fit(world, folder, seed)
    model: Any = load(folder / "model").eval()
    if model.config != type(model.config).tiny(**world.changes):
        raise ValueError(f"{folder} holds a world with another config. Move it away, or give this one another name.")
    took = {"updates": world.updates, **json.loads((folder / "took.json").read_text())}
    return model, {**took, "parameters": sum(p.numel() for p in model.parameters())}


def fit(world: World, folder: Path, seed: int) -> None:
    """Fit a world, or go on with it; the model and what it took lie in the folder."""
    env = make_env(ENV, image_size=world.image_size)
    cpu, wall = time.process_time(), time.perf_counter()
    parts = {"encoder": encoder_of_walks(seed)} if world.on_encoder else {}
    torch.manual_seed(seed)
    family: Any = MODELS[world.family]
    model = family(family.config_class.tiny(**world.changes), env, **parts)
    schedule = Cosine(1.0, 0.05, world.updates)
    options: Any = {"out": folder, "lr": world.lr, "schedule": schedule, "seed": seed, "progress": False}
    kind: Any = {"size": world.image_size, "steps": world.steps, "door": world.door, "door_starts": world.door_starts}
    trainer = Trainer(model, steps_of_random_walks(**kind), precision=world.precision, **options)
    begun, kept_in = trainer.steps, folder / "took.json"
    trainer.train(world.updates)
    took = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall, "timed_from": begun}
    took["updates"] = trainer.steps
    if not kept_in.is_file():
        kept_in.write_text(json.dumps(took) + "\n")
    model.save_pretrained(folder / "model")


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
