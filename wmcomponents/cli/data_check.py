"""`wmc data check`: what is wrong with recorded steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._interruption import postponed
from wmcomponents.cli.console import Outcome, quiet, say
from wmcomponents.cli.errors import check_folders

CLEAN, FOUND, UNUSABLE = 0, 1, 2
"""What the command returns."""


@dataclass(frozen=True)
class DataCheckConfig:
    """Arguments of `wmc data check`."""

    data: Path
    """A data folder."""


def run(config: DataCheckConfig) -> Outcome:
    """Examine all of it, and tell what is wrong and what to do."""
    check_folders(data=(config.data,))
    with postponed():  # an import that is broken off says something else than that it was
        from wmcomponents.cli.dataset import spec_of, stored_streams
        from wmcomponents.data.doctor import CHECKS, UnusableDataError, examine
        from wmcomponents.data.folder import BadDataError
    quiet()
    told: dict[str, Any] = {"data": str(config.data)}
    try:
        streams = stored_streams([config.data])
        examined = examine(streams, spec_of(config.data))
    except (UnusableDataError, BadDataError) as error:
        say(f"{config.data} cannot be used: {error}")
        return Outcome({**told, "unusable": str(error), "findings": []}, UNUSABLE)
    for number, one in enumerate(examined.findings, 1):
        say(f"\n{number}. {one.fault} ({one.where}): {one.says}\n   What to do: {one.remedy}")
    looked = f"{examined.steps:,} steps, {examined.episodes:,} episodes; looked for: {', '.join(CHECKS)}."
    say(f"\n{'Nothing' if not examined.findings else f'{len(examined.findings)} findings'} in {config.data}: {looked}")
    return Outcome({**told, **examined.to_json()}, FOUND if examined.findings else CLEAN)
