"""`wmc data info`: what a data folder holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._interruption import postponed
from wmcomponents.cli.console import quiet, show_facts, show_table
from wmcomponents.cli.errors import check_folders


@dataclass(frozen=True)
class DataInfoConfig:
    """Arguments of `wmc data info`."""

    data: Path
    """A data folder."""


def run(config: DataInfoConfig) -> dict[str, Any]:
    """Read all of it, and tell."""
    check_folders(data=(config.data,))
    with postponed():  # an import that is broken off says something else than that it was
        from wmcomponents.data.folder import open_saved, read_one_save
    quiet()
    saved = open_saved(config.data)
    episodes = read_one_save(config.data, _episodes)
    layout = saved.layout
    entries = {"/".join(key): _shape(dtype, shape) for key, dtype, shape in layout.leaves}
    known = {name: value for name, value in saved.content.items() if name in KNOWN and value not in (None, {})}
    result = {
        "data": str(config.data),
        **known,
        "steps": saved.content["steps"],
        "streams": layout.streams,
        **episodes,
        "bytes": saved.bytes,
        "entries": entries,
    }
    told = {name: f"{value:,}" if isinstance(value, int) else value for name, value in result.items()}
    told["bytes"] = f"{saved.bytes / 1e6:,.1f} MB"
    show_facts(str(config.data), {name: value for name, value in told.items() if name not in ("data", "entries")})
    show_table("A step", ["entry", "kind"], sorted(entries.items()))
    return result


KNOWN = ("env", "source", "origin", "options", "policy", "seed", "env_options", "notes")
"""What is told of the facts that were saved beside the steps."""


def _episodes(saved: Any) -> dict[str, Any]:
    """Episodes over all streams, each file looked at once."""
    from wmcomponents.data.episodes import EpisodeCount

    counts = [EpisodeCount() for _ in range(saved.layout.streams)]
    for steps in saved.parts():
        for count, one in zip(counts, steps.unbind(1) if saved.layout.batch else [steps], strict=True):
            count.add(one)
    ended = sum(count.ended for count in counts)
    mean = round(sum(count.total for count in counts) / ended, 4) if ended else None
    return {"episodes": ended, "longest_episode": max(count.longest for count in counts), "mean_return": mean}


def _shape(dtype: Any, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
