"""What all measurements share: clocks, interleaved repeats, the machine, its floor, profiles."""

import argparse
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
CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::cudnn_convolution")
GEMM = 2048
"""Side of the square matrices whose product gives the machine's matmul rate."""

CONV_ROWS, CONV_CHANNELS, CONV_SIDE = 16, 64, 32
"""Of the 3x3 convolution that gives the machine's convolution rate."""

FEWEST, ROUNDS = 5, 60.0
"""Repeats that every cell has, and the seconds after which it has no more than these."""

LONG = 4.0
"""Seconds of a call from which it is not run untimed before every repeat."""


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


def timing_parser(description: str | None, repeats: int = 7) -> argparse.ArgumentParser:
    """What every measurement of time may be told on its command line.

    Args:
        description: of the measurement.
        repeats: interleaved ones, if not told.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="count this process's time: for a busy machine")
    parser.add_argument("--device", default="cpu")
    return parser


def setup_of(given: argparse.Namespace) -> Setup:
    """How to measure, of what a :func:`timing_parser` read."""
    return Setup(given.device, given.repeats, given.threads, given.cpu_time)


def typed(module: str, given: argparse.Namespace) -> str:
    """The command that was typed, as pages show it."""
    return f"python -m benchmarks.{module}" + (" --cpu-time" if given.cpu_time else "")


def clock_told(facts: dict[str, Any]) -> str:
    """Which clock the figures of :meth:`Setup.describe` are of, in words."""
    return "the process's own time, beside other work" if facts["clock"] == "cpu" else "wall time"


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

    A variant is run once untimed before it is timed: what the variant before it left in the caches is not its cost;
    one that takes ``LONG`` is not. Where one round takes long, there are fewer of them, but not under ``FEWEST``.

    Args:
        runs: variants by name.
        setup: how to measure.
        least: calls are repeated until a timing takes about so many seconds.
    """
    counts, total = {}, 0.0
    for name, run in runs.items():
        for _ in range(3):
            setup.synchronize()
            begun = setup.clock()
            run()
            setup.synchronize()
            taken = setup.clock() - begun
            if taken >= LONG:
                break
        counts[name] = 0 if taken >= LONG else max(1, min(1000, math.ceil(least / max(taken, 1e-7))))
        total += taken * (counts[name] + 1)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(min(setup.repeats, max(FEWEST, int(ROUNDS / max(total, 1e-7))))):
        for name, run in runs.items():
            if counts[name]:
                run()
            setup.synchronize()
            begun = setup.clock()
            for _ in range(max(1, counts[name])):
                run()
            setup.synchronize()
            times[name].append((setup.clock() - begun) / max(1, counts[name]))
    return times


def gemm(setup: Setup) -> Callable[[], Any]:
    """One product of two square matrices of side ``GEMM``, to be timed beside the variants."""
    a, b = (torch.randn(GEMM, GEMM, device=setup.device) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def convolution(setup: Setup) -> Callable[[], Any]:
    """One 3x3 convolution as U-Nets and autoencoders have them, to be timed beside the variants."""
    last = torch.channels_last
    x = torch.randn(CONV_ROWS, CONV_CHANNELS, CONV_SIDE, CONV_SIDE, device=setup.device).to(memory_format=last)
    kernel = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 3, 3, device=setup.device).to(memory_format=last)
    return lambda: torch.conv2d(x, kernel, padding=1)


class FlopCount(TorchDispatchMode):
    """Counts the FLOPs of matrix products and convolutions, forward and backward, two a multiply-add.

    Attributes:
        total: of both.
        convolutions: of convolutions alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = self.convolutions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            found = count(*args, **kwargs, out_val=out)
            self.total += found
            self.convolutions += found if "convolution" in func.__name__ else 0
        return out


class BareCalls(TorchDispatchMode):
    """Records the matrix products and convolutions of what runs under it, and calls them again with nothing between.

    Weights are those of the model, so that they have to come out of memory as they do in earnest; for everything else a
    tensor of the same shape and strides stands in, one for all calls that want such a one.

    Args:
        model: whose weights are kept.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self._spare: dict[tuple[Any, ...], torch.Tensor] = {}
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._overloadpacket in flop_registry and "attention" not in func.__name__:
            self.calls.append((func, tuple(self._stand_in(value) for value in args), kwargs))
        return func(*args, **kwargs)

    def _stand_in(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.untyped_storage().data_ptr() in self._weights:
            return value
        key = (tuple(value.shape), value.stride(), value.dtype)
        if key not in self._spare:
            size = 1 + sum((n - 1) * stride for n, stride in zip(value.shape, value.stride(), strict=True))
            flat = torch.zeros(max(size, 1), dtype=value.dtype, device=value.device)
            self._spare[key] = flat.as_strided(value.shape, value.stride())
        return self._spare[key]

    def replay(self) -> None:
        """All calls again, in their order."""
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def resident() -> int | None:
    """Bytes of this process that lie in memory; None where the system does not tell."""
    return _status("VmRSS")


def peak_memory(run: Callable[[], Any], device: str) -> int | None:
    """Bytes at the peak of a call: of this process; on a GPU, of torch's allocator. None where they cannot be told."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return None
    run()
    return _status("VmHWM")


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    if not path.is_file():
        return None
    found = [line for line in path.read_text().splitlines() if line.startswith(name)]
    return int(found[0].split()[1]) * 1024 if found else None


def flops(run: Callable[[], Any]) -> int:
    """FLOPs of matrix products and convolutions in one eager call."""
    with FlopCount() as counted:
        run()
    return counted.total


def profile(run: Callable[[], Any]) -> dict[str, float]:
    """Of one eager call on the CPU: the operations it dispatches, and where their time goes.

    Returns:
        ``ops``, and of the operations' own time ``matmul_share`` and ``conv_share``.
    """
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        run()
    events: list[Any] = [event for event in profiled.key_averages() if event.key.startswith("aten::")]
    total = sum(event.self_cpu_time_total for event in events)

    def share(names: tuple[str, ...]) -> float:
        return round(sum(event.self_cpu_time_total for event in events if event.key in names) / max(total, 1e-9), 3)

    ops = sum(event.count for event in events)
    return {"ops": ops, "matmul_share": share(MATMULS), "conv_share": share(CONVOLUTIONS)}


def row(
    times: dict[str, list[float]],
    name: str,
    *,
    work: str,
    config: str,
    flop: int = 0,
    conv_flop: int = 0,
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
        conv_flop: those among them that are convolutions', where ``"conv"`` is in ``times``.
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
        floor = (flop - conv_flop) / rate
        made["gflop"] = digits(flop / 1e9)
        made["gflops_machine"] = digits(rate / 1e9)
        if conv_flop:
            conv_rate = 18 * CONV_ROWS * (CONV_CHANNELS * CONV_SIDE) ** 2 / statistics.median(times["conv"])
            floor += conv_flop / conv_rate
            made["gflops_machine_conv"] = digits(conv_rate / 1e9)
        made["floor_ms"] = digits(floor * 1e3)
        made["gap"] = digits(statistics.median(mine) / floor)
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
