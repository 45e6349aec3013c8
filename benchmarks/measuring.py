"""What all measurements share: clocks, interleaved repeats, the machine, its floor, profiles."""

import datetime
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "PYTORCH_ALLOC_CONF")
MATMULS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmm_", "aten::baddbmm_", "aten::mv")
GEMM = 2048
"""Side of the square matrices whose product gives the machine's matmul rate."""

FEWEST, ROUNDS = 5, 60.0
"""Repeats that every cell has, and the seconds after which it has no more than these."""


@dataclass(frozen=True)
class Setup:
    """How to measure.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        repeats: interleaved repeats of every cell.
        threads: of torch on the CPU; 0: as many as torch takes by itself.
        cpu_time: count the process's own time, all threads together, instead of the clock's: for a busy machine, and
            only fair with one thread.
        compiled: measure what is compiled too; needs a C++ compiler.
        unrolled: sizes whose whole filter is compiled too, all steps unrolled into one graph: many minutes.
        floor: measure matmul rate, FLOPs and profiles.
    """

    device: str = "cpu"
    repeats: int = 15
    threads: int = 0
    cpu_time: bool = False
    compiled: bool = True
    unrolled: tuple[str, ...] = ()
    floor: bool = True

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds."""
        return time.process_time if self.cpu_time else time.perf_counter

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    @contextmanager
    def threaded(self):
        """The given number of threads, for a while."""
        before = torch.get_num_threads()
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def describe(self) -> dict[str, Any]:
        """What the figures of one section depend on."""
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "clock": "cpu" if self.cpu_time else "wall",
            "threads": self.threads or torch.get_num_threads(),
            "repeats": self.repeats,
            "dtype": "float32",
            "load": round(os.getloadavg()[0], 2),
            "machine": machine(),
        }


def machine() -> dict[str, Any]:
    """Processor, versions and allocator."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "tensordict", "torchrl", "gymnasium")},
        "allocator": {name: os.environ.get(name, "default") for name in ALLOCATOR},
    }


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def interleaved(runs: dict[str, Callable[[], Any]], setup: Setup, least: float = 0.02) -> dict[str, list[float]]:
    """Seconds a call of every repeat; each repeat runs every variant, so that all see the same machine.

    A variant is run once untimed before it is timed: what the variant before it left in the caches is not its cost.
    Where one round takes long, there are fewer of them, but not under ``FEWEST``.

    Args:
        runs: variants by name.
        setup: how to measure.
        least: calls are repeated until a timing takes about so many seconds.
    """
    counts, total = {}, 0.0
    for name, run in runs.items():
        run()
        run()
        setup.synchronize()
        begun = setup.clock()
        run()
        setup.synchronize()
        taken = setup.clock() - begun
        counts[name] = max(1, min(1000, math.ceil(least / max(taken, 1e-7))))
        total += taken * (counts[name] + 1)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(min(setup.repeats, max(FEWEST, int(ROUNDS / max(total, 1e-7))))):
        for name, run in runs.items():
            run()
            setup.synchronize()
            begun = setup.clock()
            for _ in range(counts[name]):
                run()
            setup.synchronize()
            times[name].append((setup.clock() - begun) / counts[name])
    return times


def gemm(setup: Setup) -> Callable[[], Any]:
    """One product of two square matrices of side ``GEMM``, to be timed beside the variants."""
    a, b = (torch.randn(GEMM, GEMM, device=setup.device) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


class FlopCount(TorchDispatchMode):
    """Counts the FLOPs of matrix products and convolutions, forward and backward, two a multiply-add."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out


def flops(run: Callable[[], Any]) -> int:
    """FLOPs of matrix products and convolutions in one eager call."""
    with FlopCount() as counted:
        run()
    return counted.total


def profile(run: Callable[[], Any]) -> dict[str, float]:
    """Of one eager call on the CPU: the operations it dispatches, and the share of matrix products in their time.

    Returns:
        ``ops``, and ``matmul_share`` of the operations' own time.
    """
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        run()
    events: list[Any] = [event for event in profiled.key_averages() if event.key.startswith("aten::")]
    total = sum(event.self_cpu_time_total for event in events)
    matmuls = sum(event.self_cpu_time_total for event in events if event.key in MATMULS)
    return {"ops": sum(event.count for event in events), "matmul_share": round(matmuls / max(total, 1e-9), 3)}


def row(
    times: dict[str, list[float]],
    name: str,
    *,
    work: str,
    config: str,
    flop: int = 0,
    rivals: tuple[str, ...] = (),
    goal: float | None = None,
    steps: int = 0,
    profiled: dict[str, float] | None = None,
) -> dict[str, Any]:
    """One line of a table.

    Args:
        times: seconds of every repeat and variant, ``"gemm"`` among them if there is to be a floor.
        name: the variant.
        work: what is computed.
        config: sizes.
        flop: FLOPs of one call.
        rivals: variants of which the one with the lower median is compared with.
        goal: largest ratio to it; without rivals, largest gap to the floor.
        steps: environment steps of one call, for a rate.
        profiled: what :func:`profile` found.
    """
    mine = times[name]
    made: dict[str, Any] = {
        "work": work,
        "config": config,
        "variant": name,
        "ms": digits(statistics.median(mine) * 1e3),
        "range": [digits(min(mine) * 1e3), digits(max(mine) * 1e3)],
        "repeats": len(mine),
    }
    if steps:
        made["rate"] = digits(steps / statistics.median(mine))
    if flop and "gemm" in times:
        rate = 2 * GEMM**3 / statistics.median(times["gemm"])
        made["gflop"] = digits(flop / 1e9)
        made["gflops_machine"] = digits(rate / 1e9)
        made["floor_ms"] = digits(flop / rate * 1e3)
        made["gap"] = digits(statistics.median(mine) / (flop / rate))
    if rivals:
        best = min(rivals, key=lambda rival: statistics.median(times[rival]))
        made["ratio"] = round(statistics.median(t / r for t, r in zip(mine, times[best], strict=True)), 3)
        made["against"] = best
    judged = made.get("ratio", made.get("gap"))
    if goal is not None and judged is not None:
        made["goal"] = goal
        made["met"] = judged <= goal
    if profiled is not None:
        made["profile"] = profiled
    return made


def digits(value: float, count: int = 3) -> float:
    """A number rounded to so many significant digits."""
    return float(f"{value:.{count}g}") if value else 0.0
