"""A data folder: steps in files that are written once, and ``data.json``, which says which of them count.

A save writes new files beside those that are there, then replaces ``data.json`` in one step, then removes what it no
longer names. So a reader, or a run after a kill, finds one save, whole. Nothing in a folder is ever executed: files are
read as bytes of a known number and compared with their hashes, and only regular files whose names ``data.json`` gives
are opened.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from tensordict import TensorDictBase

from wmcomponents._folder_kinds import data_fault, data_remedy
from wmcomponents._lock import one_writer
from wmcomponents._whole import check_place, written_whole
from wmcomponents.data.layout import LARGEST_PART, Layout
from wmcomponents.pretrained.files import LARGEST_JSON, StrictFolder, flush_names
from wmcomponents.pretrained.folder import sealed

DESCRIPTION = "data.json"
FORMAT = 2
WHAT = "a data folder"
PART_BYTES = 2**24
"""What a file of steps holds, about."""

RESERVED = frozenset(
    ("format", "sha256", "steps", "batch", "capacity", "cursor", "generator", "layout", "parts", "transition_spec")
)
_PART = re.compile(r"steps-[0-9]{8}\.bin")
_UNFINISHED = re.compile(r"\.(data\.json|steps-[0-9]{8}\.bin)\.unfinished")

T = TypeVar("T")


class BadDataError(ValueError):
    """A data folder is missing, damaged, forged, of another version, or does not fit what it is loaded into.

    Nothing was loaded from it, and nothing in it was changed.
    """


@dataclass(frozen=True)
class SavedSteps:
    """One save of a data folder, its description checked, its files not yet opened.

    Attributes:
        path: the folder.
        content: of ``data.json``.
        layout: of a row.
    """

    path: Path
    content: dict[str, Any]
    layout: Layout

    @property
    def rows(self) -> int:
        """Rows of steps; each has as many steps as there are streams."""
        return sum(part["rows"] for part in self.content["parts"])

    @property
    def bytes(self) -> int:
        """Of all files of steps."""
        return sum(self.layout.file_bytes(part["rows"], part["loose"]) for part in self.content["parts"])

    def parts(self) -> Iterator[TensorDictBase]:
        """Steps ``[rows, *batch]``, oldest first, file by file, every one checked before it is given.

        Raises:
            BadDataError: if a file is missing or is not the one that was written.
        """
        for part in self.content["parts"]:
            yield self.part(part)

    def part(self, part: dict[str, Any]) -> TensorDictBase:
        """The steps of one file."""
        size = self.layout.file_bytes(part["rows"], part["loose"])
        with StrictFolder(self.path, BadDataError, WHAT) as folder, folder.open(part["file"], exactly=size) as file:
            try:
                data = bytearray(size)
                if cast(Any, file).readinto(data) != size:
                    raise ValueError("it became shorter while it was read")
                if hashlib.sha256(data).hexdigest() != part["sha256"]:
                    raise ValueError("it is not the file that was saved, but is damaged or was replaced")
                return self.layout.unpack(data, part["rows"], part["loose"])
            except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
                raise BadDataError(f"{self.path / part['file']} holds no steps that were saved: {error}.") from error


def open_saved(path: str | Path) -> SavedSteps:
    """Read and check the description of a data folder.

    Raises:
        BadDataError: if it is no data folder, or its description is not one that was written.
    """
    path, remedy, fault = Path(path), data_remedy(path), data_fault(path)
    if fault:
        raise BadDataError(fault)
    with StrictFolder(path, BadDataError, WHAT) as folder:
        data = folder.read(DESCRIPTION, most=LARGEST_JSON)
        content = folder.parsed(data, DESCRIPTION)
    if isinstance(content, dict) and content.get("format") == 1:
        raise BadDataError(f"{path} was saved by an earlier version. {remedy}")
    try:
        if not isinstance(content, dict) or data != sealed({k: v for k, v in content.items() if k != "sha256"}):
            raise ValueError("it was changed after it was written")
        return SavedSteps(path, content, _checked_content(content))
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"{path / DESCRIPTION} describes no data: {error}. {remedy}") from error


def read_description(path: str | Path) -> dict[str, Any]:
    """What a data folder says about itself, without opening its steps.

    Returns:
        ``steps`` (their number), ``batch`` (``[]``, or the number of streams), ``capacity``, ``transition_spec``, and
        the facts that were saved with them (``wmc collect``: ``env``, ``env_options``, ``policy``, ``episodes`` ...).

    Raises:
        BadDataError: if it is no data folder.
    """
    inner = ("format", "sha256", "cursor", "generator", "layout", "parts")
    return {key: value for key, value in open_saved(path).content.items() if key not in inner}


def read_one_save(path: str | Path, use: Callable[[SavedSteps], T]) -> T:
    """Call ``use`` with a save; once more if another save took its place meanwhile.

    Raises:
        BadDataError: if it is damaged.
    """
    for attempt in range(100):
        saved = open_saved(path)
        try:
            return use(saved)
        except BadDataError:
            if attempt == 99 or open_saved(path).content["sha256"] == saved.content["sha256"]:
                raise
    raise AssertionError("not reached")


def foreign_names(path: Path) -> list[str]:
    """Names in a folder that are not those of a data folder, nor what a killed save leaves there."""
    names = [file.name for file in path.iterdir()]
    return sorted(n for n in names if n != DESCRIPTION and not _PART.fullmatch(n) and not _UNFINISHED.fullmatch(n))


class DataWriter:
    """The one writer of a data folder.

    Full files are written once. The last is written anew, longer, with each save, before the one that it replaces is
    removed; so saving often costs little, and at most ``PART_BYTES`` of the disk beside the steps themselves.

    Args:
        path: the folder; it is made. What is saved there stays valid until :meth:`save` replaces it.
        append: go on after the steps that are there, else replace them.

    Raises:
        FolderInUseError: if another one writes there.
        BadDataError: if ``append`` and what is there is damaged.
        OSError: if it cannot be written to.
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self.path = check_place(path)
        self._layout: Layout | None = None
        self._parts: list[dict[str, Any]] = []
        self._tail: list[TensorDictBase] = []
        with ExitStack() as held:
            held.enter_context(one_writer(self.path))
            self._clean(keep=self._named())
            numbers = [int(file.name[6:14]) for file in self.path.iterdir() if _PART.fullmatch(file.name)]
            self._next = max(numbers, default=0) + 1
            if append:
                self._go_on(open_saved(self.path))
            self._held = held.pop_all()

    def append(self, steps: TensorDictBase) -> None:
        """Take more rows, ``[R]`` or ``[R, N]``; full files are written at once, and count from the next save on.

        Raises:
            ValueError: if they are of another kind than those before.
            OSError: if the disk is full; the save before stands.
        """
        layout = Layout.of(steps, steps.ndim)
        if self._layout is not None and layout != self._layout:
            raise ValueError(f"the steps are {layout.to_json()} and those before them {self._layout.to_json()}.")
        self._layout = layout
        rows = max(1, PART_BYTES // max(1, layout.row_bytes))
        self._tail.append(steps)
        if sum(map(len, self._tail)) < rows:
            return
        taken: Any = _joined(self._tail)
        while len(taken) >= rows:
            self._parts.append(self._write_part(taken[:rows]))
            taken = taken[rows:]
        self._tail = [taken] if len(taken) else []

    def save(self, *, transition_spec: Any = None, capacity: int | None = None, cursor: int | None = None,
             generator: Any = None, **facts: Any) -> None:  # fmt: skip
        """Make everything taken so far the content of the folder, in one step.

        Args:
            transition_spec: of a step, as plain JSON.
            capacity: of the buffer, in steps; the number of steps if not given.
            cursor: row that the buffer writes next; where a buffer that is just full writes if not given.
            generator: what continues the buffer's sampling.
            **facts: more to say about the data.

        Raises:
            ValueError: if nothing was taken, or a fact has a name that is taken or cannot be written as JSON.
            OSError: if the disk is full; the save before stands.
        """
        taken = sorted(RESERVED & facts.keys())
        if taken or self._layout is None:
            raise ValueError(f"these names are taken: {', '.join(taken)}." if taken else "there are no steps to save.")
        parts = list(self._parts)
        if self._tail:  # its file is written again, longer, by the next save
            self._tail = [_joined(self._tail)]
            parts.append(self._write_part(self._tail[0]))
        steps = sum(part["rows"] for part in parts) * self._layout.streams
        content = {
            **facts,
            "format": FORMAT,
            "steps": steps,
            "batch": list(self._layout.batch),
            "capacity": steps if capacity is None else capacity,
            "cursor": 0 if cursor is None else cursor,
            "generator": generator,
            "layout": self._layout.to_json(),
            "parts": parts,
            "transition_spec": transition_spec,
        }
        with written_whole(self.path / DESCRIPTION) as file:
            file.write(sealed(content))
        flush_names(self.path)
        self._clean(keep={part["file"] for part in parts})

    def cut(self, stream: int = 0) -> None:
        """Mark the last step, just after a folder was opened to append to it, as the end of its episode by a clock."""
        tail = self._tail[-1]
        place = (-1, stream) if cast(Layout, self._layout).batch else -1
        tail["next", "truncated"][place] = ~tail["next", "terminated"][place]
        tail["next", "done"][place] = True

    def close(self) -> None:
        """Let another one write; what was taken since the last save is dropped."""
        try:
            self._clean(keep=self._named())
        finally:
            self._held.close()

    def __enter__(self) -> "DataWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _go_on(self, saved: SavedSteps) -> None:
        """Take over the files of a save; the steps of the last are read, to be written again with those that follow."""
        for part in saved.content["parts"][:-1]:
            saved.part(part)
        self._layout = saved.layout
        self._parts = list(saved.content["parts"][:-1])
        self._tail = [saved.part(saved.content["parts"][-1])]

    def _write_part(self, steps: TensorDictBase) -> dict[str, Any]:
        layout = cast(Layout, self._layout)
        pieces, loose = layout.pack(steps)
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        name = f"steps-{self._next:08d}.bin"
        self._next += 1
        with written_whole(self.path / name) as file:
            for piece in pieces:
                file.write(piece)
        return {"file": name, "rows": len(steps), "loose": loose, "sha256": digest.hexdigest()}

    def _named(self) -> set[str]:
        """The files of the save that stands; nothing is removed from a folder that cannot be understood."""
        if not (self.path / DESCRIPTION).exists():
            return set()
        try:
            return {part["file"] for part in open_saved(self.path).content["parts"]}
        except BadDataError:
            return {file.name for file in self.path.iterdir()}

    def _clean(self, keep: set[str]) -> None:
        """Remove what a killed or replaced save left behind."""
        for file in self.path.iterdir():
            if file.name not in keep and (_PART.fullmatch(file.name) or _UNFINISHED.fullmatch(file.name)):
                with suppress(OSError):
                    file.unlink()


def _joined(pieces: list[TensorDictBase]) -> TensorDictBase:
    return pieces[0] if len(pieces) == 1 else cast(TensorDictBase, torch.cat(pieces, 0))  # pyright: ignore


def _checked_content(content: dict[str, Any]) -> Layout:
    """Compare everything that a description says with what can be.

    Raises:
        ValueError: naming what cannot.
    """
    missing = sorted(RESERVED - content.keys())
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {str(content['format'])[:99]}; this version reads {FORMAT}")
    layout = Layout.from_json(content["layout"], content["batch"])
    rows = _rows_of(content["parts"], layout)
    _check_counts(rows, layout.streams, *(content[name] for name in ("steps", "capacity", "cursor")))
    if not _is_generator(content["generator"]):
        raise ValueError("its generator is none")
    if not (content["transition_spec"] is None or isinstance(content["transition_spec"], dict)):
        raise ValueError("its spec is none")
    return layout


def _rows_of(parts: Any, layout: Layout) -> int:
    """Rows of all files of a description."""
    if not isinstance(parts, list) or not parts or not all(_is_part(part, layout) for part in parts):
        raise ValueError("its list of files is none")
    if len({part["file"] for part in parts}) < len(parts):
        raise ValueError("it names a file twice")
    return sum(part["rows"] for part in parts)


def _check_counts(rows: int, streams: int, steps: Any, capacity: Any, cursor: Any) -> None:
    if not all(type(count) is int for count in (steps, capacity, cursor)):
        raise ValueError("its counts are none")
    if steps != rows * streams or capacity < steps or capacity % streams:
        raise ValueError(f"{steps} steps of {capacity} are not the {rows} rows of its files")
    if not (0 <= cursor < rows if capacity == steps else cursor == rows):
        raise ValueError(f"its cursor {cursor} stands outside of what was written")


def _is_generator(state: Any) -> bool:
    if state is None:
        return True
    if not isinstance(state, dict) or state.keys() != {"device", "state"}:
        return False
    return all(isinstance(value, str) and len(value) < 2**15 for value in state.values())


def _is_part(part: Any, layout: Layout) -> bool:
    if not isinstance(part, dict) or part.keys() != {"file", "rows", "loose", "sha256"}:
        return False
    texts = isinstance(part["file"], str) and _PART.fullmatch(part["file"]) and isinstance(part["sha256"], str)
    rows, loose = part["rows"], part["loose"]
    if not texts or type(rows) is not int or type(loose) is not int:
        return False
    if rows < 1 or not 0 <= loose <= rows * layout.streams:
        return False
    return rows == 1 or layout.file_bytes(rows, loose) <= LARGEST_PART
