"""`wmc dream`: a model rolled out into an image or a video."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._whole import check_place
from wmcomponents.cli.console import quiet, say
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import UsageError, at_least, check_folders, meant

SUFFIXES = (".gif", ".mp4", ".webp", ".png")


@dataclass(frozen=True)
class DreamConfig:
    """Arguments of `wmc dream`."""

    model: Path
    """Folder of a saved model."""
    out: Path = Path("dream.gif")
    """File to write: .gif, .mp4 or .webp (video), .png (filmstrip)."""
    steps: int = 100
    """Steps to dream; fewer if the episode ends before."""
    compare: Path | None = None
    """Data folder: begin from a real prefix, take the real actions, draw reality beside the dream."""
    burn_in: int = 8
    """With --compare: real observations that the filter sees first."""
    policy: str = "random"
    """Without --compare: 'random', the folder of wmc train --agent, or the .zip of a Stable-Baselines3 agent."""
    seed: int = 0
    """Of start, policy and dream."""
    fps: float = 20.0
    """Frames a second of a video."""
    env: str | None = None
    """Id of the environment whose renderer draws the observations; known already for models made by wmc train."""
    device: str = "cpu"
    """Where to dream: cpu, cuda, mps, or auto for the best there is."""


def run(config: DreamConfig) -> dict[str, Any]:
    """Dream and draw."""
    _check(config)
    check_folders(model=config.model, data=[config.compare])
    from wmcomponents.models.loading import load_with_starts
    from wmcomponents.pretrained.training_note import training_facts
    from wmcomponents.rendering.renderers import make_renderer

    quiet()
    device = device_of(config.device)
    model, pool = load_with_starts(config.model, device=device)
    model.require("decode", driver="wmc dream", remedy="a model without a decoder has nothing to draw.")
    _check_renderer(config.env)
    env_id = config.env or training_facts(config.model).get("env")
    render = make_renderer(env_id, model.observation_spec)
    caption = env_id or type(model).__name__
    check_place(config.out.parent)
    if config.compare is not None:
        result = _beside_reality(config, config.compare, model, render, caption)
    else:
        result = _alone(config, model, pool, render, caption)
    size = config.out.stat().st_size
    say(f"{result['steps']} dreamed steps in {config.out} ({size / 1000:.0f} kB)")
    compared = None if config.compare is None else str(config.compare)
    return {"out": str(config.out), "bytes": size, "model": str(config.model), "compare": compared, **_rounded(result)}


def _check(config: DreamConfig) -> None:
    """Refuse what makes no sense, before anything heavy is imported."""
    at_least(1, steps=config.steps, burn_in=config.burn_in)
    if config.out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out ends in one of {', '.join(SUFFIXES)}; got {str(config.out)!r}.")
    if config.fps <= 0:
        raise UsageError(f"--fps is positive; got {config.fps}.")
    if config.out.is_dir():
        raise UsageError(f"--out is a file; {str(config.out)!r} is a folder.")


def _check_renderer(env_id: str | None) -> None:
    from wmcomponents.rendering.renderers import RENDERERS

    if env_id is not None and env_id not in RENDERERS:
        raise UsageError(
            f"--env names an environment that is drawn as it draws itself: {', '.join(RENDERERS)}; got {env_id!r}."
            f"{meant(env_id, RENDERERS)} Leave it out for others: they are drawn as images, boards or bars."
        )


def _beside_reality(config: DreamConfig, folder: Path, model: Any, render: Any, caption: str) -> dict[str, Any]:
    """Reality and the dream that begins in it; what they came to."""
    from wmcomponents.evaluation.film_files import write_video
    from wmcomponents.evaluation.strips import filmstrip
    from wmcomponents.evaluation.video import comparison_reels, side_by_side

    comparison = _comparison(config, folder, model)
    if config.out.suffix.lower() == ".png":
        filmstrip(comparison, render, config.out, title=f"{caption}: same start, same actions")
    else:
        pages = side_by_side(comparison_reels(comparison, render), caption="same start, same actions")
        write_video(pages, config.out, fps=config.fps)
    return {
        "steps": comparison.steps,
        "return": None if comparison.dream_reward is None else float(comparison.dream_reward[0].sum()),
        "real_return": float(comparison.real_reward.sum()),
        "terminated": comparison.terminated,
    }


def _alone(config: DreamConfig, model: Any, pool: Any, render: Any, caption: str) -> dict[str, Any]:
    """A dream from a start state under a policy; what it came to."""
    import numpy as np

    from wmcomponents.evaluation.film_files import write_video
    from wmcomponents.evaluation.strips import outcomes, strip
    from wmcomponents.evaluation.video import side_by_side

    reel, result = _dreamt(config, model, pool, render)
    if config.out.suffix.lower() == ".png":
        steps = np.unique(np.linspace(0, len(reel.frames) - 1, 10).round().astype(int)).tolist()
        notes = {"dream": outcomes(reel.rewards, steps, reel.ended)}
        strip({"dream": [reel.frames[k] for k in steps]}, config.out, steps=steps, notes=notes, title=caption)
    else:
        write_video(side_by_side([reel], caption=caption), config.out, fps=config.fps)
    return result


def _comparison(config: DreamConfig, folder: Path, model: Any) -> Any:
    import torch

    from wmcomponents.cli.dataset import check_fits, open_dataset
    from wmcomponents.evaluation.open_loop import compare, longest

    length = config.burn_in - 1 + config.steps
    data = open_dataset([folder], sequence_length=length, batch_size=64, seed=config.seed)
    check_fits(model, data, config.model)
    device = next(iter(model.parameters())).device
    sequences = data.replay.sample().to(device)
    chosen = sequences[longest(sequences, burn_in=config.burn_in, horizon=config.steps)]
    generator = torch.Generator(device).manual_seed(config.seed)
    return compare(model, chosen, burn_in=config.burn_in, horizon=config.steps, generator=generator)


def _dreamt(config: DreamConfig, model: Any, pool: Any, render: Any) -> tuple[Any, dict[str, Any]]:
    import torch
    from tensordict import TensorDict

    from wmcomponents.cli.policies import dream_policy
    from wmcomponents.dream.simulator import Simulator
    from wmcomponents.dream.starts import PoolStarts, PriorStarts
    from wmcomponents.evaluation.video import BLUE, Reel

    policy, view = dream_policy(config.policy, model, seed=config.seed)
    device = next(iter(model.parameters())).device
    starts = PriorStarts(model) if pool is None else PoolStarts({key: value.to(device) for key, value in pool.items()})
    ends = "sample" if "continue" in model.capabilities else "off"
    simulator = Simulator(model, starts, horizon=config.steps, view=view, termination=ends, seed=config.seed)
    observation = simulator.reset()
    frames, rewards, ended = [_drawn(model, simulator, render)], [], None
    is_init = torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        for step in range(1, config.steps + 1):
            # The policy acts on the CPU, wherever the dream is.
            tensordict = policy(TensorDict({**observation, "is_init": is_init}, batch_size=[1]).to("cpu"))
            observation, reward, terminated, _ = simulator.step(tensordict["action"].to(device))
            is_init = torch.zeros_like(is_init)
            frames.append(_drawn(model, simulator, render))
            rewards.append(float(reward))
            if bool(terminated):
                ended = step
                break
    reel = Reel("dream", frames, rewards, None, ended, BLUE)
    return reel, {"steps": len(rewards), "return": sum(rewards), "terminated": ended is not None}


def _drawn(model: Any, simulator: Any, render: Any) -> Any:
    shown = model.decode(simulator.state)
    return render({key: value[0].detach().cpu().numpy() for key, value in shown.items()})


def _rounded(result: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}
