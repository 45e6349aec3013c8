"""A saved model, ready to be played."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wmcomponents.models.loading import load_with_starts
from wmcomponents.play.action_names import action_names
from wmcomponents.play.controls import Controls
from wmcomponents.play.conversation import Conversation
from wmcomponents.play.reality import Reality
from wmcomponents.play.session import MEMORY, Session
from wmcomponents.play.start_menu import StartMenu
from wmcomponents.pretrained.training_note import training_facts


def open_dream(
    model: str | Path,
    *,
    data: str | Path | None = None,
    env: str | None = None,
    reality: bool = True,
    out: str | Path = "play",
    burn_in: int = 16,
    memory: int = MEMORY,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    print_fn: Callable[[str], None] = print,
) -> Conversation:
    """A session of a saved model, with all that is known about it.

    Args:
        model: its folder.
        data: a folder of recorded steps, each of which is a place to begin.
        env: id of the environment; the one that the model was trained on, if it is known, by default.
        reality: whether the environment goes along where there is one.
        out: the folder of recordings.
        burn_in: recorded observations that the filter sees before a dream begins, at most.
        memory: bytes of states that are kept.
        seed: of starts and noise; fresh chance if not given.
        device: where to dream.
        print_fn: is told why the environment does not go along.

    Raises:
        BadModelError: if the folder holds no valid saved model.
        BadDataError: if ``data`` is no data folder.
        PlayError: if the data are of another kind, or no controls show the model's actions.
    """
    loaded, pool = load_with_starts(model, device=device)
    facts = training_facts(Path(model))
    env_id = env or facts.get("env")
    options = facts.get("env_options", {}) if env_id == facts.get("env") else {}
    real = _reality(env_id, options, loaded, print_fn) if reality and env_id else None
    menu = StartMenu(loaded, pool=pool, data=None if data is None else Path(data), reality=real, burn_in=burn_in)
    count = len(Controls(loaded.action_spec).names[0])
    names = action_names(env_id, count, None if real is None else real.env)
    controls = Controls(loaded.action_spec, names, device)
    session = Session(loaded, menu, controls=controls, env_id=env_id, memory=memory, seed=seed)
    title = " · ".join(each for each in (env_id, type(loaded).__name__) if each)
    return Conversation(session, Path(out), title=title, facts={"env": env_id or "", "env_options": options})


def _reality(env_id: str, options: dict[str, Any], model: Any, print_fn: Callable[[str], None]) -> Reality | None:
    """The real environment, or ``None`` with a word why it does not go along."""
    try:
        return Reality(env_id, options, model)
    except Exception as error:  # whatever an environment that is not here, or is another one, says
        print_fn(f"{env_id} does not go along: {error}")
        return None
