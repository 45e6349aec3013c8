"""Ring attention: memory of each process, and time beside plain attention, by number of processes.

Run ``python -m benchmarks.ring_attention``; with two CUDA devices or more it also measures torch's context_parallel.
"""

import argparse
import json
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.measuring import Setup
from wmcomponents.nn import (
    CachedTransformer,
    ContiguousLayout,
    RingAttention,
    SequenceMask,
    ZigzagLayout,
    dot_product_attention,
    feed_forward_blockwise_,
    sequence_parallel_,
)

OUT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
HEADS, DIM = 8, 1024
"""Of attention alone."""

LAYERS, NARROW = 2, 128
"""Of the transformer: its weights are to be small beside what it keeps of a sequence."""

CAUSAL = SequenceMask(block=1)


def in_processes(work: Callable[[], Any], count: int) -> list[Any]:
    """What forked processes of one group give, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        children = [_forked(work, rank, count, Path(folder)) for rank in range(count)]
        for child in children:
            os.waitpid(child, 0)
        return [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(count)]


def _forked(work: Callable[[], Any], rank: int, count: int, folder: Path) -> int:
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder / 'join'}", rank=rank, world_size=count)
        (folder / str(rank)).write_bytes(pickle.dumps(work()))
        os._exit(0)
    return child


def peak(make: Callable[[], Callable[[], Any]]) -> dict[str, float]:
    """MB that a step keeps for its backward pass, and that its tensors take at most, inputs included.

    Args:
        make: makes the step's inputs, and gives the step.
    """
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    cpu = torch.profiler.ProfilerActivity.CPU
    with (
        torch.profiler.profile(activities=[cpu], profile_memory=True) as profile,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
    ):
        make()()
    results: Any = profile.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    taken = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        highest = max(highest, taken)
    return {"saved_mb": sum(kept.values()) / 2**20, "peak_mb": highest / 2**20}


def attention_step(length: int, attention: Any, share: int = 1) -> Callable[[], Any]:
    """Attention forwards and backwards over this process's share of a sequence."""
    q, k, v = (torch.randn(1, HEADS, length // share, DIM // HEADS, requires_grad=True) for _ in range(3))

    def step() -> None:
        attention(q, k, v, CAUSAL).sum().backward()

    return step


def transformer_step(length: int, ring: RingAttention | None) -> Callable[[], Any]:
    """A transformer forwards and backwards over a sequence that all processes know."""
    torch.manual_seed(0)
    net = CachedTransformer(LAYERS, NARROW, HEADS)
    if ring is not None:
        sequence_parallel_(net, ring)
        feed_forward_blockwise_(net, 256)
    x = torch.randn(1, length, NARROW)

    def step() -> None:
        net(x, CAUSAL).sum().backward()

    return step


def seconds(step: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Median of some repeats, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begun = clock()
        step()
        times.append(clock() - begun)
    return statistics.median(times[1:])


def measure(length: int, counts: list[int], repeats: int) -> dict[str, Any]:
    """Plain attention and a ring of each size, of the same sequence."""
    plain = in_processes(lambda: seconds(attention_step(length, dot_product_attention), repeats, time.process_time), 1)
    rows: dict[str, Any] = {"plain": {"cpu_s": plain[0]}}
    rows["plain"] |= in_processes(lambda: peak(lambda: attention_step(length, dot_product_attention)), 1)[0]
    rows["plain"]["transformer"] = in_processes(lambda: peak(lambda: transformer_step(length, None)), 1)[0]
    for count in counts:
        row: dict[str, Any] = {}
        for layout in (ContiguousLayout(), ZigzagLayout()):
            ring = RingAttention(layout, query_chunk=256, key_chunk=256)
            cpu = in_processes(
                lambda ring=ring, count=count: seconds(attention_step(length, ring, count), repeats, time.process_time),
                count,
            )
            row[type(layout).__name__] = {"cpu_s": sum(cpu), "longest_s": max(cpu), "shortest_s": min(cpu)}
        zigzag = RingAttention(ZigzagLayout(), query_chunk=256, key_chunk=256)
        of_each = in_processes(
            lambda ring=zigzag, count=count: peak(lambda: attention_step(length, ring, count)), count
        )
        row |= {key: max(one[key] for one in of_each) for key in of_each[0]}
        of_each = in_processes(lambda ring=zigzag: peak(lambda: transformer_step(length, ring)), count)
        row["transformer"] = {key: max(one[key] for one in of_each) for key in of_each[0]}
        rows[str(count)] = row
    return rows


def beside_torch(length: int, repeats: int) -> dict[str, float] | None:
    """Seconds of ours and of torch's context_parallel on all CUDA devices; None where there are not two."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return None
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        torch.multiprocessing.spawn(_on_device, (count, length, repeats, folder), nprocs=count)
        return json.loads(results.read_text())


def _on_device(rank: int, count: int, length: int, repeats: int, folder: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.experimental import context_parallel

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/join", rank=rank, world_size=count)
    mesh = init_device_mesh("cuda", (count,))
    torch.manual_seed(0)
    whole = [torch.randn(1, HEADS, length, DIM // HEADS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    ring = RingAttention(ZigzagLayout())
    own = [x[..., ring.layout.positions(rank, count, length, "cuda"), :].clone().requires_grad_() for x in whole]

    def ours() -> None:
        ring(*own, CAUSAL).sum().backward()
        torch.cuda.synchronize()

    found = {"ours": seconds(ours, repeats, time.perf_counter)}
    with context_parallel(mesh, buffers=whole, buffer_seq_dims=[2, 2, 2]):
        leaves = [x.detach().clone().requires_grad_() for x in whole]

        def theirs() -> None:
            dot_product_attention(*leaves, CAUSAL).sum().backward()
            torch.cuda.synchronize()

        found["context_parallel"] = seconds(theirs, repeats, time.perf_counter)
    if rank == 0:
        (Path(folder) / "results").write_text(json.dumps(found))
    dist.destroy_process_group()


def page(facts: dict[str, Any]) -> str:
    """The tables that the numbers give."""
    rows, length = facts["rows"], facts["length"]
    plain = rows["plain"]
    lines = [
        "# Ring attention",
        "",
        f"One sequence of {length:,} positions, causal, {HEADS} heads of {DIM // HEADS}, float32, forth and back,",
        "on CPUs by Gloo. *Saved* is what a process keeps for its backward pass, *peak* what all its tensors take at",
        "most, inputs and gradients included, both of the process that needs most. *Time* is processor time of all",
        "processes together, so it tells what the ring adds: chunks of queries and keys in plain tensor operations,",
        "instead of torch's fused kernel, and the exchange. *Longest / shortest* is how evenly processes work whose",
        "shares are in a zigzag and in a row.",
        "",
        "| attention | saved, MB | peak, MB | time, s | / plain | / ring of 1 | longest / shortest, zigzag | a row |",
        "|---|---|---|---|---|---|---|---|",
        f"| plain, one process | {plain['saved_mb']:.1f} | {plain['peak_mb']:.0f} | {plain['cpu_s']:.2f} | 1.0 | | | |",
    ]
    for count, row in rows.items():
        if count == "plain":
            continue
        zigzag, straight = row["ZigzagLayout"], row["ContiguousLayout"]
        cells = [
            f"{row['saved_mb']:.1f}",
            f"{row['peak_mb']:.0f}",
            f"{zigzag['cpu_s']:.2f}",
            f"{zigzag['cpu_s'] / plain['cpu_s']:.1f}",
            f"{zigzag['cpu_s'] / rows['1']['ZigzagLayout']['cpu_s']:.2f}",
            *(f"{layout['longest_s'] / layout['shortest_s']:.1f}" for layout in (zigzag, straight)),
        ]
        lines.append(f"| ring of {count} | {' | '.join(cells)} |")
    lines += [
        "",
        f"A transformer of {LAYERS} layers of {NARROW} over the same sequence, feed-forwards 256 positions at a time:",
        "",
        "| transformer | saved, MB | of plain | peak, MB |",
        "|---|---|---|---|",
    ]
    whole = plain["transformer"]["saved_mb"]
    for count, row in rows.items():
        saved, top = row["transformer"]["saved_mb"], row["transformer"]["peak_mb"]
        name = "plain, one process" if count == "plain" else f"ring of {count}"
        lines.append(f"| {name} | {saved:.1f} | {saved / whole:.2f} | {top:.0f} |")
    beside = facts["context_parallel"]
    told = "torch's `context_parallel` has no CPU strategy; with two CUDA devices this measures it beside ours."
    if beside is not None:
        told = f"On CUDA: ours {beside['ours']:.4f} s, `context_parallel` {beside['context_parallel']:.4f} s."
    setup = facts["setup"]
    lines += [
        "",
        told,
        "",
        f"`{facts['command']}`: medians of {facts['repeats']} repeats, one thread a process;",
        f"{setup['machine']['cpu']}, torch {setup['machine']['torch']}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="ring attention's memory and time")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    facts = {
        "command": "python -m benchmarks.ring_attention",
        "length": given.length,
        "repeats": given.repeats,
        "setup": Setup().describe(),
        "rows": measure(given.length, given.ranks, given.repeats),
        "context_parallel": beside_torch(given.length, given.repeats),
    }
    (given.out / "ring_attention.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "ring_attention.md").write_text(page(facts))
    print(page(facts))


if __name__ == "__main__":
    main()
