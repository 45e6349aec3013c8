"""Load a saved model of any family by its path."""

from pathlib import Path
from typing import cast

import torch

from wmcomponents.models import MODELS
from wmcomponents.pretrained import BadModelError, PretrainedModel, read_config, read_starts
from wmcomponents.world_model import State


def load(path: str | Path, *, device: torch.device | str | None = None) -> PretrainedModel:
    """Load a saved world model, whatever its family.

    Args:
        path: a folder written by ``save_pretrained``.
        device: where the weights go; the CPU if not given.

    Raises:
        BadModelError: if the folder is missing, incomplete, damaged, or of an unknown family. Nothing is unpickled.
    """
    name = read_config(path)["model"]
    if name not in MODELS:
        raise BadModelError(f"{path} holds a {name!r}; the families known here are {', '.join(MODELS)}.")
    return cast(PretrainedModel, MODELS[name].from_pretrained(path, device=device))


def load_starts(path: str | Path) -> State | None:
    """The start states saved beside a model, ``[N, ...]``; ``None`` if there are none.

    Raises:
        BadModelError: if they are damaged.
    """
    return read_starts(path)
