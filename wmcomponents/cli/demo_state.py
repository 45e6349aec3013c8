"""What an unfinished demo keeps on disk, so that the same command goes on."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from wmcomponents._whole import write_whole
from wmcomponents.cli.errors import UsageError

UNFINISHED = "unfinished"
"""The folder, in that of the demo, of all that serves to go on; it goes away with the demo's end."""

STATE, DATA, AGENT = "demo.json", "data", "agent.safetensors"


@dataclass
class DemoState:
    """How far a demo is. How many real steps, updates and dreamt steps there are is read off their own files.

    Attributes:
        round: from 0.
        phase: of the round, the next to be begun or gone on with.
        dream_steps: of the rounds before.
        longest: real episode so far.
        random_returns: what the random policy earned before the first round.
    """

    round: int = 0
    phase: Literal["collect", "fit", "learn"] = "collect"
    dream_steps: int = 0
    longest: int = 0
    random_returns: list[float] = field(default_factory=list)


class DemoFolder:
    """The files of an unfinished demo in its folder.

    Args:
        folder: of the demo.
        config: JSON-able arguments that decide the demo.

    Raises:
        UsageError: if it holds an unfinished demo with other arguments.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.path, self.config = folder / UNFINISHED, json.loads(json.dumps(config, default=str))
        self.state, self.is_begun = DemoState(), False
        if (self.path / STATE).is_file():
            self._read()
        else:
            self.finish()
        self.path.mkdir(exist_ok=True)

    def save(self) -> None:
        """Note how far the demo is."""
        content = {"config": self.config, "state": asdict(self.state)}
        write_whole(self.path / STATE, json.dumps(content, indent=2) + "\n")

    def finish(self) -> None:
        """What only served to go on goes away."""
        (self.path / STATE).unlink(missing_ok=True)
        if self.path.is_dir():
            shutil.rmtree(self.path)

    def when_begun(self, name: str, read: Callable[[Path], Any]) -> Any:
        """Read one of the files, if there is one."""
        return read(self.path / name) if self.is_begun and (self.path / name).exists() else None

    def _read(self) -> None:
        file = self.path / STATE
        try:
            content = json.loads(file.read_text())
            was, state = content["config"], content["state"]
            other = [f"{key} {was[key]} (now {now})" for key, now in self.config.items() if was[key] != now]
            found = DemoState(**state)
            sound = all(type(getattr(found, one.name)) is type(getattr(self.state, one.name)) for one in fields(found))
            if not sound or found.phase not in ("collect", "fit", "learn"):
                raise ValueError("its entries are of other types")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{file} is damaged ({error}): remove it to begin anew.") from error
        if other:
            raise UsageError(
                f"{self.path} holds an unfinished demo with {', '.join(other)}: repeat its arguments to go on, choose "
                f"another --out, or remove {file.name} to begin anew."
            )
        self.state, self.is_begun = found, True
