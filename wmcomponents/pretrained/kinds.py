"""What a path is that was taken for a saved model, and which path is right."""

import contextlib
import difflib
import re
from pathlib import Path

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_FILES = (CONFIG, WEIGHTS, "starts.safetensors", "checkpoint.safetensors")
DATA_FILES = ("data.json", "replay.json")
RUN_FILES = ("run.json", "checkpoint.safetensors", "training.json", "demo.json")
OFFICIAL_SUFFIXES = (".pt", ".pth", ".p", ".tar", ".ckpt", ".checkpoint", ".safetensors")
HUB_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"


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
