"""Work in a forked child that a signal ends at a chosen moment."""

import os
import signal
import time
import warnings
from collections.abc import Callable

import torch


def signalled(work: Callable[[], int | None], after: float, signum: int = signal.SIGKILL) -> int:
    """Run ``work`` in a fork, send it a signal, and return its exit code, negative if the signal ended it.

    Args:
        work: what the child does; its result is the exit code.
        after: seconds before the signal.
        signum: which signal.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has threads, and the child does without them
        begun, begins = os.pipe()
        child = os.fork()
    if child == 0:
        code = 70
        try:
            torch.set_num_threads(1)  # the other threads of the pool are not there after a fork: waiting for them hangs
            os.write(begins, b".")
            code = work() or 0
        finally:
            os._exit(code)
    os.close(begins)
    os.read(begun, 1)  # the seconds count from there, however busy the machine is
    os.close(begun)
    time.sleep(after)
    os.kill(child, signum)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
