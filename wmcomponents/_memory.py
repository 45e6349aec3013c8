"""How much memory can still be taken."""

import contextlib
import os
from pathlib import Path


def free_memory() -> int | None:
    """Bytes that can still be taken, within the limit of a container; where only that is told, all of the machine's.

    ``None`` where the system tells nothing.
    """
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
        with contextlib.suppress(OSError, ValueError):  # no such group, or its limit reads "max"
            limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
            return min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
        return free
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
