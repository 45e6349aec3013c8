"""Commands in, messages out: what a page and a session say to each other, over whatever carries bytes."""

import json
import math
import secrets
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wmcomponents.play.commands import Command
from wmcomponents.play.pictures import Picture, encoded, heated
from wmcomponents.play.recording import record
from wmcomponents.play.session import Branch, Moment, Session

LARGEST_FILE = 2**24
"""Bytes of a film that is handed to the page as well as written."""


def message(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """A message: the length of its header (4 bytes, big endian), the header as JSON, then its blobs.

    Numbers that are not finite become null, which is what JSON has for them.
    """
    text = json.dumps(_plain({**header, "blobs": [len(blob) for blob in blobs]}), allow_nan=False).encode()
    return b"".join([struct.pack(">I", len(text)), text, *blobs])


def read_message(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The inverse of :func:`message`: header and blobs."""
    (length,) = struct.unpack(">I", data[:4])
    header, at, blobs = json.loads(data[4 : 4 + length]), 4 + length, []
    for size in header["blobs"]:
        blobs.append(data[at : at + size])
        at += size
    return header, blobs


class Conversation:
    """Does what commands ask of a session, and says what came of it.

    Not for several threads at once: whoever carries the messages hands in one command after the other.

    Args:
        session: what is played.
        out: the folder that recordings are written to.
        title: what is played, for a person.
        facts: of recordings that are data (``env``, ``env_options``).

    Attributes:
        saliency: whether the influence of the action is drawn over the dream.
    """

    def __init__(self, session: Session, out: Path, *, title: str = "", facts: dict[str, Any] | None = None) -> None:
        self.session, self.out, self.title = session, out, title or type(session.model).__name__
        self.saliency = False
        self._facts, self._name = facts or {}, secrets.token_hex(8)
        self._doers: dict[str, Callable[..., Any]] = {
            "step": lambda action, luck: session.step(action, luck=bool(luck)),
            "go": session.go,
            "fork": session.fork,
            "switch": session.switch,
            "remove": session.remove,
            "begin": session.begin,
            "overlay": self._overlay,
        }

    def hello(self) -> bytes:
        """What a page must know before it draws anything."""
        session = self.session
        facts = {
            "kind": "hello",
            "session": self._name,
            "title": self.title,
            "family": type(session.model).__name__,
            "controls": session.controls.describe(),
            "starts": session.menu.describe(),
            "reward": session.has_reward,
            "chance": "continue" in session.model.capabilities,
            "uncertainty": session.simulator.rules.choices.uncertainty is not None,
            "data": session.simulator.view == "decoded",
        }
        return message(facts)

    def do(self, command: Command) -> list[bytes]:
        """Do what a command asks for; the messages that answer it, besides the frame.

        Raises:
            PlayError: if it cannot be done; nothing changed then.
        """
        if command.name == "save":
            return self._save(command.entries["as"])
        self._doers[command.name](**command.entries)
        return []

    def upload(self, data: bytes) -> None:
        """Begin from an encoded image.

        Raises:
            PlayError: if the model cannot, or it is none.
        """
        self.session.begin_from_image(data)

    def frame(self, id: int = 0) -> bytes:
        """Where the session stands, in words, numbers and pictures.

        Args:
            id: of the command that led here.
        """
        session = self.session
        moment, branch = session.moment, session.branch
        pictures = self._pictures()
        real = moment.real
        header = {
            "kind": "frame",
            "id": id,
            "branch": branch.number,
            "step": session.cursor,
            "steps": len(branch.moments) - 1,
            "start": branch.start.words,
            "reward": moment.reward,
            "total": moment.total,
            "chance": moment.chance,
            "ended": moment.ended,
            "uncertainty": moment.uncertainty,
            "action": None if moment.value is None else session.controls.words(moment.value),
            "value": moment.value,
            "saliency": self.saliency,
            "real": None if real is None else {**real._asdict(), "observation": None},
            "branches": [_told(each) for each in session.branches.values()],
            "pictures": [{"of": of, "type": picture.kind, "size": picture.size} for of, picture in pictures],
        }
        return message(header, [picture.data for _, picture in pictures])

    def _pictures(self) -> list[tuple[str, Picture]]:
        session = self.session
        seen = session.picture()
        heat = session.saliency() if self.saliency else None
        pictures = [("dream", encoded(seen if heat is None else heated(seen, heat)))]
        real = session.real_picture()
        return pictures if real is None else [*pictures, ("reality", encoded(real))]

    def _overlay(self, saliency: bool) -> None:
        self.saliency = saliency

    def _save(self, form: str) -> list[bytes]:
        saved = record(self.session, self.out, form, title=self.title, facts=self._facts)
        header = {"kind": "saved", "path": str(saved.path), "words": saved.words, "name": saved.path.name}
        small = saved.path.is_file() and saved.path.stat().st_size <= LARGEST_FILE
        return [message({**header, "type": saved.kind}, [saved.path.read_bytes()] if small else [])]


def error_message(text: str, id: int = 0) -> bytes:
    """What went wrong, for the one who asked."""
    return message({"kind": "error", "text": text, "id": id})


def _told(branch: Branch) -> dict[str, Any]:
    last: Moment = branch.moments[-1]
    told = {"number": branch.number, "start": branch.start.words, "steps": len(branch.moments) - 1}
    return {**told, "parent": branch.parent, "total": last.total, "ended": last.ended}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
