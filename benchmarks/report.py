"""The measured figures as Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import openings
from benchmarks.reasons import reason

TITLES = {
    "overhead": "Overhead around a tiny model",
    "observe": "RSSM observe",
    "imagination": "Imagination",
    "update": "World-model update",
    "dreaming": "Where dreaming pays",
    "sampling": "Sequence sampling",
}

LEADS = {
    "overhead": (
        "A residual MLP on 32 numbers, stepped 15 times by a linear policy: cheap enough that everything around it "
        "shows. The figure is the time of one step of the whole batch; the ratio is to a plain torch loop of the same "
        "maths in the same run. One thread, no gradients. `imagine_compiled_cpp` is `compiled_rollout` with "
        '`options={"cpp_wrapper": True}`.'
    ),
    "observe": (
        "Filtering 16 sequences of 64 steps, with raw posterior and prior of every step, ours beside TorchRL's "
        '`RSSMRolloutV3` with the same layers (eager, and after `compile_rollout("scan")`). The ratio is to the '
        "better of TorchRL's two. Small: deter 512, 32x4 classes, width 64; 12M: deter 2048, 32x16 classes, width 256; "
        "8 blocks. Rates are filtered steps a second."
    ),
    "imagination": (
        "15 imagined steps without gradients: policy (3 layers, a squashed normal), prior and reward head, ours "
        "(`imagine`) beside a rollout of TorchRL's `DreamerEnv` with the same layers. The policy of both samples "
        "without a distribution class, which spares TorchRL's row about 0.2 ms a step. Rates are environment steps a "
        "second. At B=1 the floor that counts is reading the weights, not multiplying."
    ),
    "update": (
        "One update of the world model from 16 sequences of 64 steps with 24 numbers observed and 6 actions: loss, "
        "backward pass and optimiser (LaProp with adaptive clipping; TorchRL's `DreamerV3Optimizer`, the same rule). "
        "TorchRL's row is its `DreamerV3ModelLoss` on modules of the same layers. Ours learns from 65 arrivals, the "
        "first observation included, TorchRL's from 64. Rates are replayed steps a second."
    ),
    "dreaming": (
        "DreamerV3 dreams of CartPole with decoded observations through each adapter, random weights and constant "
        "actions, and real environments; the time is that of 20 steps, the rate environment steps a second, the ratio "
        "to the real CartPole: how many times slower. No dream beats vectorised CartPole physics at any batch. A batch "
        "of 64 rows of these models makes several times the steps of one walker or one Pong on one core, but their own "
        "dreams are larger: more numbers, or pixels to decode, and the real ones run in parallel too. So dream where "
        "real steps are scarce, slow or dangerous, in batches of 64 and more; where the real environment is a fast "
        "simulator, train on it."
    ),
    "sampling": (
        "One batch of 16 sequences of 64 steps from a buffer of 1,000,000 transitions, ours (`SequenceSampler`) beside "
        "TorchRL's `SliceSampler`: `crossing` has our semantics (sequences run over the ends of episodes), `episodes` "
        "finds episodes by `done`, its usual setting, and `ids` by a trajectory id. `index` is the sampler alone, "
        "`sample` the whole batch, `extend_sample` the same after a write of 16 steps. One thread."
    ),
}

COLUMNS = (
    ("work", "work"),
    ("config", "size"),
    ("variant", "variant"),
    ("time", "median (min-max)"),
    ("rate", "a second"),
    ("gflop", "GFLOP"),
    ("floor", "floor"),
    ("gap", "gap"),
    ("peak", "peak memory"),
    ("ratio", "ratio"),
    ("goal", "goal"),
)


HEAD = "# Speed\n\nWritten by `make bench` (`python -m benchmarks`); the same figures are in [speed.json](speed.json)."

METHOD = (
    "Every row is the median of interleaved repeats: each repeat runs every variant, so that all see the same machine. "
    "The ratio is the median over the repeats of the ratio within one repeat. The *floor* is the FLOPs of matrix "
    "products alone over the rate of `torch.mm` on 2048x2048 matrices, timed among the variants, and of convolutions, "
    "if any, over that of a 3x3 one from 64 channels to 64 on 16 images of 32x32, timed likewise; the *gap* is the "
    "median over the floor. Elementwise work is not in the FLOPs, and compiled rows have those of their eager twin."
)


def markdown(
    result: dict[str, Any],
    titles: Mapping[str, str] = TITLES,
    leads: Mapping[str, str] = LEADS,
    head: str = HEAD,
    opening: Callable[[dict[str, Any]], str] = openings.speed,
) -> str:
    """A page: what a user wants first, the tables, and how they came about last.

    Args:
        result: ``"sections"``: by name and device, ``settings`` and ``rows``.
        titles: of the sections, by name, in the order of the page.
        leads: what is said before their tables.
        head: title and source.
        opening: what stands first, from ``result``.
    """
    sections = {name: result["sections"][name] for name in titles if name in result["sections"]}
    title, _, source = head.partition("\n\n")
    parts = [title, opening(result)]
    for name, devices in sections.items():
        parts.append(f"## {titles[name]}\n\n{leads[name]}")
        for device, measured in devices.items():
            if "skipped" in measured:
                parts.append(f"On {device}: skipped, {measured['skipped']}.")
            else:
                parts.append(f"{_settings(measured['settings'])}\n\n{_table(measured['rows'])}")
    parts += [f"## How it was measured\n\n{source} {METHOD}", _summary(sections), _machine(sections)]
    return "\n\n".join(parts) + "\n"


def _summary(sections: dict[str, Any]) -> str:
    judged = [
        (name, device, row)
        for name, devices in sections.items()
        for device, measured in devices.items()
        for row in measured.get("rows", ())
        if "goal" in row
    ]
    missed = [item for item in judged if not item[2]["met"]]
    lines = [f"## Our own goals\n\n{len(judged) - len(missed)} of {len(judged)} are met."]
    if missed:
        lines.append("| missed | size | variant | figure | goal | why |\n|---|---|---|---|---|---|")
        lines[-1] += "".join(
            f"\n| {row['work']} ({device}) | {row['config']} | {row['variant']} | {_judged(row)} | {row['goal']} | "
            f"{reason(name, row)} |"
            for name, device, row in missed
        )
    return "\n\n".join(lines)


def _judged(row: dict[str, Any]) -> str:
    """The figure that a goal is for: the ratio, or the gap where there is no rival."""
    return f"x{row['ratio']}" if "ratio" in row else f"gap {row['gap']}"


def _settings(settings: dict[str, Any]) -> str:
    clock = {
        "cpu": "the process's own CPU time (other work ran on the machine)",
        "wall": "wall time",
    }[settings["clock"]]
    return (
        f"{settings['date']}, {settings['device']}, {settings['threads']} thread(s), {clock}, up to "
        f"{settings['repeats']} repeats, {settings['dtype']}, load average at the start {settings['load']}."
    )


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [_cells(row) for row in rows]
    shown = [(key, title) for key, title in COLUMNS if any(cell[key] for cell in cells)]
    lines = ["| " + " | ".join(title for _, title in shown) + " |", "|---" * len(shown) + "|"]
    lines += ["| " + " | ".join(cell[key] for key, _ in shown) + " |" for cell in cells]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    unit, scale = next((u, s) for u, s, top in (("us", 1e3, 1), ("ms", 1, 1e4), ("s", 1e-3, 1e30)) if row["ms"] < top)
    low, high = row["range"]
    goal = ""
    if "goal" in row:
        of = "" if "ratio" in row else "gap "
        goal = f"{of}at most {row['goal']}: {'met' if row['met'] else '**missed**'}"
    return {
        "work": row["work"],
        "config": row["config"],
        "variant": row["variant"],
        "time": f"{row['ms'] * scale:.4g} {unit} ({low * scale:.4g}-{high * scale:.4g})",
        "rate": f"{row['rate']:,.0f}" if "rate" in row else "",
        "gflop": f"{row['gflop']:.3g}" if "gflop" in row else "",
        "floor": f"{row['floor_ms']:.3g} ms" if "floor_ms" in row else "",
        "gap": f"{row['gap']:.3g}" if "gap" in row else "",
        "peak": f"{row['peak_mib']:,.0f} MiB" if "peak_mib" in row else "",
        "ratio": f"x{row['ratio']:.3g}" if "ratio" in row else "",
        "goal": goal,
    }


def _machine(sections: dict[str, Any]) -> str:
    seen: list[dict[str, Any]] = []
    for devices in sections.values():
        for measured in devices.values():
            if "settings" in measured and measured["settings"]["machine"] not in seen:
                seen.append(measured["settings"]["machine"])
    lines = []
    for machine in seen:
        allocator = ", ".join(f"`{key}` {value}" for key, value in machine["allocator"].items())
        versions = ", ".join(
            f"{key} {machine[key]}" for key in ("python", "torch", "tensordict", "torchrl", "gymnasium")
        )
        lines.append(f"- {machine['cpu']}, {machine['cores']} cores; {versions}; allocator: {allocator}.")
    return "## Machine\n\n" + "\n".join(lines)
