"""`wmc train --agent NAME --dream-only`: an agent in the dreams of a frozen model, resumable."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmcomponents._interruption import postponed
from wmcomponents._whole import check_place, write_whole
from wmcomponents.cli.agent_folder import AGENT, STATE, agent_facts, dreaming_agent
from wmcomponents.cli.console import counting, quiet, say
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import UsageError, at_least, check_folders
from wmcomponents.cli.known_agents import known_agent
from wmcomponents.cli.train_forms import OF_SEQUENCES, OF_UNCERTAINTY, refuse_unread
from wmcomponents.data.episodes import derived_seed

if TYPE_CHECKING:
    from wmcomponents.cli.train import TrainConfig

SAVE_SECONDS = 10.0


def run_dream_only(config: "TrainConfig") -> dict[str, Any]:
    """Train the agent, or go on training it, and save it."""
    name = str(config.agent)
    kind = known_agent(name).kind
    if config.model is None:
        raise UsageError("--agent with --dream-only needs --model, the folder of a saved model to dream in.")
    if len(config.steps) != 1 or not config.steps[0].isdecimal() or int(config.steps[0]) < 1:
        raise UsageError(f"--steps of an agent is a number of dreamt steps; got {' '.join(config.steps)!r}.")
    if kind == "planner":
        raise UsageError(
            f"{name} plans, and learns nothing: there is nothing to train, and it acts in any model as it is."
        )
    if kind == "recurrent actor-critic" and not config.data:
        raise UsageError(
            f"{name} begins its dreams behind real sequences: pass --data, the folders that the model was trained on."
        )
    refuse_unread(config)
    _check_uncertainty(config)
    at_least(0, seed=config.seed, threads=config.threads or 0)
    at_least(1, start_states=config.start_states, sequence_length=config.sequence_length, batch_size=config.batch_size)
    check_folders(model=config.model, data=config.data)
    steps = int(config.steps[0])
    import torch

    from wmcomponents._lock import one_writer
    from wmcomponents.models.loading import load_with_starts
    from wmcomponents.training import seed_everything

    quiet()
    torch.set_num_threads(config.threads or torch.get_num_threads())
    model, pool = load_with_starts(config.model, device=device_of(config.device))
    data = _data(config, model) if config.data else None
    if data is not None:
        pool = _pool(config, model, data)
    facts = _noted(config, steps)
    seed_everything(config.seed)  # of the agent's weights
    unsure = {"penalty": config.uncertainty_penalty, "limit": config.uncertainty_limit}
    agent = dreaming_agent(name, model, seed=config.seed, steps=facts["steps"], **unsure)
    with one_writer(check_place(config.out)):
        return _learn(config, agent, data, pool, facts, steps)


def _check_uncertainty(config: "TrainConfig") -> None:
    for name in sorted(OF_UNCERTAINTY):
        value = getattr(config, name)
        if value is not None and not 0.0 <= value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} is a number from 0 on; got {value}.")


def _noted(config: "TrainConfig", steps: int) -> dict[str, Any]:
    """What decides the run; of a run that goes on, as it began."""
    data = [str(path) for path in config.data]
    facts = {"agent": config.agent, "seed": config.seed, "model": str(config.model), "data": data, "steps": steps}
    facts |= {name: getattr(config, name) for name in sorted(OF_SEQUENCES)} if data else {}
    facts |= {name: value for name in sorted(OF_UNCERTAINTY) if (value := getattr(config, name)) is not None}
    found = agent_facts(config.out)
    if not found:
        return facts
    compared = [*facts, *sorted(OF_UNCERTAINTY - facts.keys())]
    other = [
        f"{name} {found.get(name)} (now {facts.get(name)})" for name in compared if found.get(name) != facts.get(name)
    ]
    other = [one for one in other if not one.startswith("steps ")]
    if other:
        raise UsageError(
            f"{config.out} holds an agent with {', '.join(other)}: repeat its arguments to go on, or choose another "
            f"--out."
        )
    return found


def _learn(
    config: "TrainConfig", agent: Any, data: Any, pool: Any, facts: dict[str, Any], steps: int
) -> dict[str, Any]:
    import torch

    from wmcomponents.dream.experience import Experience
    from wmcomponents.dream.starts import PoolStarts
    from wmcomponents.training.nested_state import load_nested, save_nested

    begun, out, model = time.perf_counter(), config.out, agent.model
    if (out / STATE).is_file():
        agent.load_state_dict(load_nested(out / STATE))
        say(f"resuming at dreamt step {agent.dreamed_steps}")
    else:
        model.save_pretrained(out / "model", starts=pool)
        write_whole(out / AGENT, json.dumps(facts, indent=2) + "\n")
    resumed_at, numbers = agent.dreamed_steps, {}
    draws = torch.Generator()
    sample = None if data is None or agent.learns_from == "dreams" else data.replay.sample
    if data is not None:
        data.replay.set_rng(draws)
    experience = Experience(model, sample, starts=None if pool is None else PoolStarts(pool), seed=config.seed)
    due = time.monotonic() + SAVE_SECONDS
    with postponed() as request, counting("dreamt steps", steps, done=resumed_at) as advance:
        while agent.dreamed_steps < steps:
            # A round draws from seeds of its own, so that one that is repeated is the same.
            experience.generator.manual_seed(derived_seed(config.seed, "starts", agent.dreamed_steps))
            draws.manual_seed(derived_seed(config.seed, "sequences", agent.dreamed_steps))
            before = agent.dreamed_steps
            numbers = agent.learn(experience)
            advance(agent.dreamed_steps - before)
            if request or time.monotonic() >= due:
                save_nested(out / STATE, agent.state_dict())
                request.check()
                due = time.monotonic() + SAVE_SECONDS
        save_nested(out / STATE, agent.state_dict())
    if hasattr(agent, "algorithm"):
        agent.algorithm.save(out / "agent.zip")
    say(f"saved {out}")
    return {
        "agent": str(out),
        "model": str(out / "model"),
        "dreamed_steps": agent.dreamed_steps,
        "resumed_at": resumed_at,
        "numbers": {name: float(f"{value:.5g}") for name, value in numbers.items()},
        "seconds": round(time.perf_counter() - begun, 2),
    }


def _data(config: "TrainConfig", model: Any) -> Any:
    from wmcomponents.cli.dataset import check_fits, open_dataset

    data = open_dataset(
        config.data, sequence_length=config.sequence_length, batch_size=config.batch_size, seed=config.seed
    )
    check_fits(model, data, Path(str(config.model)))
    return data


def _pool(config: "TrainConfig", model: Any, data: Any) -> Any:
    """States of the model's filter along real data."""
    from wmcomponents.dream.replay_starts import ReplayStarts

    burn_in = min(8, config.sequence_length - 1)
    starts = ReplayStarts(model, data.replay.sample, pool_size=config.start_states, burn_in=burn_in, seed=config.seed)
    return starts.pool
