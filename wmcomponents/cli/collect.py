"""`wmc collect`: real steps into a data folder, saved as they come."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._interruption import postponed
from wmcomponents.cli.console import counting, quiet, say
from wmcomponents.cli.env_options import env_options
from wmcomponents.cli.errors import UsageError, at_least

STEPS_AT_A_TIME, SECONDS_AT_A_TIME = 500, 0.5
"""At most, between two looks at the clock."""


@dataclass(frozen=True)
class CollectConfig:
    """Arguments of `wmc collect`."""

    env: str
    """Id of the real environment."""
    out: Path
    """Folder to write; it must not hold other data. Repeat the command to go on where it was interrupted."""
    steps: int = 5000
    """How many real steps, over all copies of the environment."""
    policy: str = "random"
    """'random', or the .zip of a Stable-Baselines3 agent."""
    repeat_probability: float = 0.0
    """Chance that the random policy keeps its last action; held actions reach further."""
    seed: int = 0
    """Of the environment and the policy."""
    num_envs: int = 1
    """Copies of the environment, each with its own seeds; their steps are kept side by side."""
    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment, as name=value; a value is a Python literal, or else a string."""
    from_pixels: bool = False
    """Observe rendered images in place of the environment's own observation."""
    image_size: int | None = None
    """Side of all images, in pixels; if not given, 64 for one colour image, and the environment's own elsewhere."""
    action_repeat: int | None = None
    """Real steps per action; the environment's custom if not given (Atari 4, dm_control 2)."""
    sticky_actions: float | None = None
    """Chance that Atari or MinAtar repeats the action before; the environment's own if not given."""
    max_episode_steps: int | None = None
    """Cut episodes here; the environment's own limit if not given."""
    save_every: float = 10.0
    """Seconds between saves: what a kill can lose."""


def run(config: CollectConfig) -> dict[str, Any]:
    """Collect and save, or go on with it."""
    at_least(1, steps=config.steps, num_envs=config.num_envs)
    at_least(0, seed=config.seed)
    if not 0.0 <= config.repeat_probability <= 1.0:
        raise UsageError(f"--repeat-probability is in [0, 1]; got {config.repeat_probability}.")
    if config.save_every < 0:
        raise UsageError(f"--save-every is at least 0; got {config.save_every}.")
    env_options(config)
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} exists already and is no folder: choose another --out.")
    quiet()
    with postponed():  # an import that is broken off says something else than that it was
        from wmcomponents.cli.collecting import Collection
    begun = time.perf_counter()
    with ExitStack() as opened:
        collection = Collection(config, opened)
        resumed_at = collection.steps
        if resumed_at:
            say(f"going on after {resumed_at} steps")
        _fill(collection, config)
    facts = collection.facts()
    shown = {key: facts[key] for key in ("episodes", "mean_return", "policy", "seed")}
    mean = facts["mean_return"]
    ended = f"{facts['episodes']} episodes ended, mean return {mean:.2f}" if mean is not None else "no episode ended"
    say(f"{collection.steps} steps in {config.out}; {ended}")
    seconds = round(time.perf_counter() - begun, 2)
    about = {"data": str(config.out), "env": config.env, "steps": collection.steps, **shown}
    return {**about, "resumed_at": resumed_at, "seconds": seconds}


def _fill(collection: Any, config: CollectConfig) -> None:
    if collection.complete:
        return
    size, saved = 1, time.monotonic()
    with postponed() as request, counting(config.env, config.steps, done=collection.steps) as advance:
        collection.rejoin(request)
        while not collection.complete:
            begun = time.monotonic()
            advance(collection.take(size))
            now = time.monotonic()
            fits = int(size * SECONDS_AT_A_TIME / max(now - begun, 1e-9))
            size = min(max(1, fits), 2 * size, STEPS_AT_A_TIME)
            is_asked = bool(request)
            if is_asked or collection.complete or now - saved >= config.save_every:
                collection.save()
                saved = now
            if is_asked:  # what is asked from here on is taken after the next steps, which are saved then
                request.check()
