"""Where losses are logged, and what a killed run left there."""

from pathlib import Path
from typing import Any

from wmcomponents._whole import unfinished, write_whole


def make_logger(logger: Any, out: Path | None) -> Any:
    """A TorchRL logger by its name, or the one that was given.

    Args:
        logger: ``"csv"``, ``"tensorboard"``, a TorchRL logger, or ``None``.
        out: the folder of a logger that is made here, below which it writes to ``logs``.

    Raises:
        ValueError: for another name, or without a folder.
        MissingExtraError: if TensorBoard is not installed.
    """
    if not isinstance(logger, str):
        return logger
    if logger not in ("csv", "tensorboard"):
        raise ValueError(f"logger is 'csv', 'tensorboard', a TorchRL logger or None; got {logger!r}.")
    if out is None:
        raise ValueError(f"logger={logger!r} needs a place to write: pass out=FOLDER.")
    if logger == "csv":
        from torchrl.record import CSVLogger

        return CSVLogger(exp_name="logs", log_dir=str(out))
    from wmcomponents._extras import require

    require("tensorboard", extra="logging")
    from torchrl.record import TensorboardLogger

    return TensorboardLogger(exp_name="logs", log_dir=str(out))


def rewind_csv(folder: Path, step: int, name: str = "**/*") -> None:
    """Drop the rows of a run's CSV logs that a killed run wrote after ``step``: they will be written again.

    Args:
        folder: of the logs.
        step: the last one to keep.
        name: which numbers, as a glob pattern; all of them if not given.
    """
    for file in sorted(folder.glob(f"scalars/{name}.csv")):
        unfinished(file).unlink(missing_ok=True)
        rows = file.read_text(errors="replace").splitlines(keepends=True)
        kept = [row for row in rows if _is_whole(row) and int(row.partition(",")[0]) <= step]
        if kept != rows:
            write_whole(file, "".join(kept))


def _is_whole(row: str) -> bool:
    number, comma, value = row.partition(",")
    return comma == "," and number.isascii() and number.isdecimal() and value.endswith("\n") and "," not in value
