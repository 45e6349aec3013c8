"""A model's folder: which files it has, their hashes, and one save of it as one thing."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents._arguments import folder_path
from wmcomponents._folder_kinds import CONFIG, WEIGHTS, model_fault
from wmcomponents._version import __version__
from wmcomponents.pretrained.files import LARGEST_JSON, StrictFolder, replacing
from wmcomponents.pretrained.specs import spec_from_json
from wmcomponents.pretrained.tensors import TensorFile, nonfinite
from wmcomponents.world_model import State

FORMAT = 2
STARTS = "starts.safetensors"
WHAT = "a saved model"
TRIES = 50
"""How often a folder that is saved over while it is read is read again."""

T = TypeVar("T")


class BadModelError(ValueError):
    """A model folder is missing, incomplete, damaged or of another kind; nothing was loaded from it."""


class SavedModel:
    """One save of a model: config, weights and start states as they were written together.

    The folder is opened once and its config read once. Whoever saves over it meanwhile writes another one, so that a
    model never comes with the start states of another save. Nothing is unpickled, no link is followed. A context
    manager::

        with SavedModel.open("cartpole-dream") as saved:
            model, starts = DreamerV3.from_saved(saved), saved.starts()

    Args:
        folder: the opened folder; it is closed by whoever opened it.

    Attributes:
        path: the folder.
        content: its checked config.

    Raises:
        BadModelError: if it is incomplete, of another kind, or its config was changed.
    """

    def __init__(self, folder: StrictFolder) -> None:
        self.path, self._folder = folder.path, folder
        self.content = _checked(folder)
        self._new_names: tuple[tuple[str, str], ...] = ()
        self._new_states: Mapping[str, str] = {}
        self._read_starts: dict[str, Tensor] | None = None
        with contextlib.ExitStack() as opened:
            self._weights = self._tensor_file(WEIGHTS, opened)
            self._starts = self._tensor_file(STARTS, opened) if "starts_sha256" in self.content else None
            self._opened = opened.pop_all()

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str | Path, *, links_into: str | Path | None = None) -> Iterator["SavedModel"]:
        """Open a folder that ``save_pretrained`` wrote.

        Args:
            path: the folder, or a link to it.
            links_into: links to files below this folder are followed, as a cache of downloads has them.

        Raises:
            BadModelError: if it is missing, incomplete, of another kind, or its config was changed.
        """
        with _opened(path, links_into) as folder, cls(folder) as saved:
            yield saved

    def __enter__(self) -> "SavedModel":
        return self

    def __exit__(self, *_: object) -> None:
        self._read_starts = None
        self._opened.close()

    @property
    def family(self) -> str:
        """Name of the model's class."""
        return self.content["model"]

    @property
    def written_by(self) -> str:
        """The version of this library that wrote it, in words."""
        version = self.content.get("wmcomponents")
        return f"wmcomponents {version}" if version else "an early wmcomponents"

    def specs(self, names: Sequence[str] = ("observation_spec", "action_spec")) -> tuple[TensorSpec, ...]:
        """Specs of one observation and, of a world model, one action.

        Args:
            names: those that are asked for.

        Raises:
            ValueError: if one is missing, or is none; and as ``spec_from_json``.
        """
        lacking = [name for name in names if name not in self.content]
        if lacking:
            raise ValueError(f"its config lacks {', '.join(lacking)}")
        return tuple(spec_from_json(self.content[name]) for name in names)

    @property
    def size(self) -> int:
        """Bytes of weights and start states."""
        return self._weights.size + (0 if self._starts is None else self._starts.size)

    @property
    def is_old(self) -> bool:
        """Whether an earlier version wrote it, with names of its own."""
        return self.content["format"] != FORMAT

    def renamed(self, *, weights: Sequence[tuple[str, str]], states: Mapping[str, str]) -> None:
        """Read an old folder under today's names; nothing is done to one of today.

        Args:
            weights: patterns of keys and what takes their place, as ``re.sub`` reads them.
            states: keys of start states, old to new.
        """
        if self.is_old:
            self._new_names, self._new_states = tuple(weights), states

    def weight_shapes(self) -> dict[str, Tensor]:
        """The weights without their numbers, on the meta device."""
        return self._named(self._weights.shapes())

    def start_shapes(self) -> dict[str, Tensor] | None:
        """The start states without their numbers, on the meta device; ``None`` if there are none."""
        return None if self._starts is None else self._states(self._starts.shapes())

    def weights(self, *, allow_nonfinite: bool = False) -> dict[str, Tensor]:
        """The weights, by their keys; read anew each time.

        Args:
            allow_nonfinite: take NaN and infinity too, as of a model that diverged.

        Raises:
            BadModelError: if they are damaged, or not finite.
        """
        weights = self._weights.read(self.content["weights_sha256"])
        return self._named(self._finite(weights, WEIGHTS, allow_nonfinite))

    def starts(self, *, allow_nonfinite: bool = False) -> State | None:
        """The start states, ``[N, ...]``, read once; ``None`` if there are none.

        Args:
            allow_nonfinite: take NaN and infinity too.

        Raises:
            BadModelError: if they are damaged, or not finite.
        """
        if self._starts is None:
            return None
        if self._read_starts is None:
            self._read_starts = self._starts.read(self.content["starts_sha256"])
        return self._states(self._finite(self._read_starts, STARTS, allow_nonfinite))

    def _named(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        for old, new in self._new_names:
            weights = {re.sub(old, new, key): value for key, value in weights.items()}
        return weights

    def _states(self, starts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {self._new_states.get(key, key): value for key, value in starts.items()}

    def _tensor_file(self, name: str, opened: contextlib.ExitStack) -> TensorFile:
        file = opened.enter_context(self._folder.open(name))
        return TensorFile(file, str(self.path / name), BadModelError)

    def _finite(self, tensors: dict[str, Tensor], name: str, allow_nonfinite: bool) -> dict[str, Tensor]:
        fault = "" if allow_nonfinite else nonfinite(tensors)
        if fault:
            raise BadModelError(
                f"{self.path / name} holds NaN or infinity: {fault}. The model diverged before it was saved; to look "
                f"at it all the same, load it with allow_nonfinite=True."
            )
        return tensors


def from_one_save(path: str | Path, read: Callable[[SavedModel], T], *, links_into: str | Path | None = None) -> T:
    """What is read from a folder, all of it from one save, though others save over it meanwhile.

    Args:
        path: the folder.
        read: reads.
        links_into: see :meth:`SavedModel.open`.

    Raises:
        BadModelError: as ``read`` raises it, of a folder that nobody writes to; after many tries, of one that somebody
            does.
    """
    folder_path("path", path)
    for left in reversed(range(TRIES)):
        with _opened(path, links_into) as folder:
            stamp = folder.stamp(CONFIG)
            try:
                with SavedModel(folder) as saved:
                    return read(saved)
            except BadModelError:
                if not left or (folder.is_current() and folder.stamp(CONFIG) == stamp):
                    raise
    raise AssertionError("the last try returns or raises")


def read_config(path: str | Path) -> dict[str, Any]:
    """The checked content of a model folder's ``config.json``.

    Raises:
        BadModelError: if it is missing, not JSON, was changed after it was saved, or has another format.
    """
    with _opened(path, None) as folder:
        return _checked(folder)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a model to a folder, in one step: a reader sees the old folder or the new one.

    Raises:
        FileExistsError: if the path exists and is not a saved model, or holds files that would be lost.
    """
    with replacing(path, (CONFIG, WEIGHTS, STARTS), "saved model") as fresh:
        for name, data in files.items():
            (fresh / name).write_bytes(data)


def sealed(content: Mapping[str, Any]) -> bytes:
    """The bytes of a config.json: its content, the version of this library, and the hash of both.

    Raises:
        TypeError, ValueError: if it cannot be written as JSON.
    """
    content = {"wmcomponents": __version__, **content}
    return _encoded({**content, "sha256": _digest(content)})


def _opened(path: str | Path, links_into: str | Path | None) -> StrictFolder:
    fault = model_fault(path)
    if fault:
        raise BadModelError(fault)
    return StrictFolder(path, BadModelError, WHAT, links_into=links_into)


def _checked(folder: StrictFolder) -> dict[str, Any]:
    """The content of a config.json that is a saved model's and was not changed since."""
    file = folder.path / CONFIG
    data = folder.read(CONFIG, most=LARGEST_JSON)
    content = folder.parsed(data, CONFIG)
    kinds = {
        **dict.fromkeys(("config", "observation_spec"), dict),
        **dict.fromkeys(("model", "weights_sha256", "sha256"), str),
        "format": int,
    }
    lacks = ", ".join(sorted(kinds.keys() - content.keys())) if isinstance(content, dict) else "everything"
    if lacks:
        raise BadModelError(f"{file} is not the config of a saved model: it lacks {lacks}.")
    try:
        # Byte for byte, not only in what it means: so that not even a bit that means nothing can be flipped.
        is_true = data == _encoded(content) and content["sha256"] == _digest(content)
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"{file} is not valid JSON; save the model again ({error}).") from error
    if not is_true:
        raise BadModelError(
            f"{file} was changed after the model was saved. Build a model with another config and save that."
        )
    optional = {**kinds, "action_spec": dict, "starts_sha256": str, "wmcomponents": str}
    wrong = [key for key in optional.keys() & content.keys() if not isinstance(content[key], optional[key])]
    if wrong:
        raise BadModelError(f"{file}: {', '.join(sorted(wrong))} has another type than a saved model's.")
    if content["format"] not in (1, FORMAT):
        raise BadModelError(f"{folder.path} has format {content['format']}; this version reads formats 1 and {FORMAT}.")
    return content


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _digest(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
