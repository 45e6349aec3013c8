"""`wmc eval`: how far a model can be trusted, and what an agent earns for real."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._whole import check_place, write_whole
from wmcomponents.cli.console import counting, number, quiet, say, show_table
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import at_least, check_folders


@dataclass(frozen=True)
class EvalConfig:
    """Arguments of `wmc eval`."""

    model: Path
    """Folder of a saved model."""
    data: tuple[Path, ...]
    """Data folders that the model was not trained on."""
    out: Path | None = None
    """Folder of eval.json and horizon.png; 'evaluation' beside the model if not given."""
    burn_in: int = 8
    """Real observations that the filter sees first."""
    horizon: int = 32
    """Steps to imagine."""
    sequences: int = 128
    """Real sequences."""
    samples: int = 4
    """Dreams from each."""
    seed: int = 0
    """Of sequences, dreams and real episodes."""
    agent: Path | None = None
    """An agent to run for real: the folder of wmc train --agent, or the .zip of a Stable-Baselines3 agent."""
    env: str | None = None
    """Id of that environment; the one of the data if not given."""
    episodes: int = 20
    """Real episodes of the agent."""
    device: str = "cpu"
    """Where to dream: cpu, cuda, mps, or auto for the best there is."""


def run(config: EvalConfig) -> dict[str, Any]:
    """Measure, draw, and evaluate the agent if there is one."""
    names = ("burn_in", "horizon", "sequences", "samples", "episodes")
    at_least(1, **{name: getattr(config, name) for name in names})
    check_folders(model=config.model, data=config.data)
    import torch

    from wmcomponents.cli.dataset import check_fits, open_dataset
    from wmcomponents.cli.policies import load_agent
    from wmcomponents.evaluation.figures import horizon_figure
    from wmcomponents.evaluation.horizon import horizon_errors
    from wmcomponents.evaluation.open_loop import compare, longest
    from wmcomponents.models.loading import load

    quiet()
    device = device_of(config.device)
    agent = None if config.agent is None else load_agent(config.agent)  # before the work, in case there is none
    model = load(config.model, device=device)
    length = config.burn_in - 1 + config.horizon
    data = open_dataset(config.data, sequence_length=length, batch_size=config.sequences, seed=config.seed)
    check_fits(model, data, config.model)
    out = check_place(config.out if config.out is not None else config.model.parent / "evaluation")
    sequences = data.replay.sample().to(device)
    generator = torch.Generator(device).manual_seed(config.seed)
    span: dict[str, Any] = {"burn_in": config.burn_in, "horizon": config.horizon, "generator": generator}
    errors = horizon_errors(model, sequences, samples=config.samples, **span)
    chosen = sequences[longest(sequences, burn_in=config.burn_in, horizon=config.horizon)]
    overlay = compare(model, chosen, samples=max(16, config.samples), **span)
    title = f"Dream against reality: {data.env}"
    figure = horizon_figure(errors, overlay, out / "horizon.png", env_id=data.env, title=title)
    _show(errors)
    result: dict[str, Any] = {"model": str(config.model), "data": [str(path) for path in config.data], "env": data.env}
    if agent is not None:
        result["agent"] = str(config.agent)
        result["real_return"] = _real_returns(config, agent, model.to("cpu"), data)
    report = out / "eval.json"
    write_whole(report, json.dumps({**result, "horizon_errors": errors.to_json()}, indent=2) + "\n")
    say(f"wrote {report} and {figure}")
    return {**result, "errors": _summary(errors), "files": {"report": str(report), "figure": str(figure)}}


def _real_returns(config: EvalConfig, agent: Any, model: Any, data: Any) -> dict[str, Any]:
    from wmcomponents.cli.policies import real_policy
    from wmcomponents.data import make_env
    from wmcomponents.evaluation.returns import evaluate_policy

    options = data.env_options if config.env in (None, data.env) else {}
    env, policy = real_policy(agent, make_env(config.env or data.env, seed=config.seed, **options), model)
    with counting("real episodes", config.episodes) as advance:
        returns = evaluate_policy(env, policy, config.episodes, seed=config.seed, progress=advance)
    env.close()
    say(
        f"agent in {config.env or data.env}, {len(returns)} real episodes: mean return {returns.mean:.2f}, median "
        f"{returns.median:.2f}, from {returns.min:.2f} to {returns.max:.2f}, {returns.mean_length:.1f} steps each"
    )
    return returns.to_json()


def _curves(errors: Any) -> dict[str, Any]:
    named = {f"{key}, {curve.metric}": curve for key, curve in errors.observation.items()}
    if errors.reward is not None:
        named[f"reward, {errors.reward.metric}"] = errors.reward
    if errors.termination is not None:
        named[f"termination, {errors.termination.metric}"] = errors.termination
    return named


def _picked(horizon: int) -> list[int]:
    """The horizons of the table: 1, 2, 4, ... and the last."""
    picked = [1]
    while picked[-1] * 2 < horizon:
        picked.append(picked[-1] * 2)
    return picked if horizon == 1 else [*picked, horizon]


def _show(errors: Any) -> None:
    steps = _picked(errors.horizon)
    rows = []
    for name, curve in _curves(errors).items():
        for who, values in (("model", curve.model), ("  copy the last", curve.copy), ("  data mean", curve.mean)):
            label = name if who == "model" else who
            rows.append([label, *(number(values[k - 1]) for k in steps)])
    rows.append(["real sequences left", *(errors.rows[k - 1] for k in steps)])
    show_table("Error after k imagined steps", ["", *(f"k={k}" for k in steps)], rows)


def _summary(errors: Any) -> dict[str, Any]:
    steps = _picked(errors.horizon)
    shown = {name: curve.to_json()["model"] for name, curve in _curves(errors).items()}
    table = {name: {str(k): values[k - 1] for k in steps} for name, values in shown.items()}
    calibration = errors.calibration_error
    return {**table, "calibration_error": None if calibration is None else round(calibration, 6)}
