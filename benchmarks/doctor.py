"""What the data doctor finds: one fault planted in each of twenty data sets, and nothing invented in the clean ones.

Run it with ``python -m benchmarks.doctor``; it writes ``docs/benchmarks/doctor.md`` and ``doctor.json``.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, TensorSpec, Unbounded

from wmcomponents.data.doctor import examine

Observation = dict[str, np.ndarray]
STEPS = 2000


class Episode(NamedTuple):
    """One episode as a log has it: T + 1 observations by key, T of everything else."""

    observations: Observation
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


class Recorded(NamedTuple):
    """Episodes, and the spec of a step."""

    episodes: list[Episode]
    spec: Composite


# -- worlds ------------------------------------------------------------------------------------------------------

Policy = Callable[[Any, np.random.Generator, Any], Any]


def held(chance: float) -> Policy:
    """Random actions, each kept with a probability."""
    return lambda seen, random, last: last if last is not None and random.random() < chance else None


def noisy(policy: Callable[[Any], Any], chance: float) -> Policy:
    """A policy that acts at random now and then."""
    return lambda seen, random, last: None if random.random() < chance else policy(seen)


def gym(env_id: str, policy: Policy, seed: int, steps: int) -> Recorded:
    """Play a Gymnasium environment."""
    import gymnasium

    env = gymnasium.make(env_id)
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    env.action_space.seed(seed)
    random, episodes, total = np.random.default_rng(seed), [], 0
    while total < steps:
        seen, _ = env.reset(seed=seed + total)
        observations, actions, rewards, last, ended = [seen], [], [], None, False
        while total < steps:
            chosen = policy(seen, random, last)
            last = env.action_space.sample() if chosen is None else chosen
            seen, reward, ended, cut, _ = env.step(last)
            observations.append(seen)
            actions.append(last)
            rewards.append(reward)
            total += 1
            if ended or cut:
                break
        episodes.append(_episode({"observation": np.stack(observations)}, actions, rewards, ended, discrete and env))
    shape = env.observation_space.shape
    action: TensorSpec = OneHot(int(env.action_space.n)) if discrete else _box(env.action_space)  # type: ignore[attr-defined]
    return Recorded(episodes, Composite(observation=Unbounded(shape), action=action))


def minatar(game: str, pixels: bool, seed: int, steps: int) -> Recorded:
    """Play a MinAtar game at random, as planes or as images of 20 x 20 pixels."""
    from minatar import Environment

    env = Environment(game, sticky_action_prob=0.1)
    env.seed(seed)
    random, episodes, total = np.random.default_rng(seed), [], 0
    count = env.num_actions()
    while total < steps:
        env.reset()
        observations, actions, rewards, ended, action = [_screen(env, pixels)], [], [], False, 0
        while total < steps and not ended:
            action = action if random.random() < 0.3 else int(random.integers(count))
            reward, ended = env.act(action)
            observations.append(_screen(env, pixels))
            actions.append(np.eye(count, dtype=np.int64)[action])
            rewards.append(reward)
            total += 1
        key = "pixels" if pixels else "observation"
        episodes.append(_episode({key: np.stack(observations)}, actions, rewards, bool(ended), None))
    shape = episodes[0].observations["pixels" if pixels else "observation"].shape[1:]
    kind = torch.uint8 if pixels else torch.bool
    screen = Bounded(0, 255 if pixels else 1, shape, dtype=kind)
    return Recorded(episodes, Composite({"pixels" if pixels else "observation": screen, "action": OneHot(count)}))


def _screen(env: Any, pixels: bool) -> np.ndarray:
    planes = np.asarray(env.state(), bool)
    if not pixels:
        return planes
    colors = np.random.default_rng(0).integers(60, 256, (planes.shape[-1], 3))
    image = np.zeros((*planes.shape[:2], 3), np.int64)
    for plane in range(planes.shape[-1]):
        image[planes[..., plane]] = colors[plane]
    return image.repeat(2, 0).repeat(2, 1).astype(np.uint8)


def linear(size: int, actions: int, noise: float, seed: int, steps: int, length: int = 50) -> Recorded:
    """A stable linear system, pushed at random; episodes begin near a place of their own."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(size, size)))[0] * 0.97
    push = random.normal(size=(size, actions)) * 0.4
    start, episodes = 3.0 * random.normal(size=size), []
    for _ in range(steps // length):
        seen = [start + 0.1 * random.normal(size=size)]
        acted = [random.uniform(-1, 1, actions).astype(np.float32) for _ in range(length)]
        for action in acted:
            seen.append(turn @ seen[-1] + push @ action + noise * random.normal(size=size))
        place = np.stack(seen).astype(np.float32)
        rewards = -np.square(place[1:]).sum(1)
        episodes.append(_episode({"observation": place}, acted, rewards, False, None))
    return Recorded(episodes, Composite(observation=Unbounded(size), action=Bounded(-1.0, 1.0, (actions,))))


def cursor(seed: int, steps: int, with_vector: bool = False) -> Recorded:
    """A bright spot of 32 x 32 pixels that is pushed about; beside it, if wanted, where it is."""
    random, episodes, total = np.random.default_rng(seed), [], 0
    grid = np.stack(np.meshgrid(np.arange(32), np.arange(32), indexing="ij"), -1)
    while total < steps:
        place, seen, acted, paid = np.array([6.0, 6.0]), [], [], []
        length = int(random.integers(20, 60))
        for step in range(length + 1):
            spot = np.exp(-np.square(grid - place).sum(-1) / 8.0)
            seen.append(((spot[..., None] * [255, 180, 60]).astype(np.uint8), (place / 16.0 - 1.0).astype(np.float32)))
            if step == length:
                break
            action = random.uniform(-1, 1, 2).astype(np.float32) + 0.3
            acted.append(np.clip(action, -1, 1))
            place = np.clip(place + 2.0 * acted[-1], 2, 29)
            paid.append(-float(np.abs(place - 16).sum()) / 16)
        total += length
        images, places = (np.stack(part) for part in zip(*seen, strict=True))
        shown = {"pixels": images, **({"position": places} if with_vector else {})}
        episodes.append(_episode(shown, acted, paid, False, None))
    spec: dict[str, TensorSpec] = {"pixels": Bounded(0, 255, (32, 32, 3), dtype=torch.uint8)}
    spec.update({"position": Unbounded(2)} if with_vector else {})
    return Recorded(episodes, Composite({**spec, "action": Bounded(-1.0, 1.0, (2,))}))


def _episode(shown: Observation, actions: Any, rewards: Any, ended: bool, env: Any) -> Episode:
    if env:
        actions = np.eye(int(env.action_space.n), dtype=np.int64)[np.array(actions)]
    return Episode(shown, np.stack(actions), np.asarray(rewards, np.float32), ended)


def _box(space: Any) -> Bounded:
    return Bounded(torch.as_tensor(space.low), torch.as_tensor(space.high), space.shape)


WORLDS: dict[str, Callable[[int, int], Recorded]] = {
    "CartPole, random": lambda seed, steps: gym("CartPole-v1", held(0.0), seed, steps),
    "CartPole, actions held": lambda seed, steps: gym("CartPole-v1", held(0.5), seed, steps),
    "CartPole, balanced": lambda seed, steps: gym(
        "CartPole-v1", noisy(lambda x: int(x[2] + x[3] > 0), 0.3), seed, steps
    ),
    "Pendulum, random": lambda seed, steps: gym("Pendulum-v1", held(0.0), seed, steps),
    "Pendulum, pumped": lambda seed, steps: gym(
        "Pendulum-v1", noisy(lambda x: np.array([2.0 * np.sign(x[2])], np.float32), 0.4), seed, steps
    ),
    "MountainCar, actions held": lambda seed, steps: gym("MountainCar-v0", held(0.8), seed, steps),
    "MountainCar, pumped": lambda seed, steps: gym(
        "MountainCar-v0", noisy(lambda x: 2 * int(x[1] > 0), 0.3), seed, steps
    ),
    "MountainCarContinuous": lambda seed, steps: gym(
        "MountainCarContinuous-v0", noisy(lambda x: np.array([np.sign(x[1])], np.float32), 0.5), seed, steps
    ),
    "Acrobot, random": lambda seed, steps: gym("Acrobot-v1", held(0.0), seed, steps),
    "Acrobot, actions held": lambda seed, steps: gym("Acrobot-v1", held(0.7), seed, steps),
    "linear, 2 numbers": lambda seed, steps: linear(2, 1, 0.0, seed, steps),
    "linear, 6 numbers and noise": lambda seed, steps: linear(6, 3, 0.05, seed, steps),
    "linear, 60 numbers": lambda seed, steps: linear(60, 4, 0.02, seed, steps, 25),
    "Breakout, planes": lambda seed, steps: minatar("breakout", False, seed, steps),
    "Space Invaders, planes": lambda seed, steps: minatar("space_invaders", False, seed, steps),
    "Asterix, planes": lambda seed, steps: minatar("asterix", False, seed, steps),
    "Breakout, images": lambda seed, steps: minatar("breakout", True, seed, steps),
    "Asterix, images": lambda seed, steps: minatar("asterix", True, seed, steps),
    "cursor, images": lambda seed, steps: cursor(seed, steps),
    "cursor, images and position": lambda seed, steps: cursor(seed, steps, with_vector=True),
}
"""Twenty kinds of data, by name: made from a seed and a number of steps."""


# -- layout and faults -------------------------------------------------------------------------------------------


def layout(recorded: Recorded) -> TensorDict:
    """The steps of all episodes in a row, ``[N]``, as they should be."""
    parts = []
    for episode in recorded.episodes:
        count = len(episode.rewards)
        here = {key: torch.as_tensor(value[:-1]) for key, value in episode.observations.items()}
        after = {key: torch.as_tensor(value[1:]) for key, value in episode.observations.items()}
        last, first = torch.zeros(2, count, 1, dtype=torch.bool).unbind(0)
        last[-1], first[0] = True, True
        none = torch.zeros_like(last)
        flags = {"terminated": last if episode.terminated else none, "truncated": none if episode.terminated else last}
        following = TensorDict({**after, "reward": torch.as_tensor(episode.rewards)[:, None], **flags}, [count])
        following["done"] = last
        action = torch.as_tensor(episode.actions)
        parts.append(TensorDict({**here, "action": action, "is_init": first, "next": following}, [count]))
    return torch.cat([part.clone() for part in parts])  # type: ignore[return-value]


def _floats(steps: TensorDict) -> list[str]:
    return [key for key in steps.keys() if key not in ("next", "action", "is_init") and steps[key].is_floating_point()]


def _keys(steps: TensorDict) -> list[str]:
    return [key for key in steps.keys() if key not in ("next", "action", "is_init")]


def _shift(by: int) -> Callable[[TensorDict], TensorDict | None]:
    def plant(steps: TensorDict) -> TensorDict:
        steps["action"] = steps["action"].roll(by, 0)
        return steps

    return plant


def _leak(steps: TensorDict) -> TensorDict | None:
    ends = steps["next", "done"][:-1, 0].nonzero()[:, 0]
    for key in _keys(steps):
        steps["next", key][ends] = steps[key][ends + 1]
    return steps


def _unmark(steps: TensorDict) -> TensorDict:
    for name in ("terminated", "truncated", "done"):
        steps["next", name][:-1] = False
    steps["is_init"][1:] = False
    for key in _keys(steps):
        steps["next", key][:-1] = steps[key][1:]
    return steps


def _remark(by: int) -> Callable[[TensorDict], TensorDict]:
    def plant(steps: TensorDict) -> TensorDict:
        marks = {name: steps["next", name].roll(by, 0) for name in ("terminated", "truncated", "done")}
        steps = _unmark(steps)
        for name, value in marks.items():
            steps["next", name] = value
        steps["next", "done"][-1] = True
        steps["next", "truncated"][-1] = ~steps["next", "terminated"][-1]
        steps["is_init"][1:] = steps["next", "done"][:-1]
        return steps

    return plant


def _nan(steps: TensorDict) -> TensorDict:
    keys = _floats(steps)
    if keys:
        steps[keys[0]][len(steps) // 2] = float("nan")
    else:
        steps["next", "reward"][len(steps) // 2] = float("nan")
    return steps


def _still(steps: TensorDict) -> TensorDict:
    for part in (steps, steps["next"]):
        part["sensor"] = torch.full((len(steps), 2), 0.5)
    return steps


def _unit(steps: TensorDict) -> TensorDict | None:
    for part in (steps, steps["next"]):
        for key in _keys(steps):
            if part[key].dtype == torch.uint8:
                part[key] = (part[key].float() / 255).round().to(torch.uint8)
            elif part[key].is_floating_point():
                part[key] = part[key] * 1e6
    return steps if any(steps[key].dtype != torch.bool for key in _keys(steps)) else None


def _pay(factor: float) -> Callable[[TensorDict], TensorDict | None]:
    def plant(steps: TensorDict) -> TensorDict | None:
        steps["next", "reward"] *= factor
        return steps

    return plant


def _box_out(steps: TensorDict) -> TensorDict:
    steps["action"][::7] = 3 * steps["action"][::7] + (steps["action"].dtype != torch.float32) + 0
    if steps["action"].is_floating_point():
        steps["action"][::7] = 50.0
    return steps


def _slip(steps: TensorDict) -> TensorDict:
    for key in _keys(steps):
        steps[key] = steps[key].roll(1, 0)
    return steps


FAULTS: dict[str, tuple[str, Callable[[TensorDict], TensorDict | None]]] = {
    "actions one step late": ("shifted actions", _shift(1)),
    "actions one step early": ("shifted actions", _shift(-1)),
    "reset frame in place of the last": ("leaked reset", _leak),
    "no end is marked": ("boundaries", _unmark),
    "ends marked one step late": ("boundaries", _remark(1)),
    "ends marked one step early": ("boundaries", _remark(-1)),
    "a NaN": ("not finite", _nan),
    "a sensor that stands still": ("constant", _still),
    "another unit": ("range", _unit),
    "rewards times 100,000": ("reward scale", _pay(1e5)),
    "rewards over a million": ("reward scale", _pay(1e-6)),
    "actions out of their box": ("range", _box_out),
    "observations one step late": ("chain", _slip),
}
"""What is planted, by its name: the fault that is to be found, and what plants it (``None`` where there is no way)."""


def spec_of(recorded: Recorded, steps: TensorDict) -> Composite:
    """The spec of the steps, with the sensor that may have been planted."""
    extra = {"sensor": Unbounded(2)} if "sensor" in steps.keys() else {}
    return Composite({**dict(recorded.spec.items()), **extra})


def found_in(world: str, fault: str | None, seed: int = 0, steps: int = STEPS) -> list[str] | None:
    """The faults that are found in a data set, where one is planted or none; ``None`` where it cannot be planted."""
    recorded = WORLDS[world](seed, steps)
    planted = layout(recorded)
    if fault is not None:
        changed = FAULTS[fault][1](planted)
        if changed is None:
            return None
        planted = changed
    return [one.fault for one in examine([planted], spec_of(recorded, planted)).findings]


CLEAN = "clean"
METHOD = """

In the {count} clean data sets it names: {clean}.

A fault that is planted once may be named more than once: ends that are marked a step off also leave the first frame of
the next episode behind the last step.

Command: `python -m benchmarks.doctor` (with `--faults` or `--worlds` a part of it). Every cell:
[doctor.json](doctor.json).
"""
INTRODUCTION = """\
# What the data doctor finds

[`wmc data check`](../reference/cli.md) on twenty kinds of data of {steps:,} steps, clean and with one fault planted:
how often that fault is named.

| planted | is named | found in | missed in |
|---|---|---|---|
"""


def table(rows: dict[str, dict[str, list[str] | None]]) -> str:
    """The page, from what was found by world and by fault; ``clean`` stands for none."""
    lines = []
    for fault, (name, _) in FAULTS.items():
        tried = {world: found for world, row in rows.items() if (found := row.get(fault)) is not None}
        missed = [world for world, found in tried.items() if name not in found]
        lines.append(f"| {fault} | {name} | {len(tried) - len(missed)} of {len(tried)} | {'; '.join(missed) or '-'} |")
    invented = [f"{world} ({', '.join(row[CLEAN] or [])})" for world, row in rows.items() if row.get(CLEAN)]
    return (
        INTRODUCTION.format(steps=STEPS)
        + "\n".join(lines)
        + METHOD.format(count=len(rows), clean="; ".join(invented) or "nothing")
    )


def main() -> None:
    """Plant every fault in every data set, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--faults", nargs="+", default=[CLEAN, *FAULTS], choices=[CLEAN, *FAULTS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = arguments.out / "doctor.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else {}
    for world in arguments.worlds:
        row = rows.setdefault(world, {})
        for fault in arguments.faults:
            row[fault] = found_in(world, None if fault == CLEAN else fault, arguments.seed)
        print(world, row, flush=True)
    kept.write_text(json.dumps(rows, indent=1) + "\n")
    (arguments.out / "doctor.md").write_text(table(rows))


if __name__ == "__main__":
    main()
