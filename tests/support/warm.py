"""Programs that run one after the other in forks of one warm process: what is slow about starting is paid once.

What is warm are the libraries of others. The package itself is not imported there: each program imports what it needs
of it, in its own order, as in a fresh interpreter. Where there is no fork, each program gets an interpreter.
"""

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import NamedTuple, NoReturn

LIBRARIES = (
    "torch",
    "tensordict",
    "torchrl.collectors",
    "torchrl.data",
    "torchrl.envs",
    "torchrl.modules",
    "torchrl.objectives",
    "torch._inductor.compile_fx",
    "safetensors.torch",
    "gymnasium",
    "stable_baselines3",
    "matplotlib.figure",
)
ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """How a program ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Warm:
    """A process that has imported the libraries and has started no threads."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def run(self, script: Path, *arguments: object, cwd: Path | None = None) -> Done:
        """Run a Python file to its end, as ``python script arguments`` would in that folder."""
        with tempfile.TemporaryDirectory() as place:
            job = {"argv": [str(script), *map(str, arguments)], "cwd": str(cwd or Path.cwd()), "place": place}
            code = self._forked(job) if hasattr(os, "fork") else _alone(job)
            out, err = (Path(place, name).read_bytes().decode() for name in ("out", "err"))
        return Done(code, out, err)

    def close(self) -> None:
        """End the process, and the program that may still run in it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.process = None

    def _forked(self, job: dict) -> int:
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            command = [sys.executable, __file__]
            self.process = subprocess.Popen(command, env=_environment(), text=True, start_new_session=True, **pipes)
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            return int(self.process.stdout.readline())
        except BaseException:  # a time limit among them
            self.close()
            raise


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def _alone(job: dict) -> int:
    with open(Path(job["place"], "out"), "w") as out, open(Path(job["place"], "err"), "w") as err:
        return subprocess.call(
            [sys.executable, *job["argv"]], cwd=job["cwd"], env=_environment(), stdout=out, stderr=err
        )


def _serve() -> None:
    """Fork for each line that comes in; the child becomes the program, and its end is that of the interpreter."""
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    multiprocessing.set_start_method(None, force=True)  # torchrl sets it, and the package would have put it back
    gc.collect()
    gc.freeze()  # what a fork does not touch is not copied
    told = os.fdopen(os.dup(1), "w")
    os.set_inheritable(told.fileno(), False)
    while line := sys.stdin.readline():
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            told.close()
            _become(job)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=told, flush=True)


def _become(job: dict) -> NoReturn:
    os.chdir(job["cwd"])
    for number, name in enumerate((os.devnull, "out", "err")):
        file = os.open(Path(job["place"], name), os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.argv = job["argv"]
    sys.path[0] = str(Path(job["argv"][0]).parent)
    code: object = 0
    try:
        runpy.run_path(job["argv"][0], run_name="__main__")
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # The end of an interpreter, without taking all of the libraries apart.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
