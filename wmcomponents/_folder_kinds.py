"""What stands at a path that was taken for a saved model or for data, and which path is right.

Needs nothing but the standard library: a mistyped path is told before anything heavy is imported.
"""

import contextlib
import difflib
import os
import re
from pathlib import Path

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_FILES = (CONFIG, WEIGHTS, "starts.safetensors", "checkpoint.safetensors")
DATA_FILES = ("data.json", "replay.json")
RUN_FILES = ("run.json", "checkpoint.safetensors", "training.json", "demo.json")
OFFICIAL_SUFFIXES = (".pt", ".pth", ".p", ".tar", ".ckpt", ".checkpoint", ".safetensors")
HUB_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"


def model_fault(path: str | Path) -> str:
    """In words, why a path is no folder of a saved model; empty if it may be one."""
    if os.path.isdir(path) and os.path.lexists(os.path.join(path, CONFIG)):
        return ""
    return f"{path} is not a saved model, or is incomplete: {what_is(path)}"


def data_fault(path: str | Path) -> str:
    """In words, why a path is no folder of data; empty if it may be one."""
    description, older = DATA_FILES
    if os.path.lexists(os.path.join(path, description)):
        return ""
    said = "it was saved by an earlier version" if (Path(path) / older).is_file() else f"it holds no {description}"
    return f"{path} is no data folder: {said}. {data_remedy(path)}"


def data_remedy(path: str | Path) -> str:
    """In words, how data get to a path."""
    return f"Make one with save_replay, or: wmc collect --env ID --out {path}"


def what_is(path: str | Path) -> str:
    """In words, what stands at a path that is no saved model, and what to do.

    Args:
        path: as it was given.

    Returns:
        A sentence.
    """
    with contextlib.suppress(OSError, ValueError):
        return _folder(Path(path)) if Path(path).is_dir() else _file(path)
    return "it cannot be looked at."


def _folder(path: Path) -> str:
    inside = [child for child in sorted(path.iterdir())[:1000] if (child / CONFIG).is_file()]
    models = [str(child) for child in inside if (child / WEIGHTS).is_file()]
    if any((path / name).is_file() for name in RUN_FILES):
        if str(path / "model") in models:
            return f"it is the folder of a training run, whose model is {path / 'model'}."
        return "it is the folder of a training run that has saved no model yet; let it come to its end."
    if any((path / name).is_file() for name in DATA_FILES):
        return f"it is a folder of data, which a model is trained on: wmc train --data {path} --out RUN."
    if models:
        return f"it holds no {CONFIG}, but saved models do lie in it: {', '.join(models[:3])}."
    return f"it holds no file {CONFIG}. A saved model is a folder that save_pretrained wrote."


def _file(given: str | Path) -> str:
    path = Path(given)
    if path.is_file() and path.name in MODEL_FILES and (path.parent / CONFIG).is_file():
        return f"it is a file of one. Give the folder, {path.parent}."
    if path.is_file() and path.suffix in OFFICIAL_SUFFIXES:
        return (
            "it is a file. Checkpoints of the papers' own repositories are read by wmcomponents.load_official(name, "
            "path); a checkpoint of a training run is not a model, which lies in the folder 'model' beside it."
        )
    if path.exists():
        return "it is no folder. A saved model is a folder that save_pretrained wrote."
    close = difflib.get_close_matches(path.name, _beside(path), n=1)
    meant = f" Did you mean {path.parent / close[0]}?" if close else ""
    if re.fullmatch(HUB_NAME, path.as_posix()) and not path.parent.is_dir():
        return (
            f"there is no such folder. It looks like a name on the Hugging Face Hub, from where "
            f"wmcomponents.integrations.hub.HubModel.from_pretrained({path.as_posix()!r}) fetches it (pip install "
            f"'wmcomponents[hub]')."
        )
    return f"there is no such folder.{meant}"


def _beside(path: Path) -> list[str]:
    return [child.name for child in sorted(path.parent.iterdir())[:1000]] if path.parent.is_dir() else []
