"""`wmc train --agent NAME --env ID`: a paper's whole agent, online from nothing, resumable."""

import json
import time
from typing import TYPE_CHECKING, Any

from wmcomponents._interruption import postponed
from wmcomponents._whole import check_place, write_whole
from wmcomponents.cli.console import quiet, say
from wmcomponents.cli.device import device_of
from wmcomponents.cli.env_options import env_options
from wmcomponents.cli.errors import UsageError, at_least, changed, meant
from wmcomponents.cli.known_agents import known_agent, resolved
from wmcomponents.cli.train_forms import refuse_unread

if TYPE_CHECKING:
    from wmcomponents.cli.train import TrainConfig

RUN = "run.json"
EVALUATE_EVERY = {"tiny": 1000}
"""Real steps between evaluations by preset, where ``evaluate_every`` is not among the changes."""


def run_online(config: "TrainConfig") -> dict[str, Any] | None:
    """Train the agent in reality and its own dreams, or go on with it."""
    name = str(config.agent)
    known = known_agent(name, whole=True)
    refuse_unread(config)
    if config.env is None:
        raise UsageError(f"--env is missing: the id of the environment that {name} is to learn in, as CartPole-v1.")
    if config.preset not in known.presets:
        raise UsageError(
            f"--preset of {name} is one of {', '.join(known.presets)}; got {config.preset!r}."
            f"{meant(config.preset, known.presets)}"
        )
    if len(config.steps) != 1 or not config.steps[0].isdecimal() or int(config.steps[0]) < 1:
        raise UsageError(f"--steps of an agent is a number of real steps; got {' '.join(config.steps)!r}.")
    at_least(0, seed=config.seed, threads=config.threads or 0, films=config.films)
    at_least(1, num_envs=config.num_envs)
    facts = {
        "agent": name, "seed": config.seed, "env": config.env, "preset": config.preset,
        "changes": list(config.changes), "num_envs": config.num_envs, "env_options": env_options(config),
    }  # fmt: skip
    _check_same_run(config, facts)
    begun = time.perf_counter()
    quiet()
    with postponed():  # an import that is broken off says something else than that it was
        import torch

        from wmcomponents.data import make_env
        from wmcomponents.training import Ranks

        whole = resolved(str(known.whole))
    device = Ranks.joined().device(device_of(config.device))
    torch.set_num_threads(config.threads or (1 if config.preset == "tiny" else torch.get_num_threads()))
    every = EVALUATE_EVERY.get(config.preset, 10_000)
    env = make_env(config.env, **facts["env_options"])
    env.close()  # the agent makes others like it
    try:
        agent = getattr(whole, config.preset)(
            env, changes={"evaluate_every": every, **changed(config.changes)}, num_envs=config.num_envs,
            out=config.out, seed=config.seed, logger=None if config.logger == "none" else config.logger,
            callbacks=_callbacks(config), device=device, parallel=config.parallel,
        )  # fmt: skip
    except TypeError as error:
        if not config.changes:
            raise
        raise UsageError(f"--changes: {error}") from error
    trainer = agent.trainer
    resumed_at = trainer.real_steps
    if resumed_at:
        say(f"resuming at real step {resumed_at}")
    if trainer.ranks.is_first:
        write_whole(check_place(config.out) / RUN, json.dumps(facts, indent=2) + "\n")
    metrics = agent.train(int(config.steps[0]))
    trainer.export("last")
    if not trainer.ranks.is_first:
        return None
    for point in trainer.evaluations:
        say(f"real step {int(point['real_steps'])}: mean return {point['return']:.2f}")
    say(f"saved {config.out / 'last'}")
    return {
        "agent": str(config.out / "last"),
        "best": str(config.out / "best") if trainer.evaluations else None,
        "model": str(config.out / "last" / "model"),
        "env": config.env,
        "real_steps": trainer.real_steps,
        "updates": trainer.global_step,
        "dreamed_steps": agent.dreamed_steps,
        "resumed_at": resumed_at,
        "return": metrics.get("return"),
        "evaluations": trainer.evaluations,
        "seconds": round(time.perf_counter() - begun, 2),
    }


def _callbacks(config: "TrainConfig") -> list[Any]:
    if not config.films:
        return []
    from wmcomponents.evaluation.films import DreamFilms

    return [DreamFilms(every=config.films)]


def _check_same_run(config: "TrainConfig", facts: dict[str, Any]) -> None:
    file = config.out / RUN
    if not file.is_file():
        return
    try:
        found = json.loads(file.read_text())
        other = [
            f"{name} {found.get(name)} (now {value})"
            for name, value in facts.items()
            if found.get(name, value) != value
        ]
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file} is damaged: choose another --out.") from error
    if other:
        raise UsageError(
            f"{config.out} holds a run with {', '.join(other)}: repeat its arguments to go on, or choose another --out."
        )
