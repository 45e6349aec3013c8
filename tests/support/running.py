"""Runs `wmc` inside the test's own process."""

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wmcomponents.cli import main


class Ran(NamedTuple):
    """Exit code and what was written."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The last line on standard output."""
        return json.loads(self.out.strip().splitlines()[-1])


def wmc(*arguments) -> Ran:
    """Run the command with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def learnt(agent):
    """What an agent saved by Stable-Baselines3 has learnt, without the times that its file holds too."""
    with zipfile.ZipFile(agent) as file:
        policy, optimizer = (
            torch.load(io.BytesIO(file.read(name)), weights_only=True)
            for name in ("policy.pth", "policy.optimizer.pth")
        )
    moments = {f"{i}/{key}": value for i, entry in optimizer["state"].items() for key, value in entry.items()}
    tensors = {key: value.numpy().tobytes().hex() for key, value in {**policy, **moments}.items()}
    return json.dumps([tensors, optimizer["param_groups"]], sort_keys=True).encode()


def train_arguments(data: Path, out: Path, steps: int = 3) -> list:
    """What `wmc` is given to train a small model for a few steps."""
    sizes = ["--batch-size", 4, "--sequence-length", 16, "--start-states", 32]
    return ["train", "--data", data, "--out", out, "--steps", steps, *sizes]
