"""What a saved model was trained on, noted beside its folder."""

import json
from pathlib import Path
from typing import Any

from wmcomponents._whole import write_whole
from wmcomponents.pretrained.files import StrictFolder

TRAINING = "training.json"
"""The note's file."""


def note_training(model_path: Path, facts: dict[str, Any]) -> None:
    """Note ``env``, ``env_options``, ``family``, ``preset`` and ``steps`` beside a model's folder.

    Args:
        model_path: the model's folder.
        facts: what is noted.
    """
    write_whole(model_path.parent / TRAINING, json.dumps(facts, indent=2) + "\n")


def training_facts(model_path: Path) -> dict[str, Any]:
    """What was noted about a model; empty for a model that stands alone.

    Args:
        model_path: the model's folder.
    """
    try:
        with StrictFolder(model_path.resolve().parent, ValueError, "the folder of a training run") as folder:
            facts = folder.json(TRAINING)
    except ValueError:
        return {}
    kinds = {"env": str, "preset": str, "steps": int}
    is_ours = isinstance(facts, dict) and all(isinstance(facts.get(key), kind) for key, kind in kinds.items())
    return facts if is_ours else {}
