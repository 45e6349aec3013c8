"""A model and an agent in it as a folder of their own, which is opened without the run that they come from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torchrl.data import ReplayBuffer

from wmcomponents.agents import bundle
from wmcomponents.agents.agent import Agent
from wmcomponents.data import PrioritizedSequenceSampler
from wmcomponents.dream.replay_starts import ReplayStarts
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.pretrained.training_note import note_training
from wmcomponents.training.nested_state import save_nested
from wmcomponents.world_model import State, items_of

START_STATES, START_BYTES = 256, 2**26
"""States kept beside a model for its dreams to begin in: so many, or fewer of a model whose states are large."""


def start_states(model: Any, replay: ReplayBuffer, sampling: torch.Generator, seed: int) -> State:
    """What the model's filter makes of real sequences; whatever is drawn from the buffer later stays what it is.

    Args:
        model: the world model.
        replay: holds real steps.
        sampling: the generator that the buffer draws from.
        seed: of the states.
    """
    row = sum(leaf.shape.numel() * leaf.dtype.itemsize for _, leaf in items_of(model.state_spec))
    count = max(1, min(START_STATES, START_BYTES // row))
    sampler: Any = replay.sampler
    draws = sampler.draws if isinstance(sampler, PrioritizedSequenceSampler) else None
    replay.set_rng(torch.Generator().manual_seed(seed))
    try:
        return ReplayStarts(model, replay.sample, pool_size=count, seed=seed).pool
    finally:
        replay.set_rng(sampling)
        if draws is not None:
            sampler.draws = draws


def export_agent(folder: Path, agent: Agent, about: Mapping[str, Any], *, updates: int, starts: State | None) -> None:
    """Write the folder, in the place of the one that stands there.

    In it lie ``model``, as ``save_pretrained`` writes it, with start states; ``agent.safetensors``; ``agent.json``, how
    the agent is made again, if ``about`` names the ``agent``; and ``training.json``, if it names the ``env``. A model
    that was put together by hand, and has no config to be built from again, is left out.

    Args:
        folder: the place.
        agent: the agent.
        about: what is noted of it.
        updates: of the model, for the note.
        starts: start states of the model.
    """
    model: Any = agent.model

    def fill(new: Path) -> None:
        if isinstance(model, PretrainedModel) and model.config is not None:
            model.save_pretrained(new / "model", starts=starts)
        save_nested(new / "agent.safetensors", agent.state_dict())
        if "agent" in about:
            (new / "agent.json").write_text(json.dumps(dict(about), indent=2) + "\n")
        if "env" in about:
            how = {"env": about["env"], "env_options": about.get("env_options", {})}
            kind = {"family": type(model).__name__, "preset": str(about.get("agent", type(agent).__name__))}
            note_training(new / "model", {**how, **kind, "steps": updates})

    bundle.replace_folder(folder, fill)
