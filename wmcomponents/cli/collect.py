"""`wmc collect`: real steps into a data folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents.cli.console import counting, quiet, say
from wmcomponents.cli.errors import UsageError, at_least


@dataclass(frozen=True)
class CollectConfig:
    """Arguments of `wmc collect`."""

    env: str
    """Id of the real environment."""
    out: Path
    """Folder to write; it must not hold data yet."""
    steps: int = 5000
    """How many real steps."""
    policy: str = "random"
    """'random', or the .zip of a Stable-Baselines3 agent."""
    repeat_probability: float = 0.0
    """Chance that the random policy keeps its last action; held actions reach further."""
    seed: int = 0
    """Of the environment and the policy."""
    from_pixels: bool = False
    """Observe rendered images in place of the environment's own observation."""
    image_size: int = 64
    """Side of images, in pixels."""
    action_repeat: int | None = None
    """Real steps per action; the environment's custom if not given (Atari 4, dm_control 2)."""
    max_episode_steps: int | None = None
    """Cut episodes here; the environment's own limit if not given."""


def run(config: CollectConfig) -> dict[str, Any]:
    """Collect and save."""
    at_least(1, steps=config.steps, image_size=config.image_size)
    if not 0.0 <= config.repeat_probability <= 1.0:
        raise UsageError(f"--repeat-probability is in [0, 1]; got {config.repeat_probability}.")
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UsageError(f"{config.out} exists already: choose another --out, or remove it first.")
    import time

    from wmcomponents.cli.policies import collect_policy
    from wmcomponents.data import RealCollector, make_env, make_replay, save_replay

    quiet()
    begun = time.perf_counter()
    options = {
        "from_pixels": config.from_pixels,
        "image_size": config.image_size,
        "action_repeat": config.action_repeat,
        "max_episode_steps": config.max_episode_steps,
    }
    env = make_env(config.env, seed=config.seed, **options)
    policy = collect_policy(config.policy, env, repeat_probability=config.repeat_probability, seed=config.seed)
    replay = make_replay(config.steps, env, sequence_length=1, batch_size=1, print_fn=say)
    collector = RealCollector(env, replay, policy=policy, seed=config.seed)
    try:
        with counting(config.env, config.steps) as advance:
            stats = collector.collect(config.steps, progress=advance)
    finally:
        collector.close()
    mean_return = round(sum(stats.returns) / stats.episodes, 4) if stats.episodes else None
    facts = {"episodes": stats.episodes, "mean_return": mean_return, "policy": config.policy, "seed": config.seed}
    save_replay(replay, config.out, env=config.env, env_options=options, **facts)
    env.close()
    ended = f"{stats.episodes} episodes ended, mean return {mean_return:.2f}" if stats.episodes else "no episode ended"
    say(f"{stats.frames} steps in {config.out}; {ended}")
    seconds = round(time.perf_counter() - begun, 2)
    return {"data": str(config.out), "env": config.env, "steps": stats.frames, **facts, "seconds": seconds}
