"""What stands at the head of a page of speed: the figure, and what a user will want to know, in numbers."""

from typing import Any


def rows_of(result: dict[str, Any], section: str) -> list[dict[str, Any]]:
    """What was measured on the CPU; nothing where it was not."""
    return result.get("sections", {}).get(section, {}).get("cpu", {}).get("rows", [])


def figure(name: str, words: str) -> str:
    """The page's drawing, which ``benchmarks.plots`` made."""
    return f"![{words}](media/{name}.svg)"


def percent(ratio: float) -> int:
    """What a ratio of times adds."""
    return round(100 * (ratio - 1))


def speed(result: dict[str, Any]) -> str:
    """Against TorchRL, around a model, and against real environments."""
    points = []
    for section, work, words in (
        ("update", "world-model update 16x64", "**Training.** A world-model update takes"),
        (
            "observe",
            "observe 16x64, forward+backward",
            "**Filtering with gradients**, the other pass of training, takes",
        ),
        ("observe", "observe 16x64, forward", "**Filtering without gradients** takes"),
        ("imagination", "imagine 15 steps, B=64", "**Imagining** 64 dreams at once takes"),
    ):
        found = [row for row in rows_of(result, section) if row["work"] == work and row["variant"] == "ours"]
        if found:
            ratios = " and ".join(f"{row['ratio']:.2f} ({row['config']})" for row in found)
            points.append(
                f"- {words} {ratios} of the time of TorchRL's parts of the same layers, the better of eager "
                "and compiled."
                if not points
                else f"- {words} {ratios} of TorchRL's time."
            )
    overhead = {(row["work"], row["variant"]): row["ratio"] for row in rows_of(result, "overhead") if "ratio" in row}
    one, many = (
        [
            overhead[f"one step, B={batch}", name]
            for name in ("gymnasium", "sb3")
            if (f"one step, B={batch}", name) in overhead
        ]
        for batch in (1, 1024)
    )
    if one and many:
        points.append(
            f"- **An adapter** makes a step of a tiny model {percent(min(one))} to {percent(max(one))} % longer for "
            f"one dream, and {percent(min(many))} to {percent(max(many))} % for 1,024 at once."
        )
    rates = {row["variant"]: row["rate"] for row in rows_of(result, "dreaming") if row["work"].endswith("B=64")}
    real, dream = rates.get("real CartPole, NumPy vectorised"), rates.get("DreamVecEnv (tiny)")
    if real and dream:
        points.append(
            f"- **Against reality.** 64 dreams of CartPole make {dream:,.0f} steps a second, 64 real CartPoles "
            f"{real:,.0f}: cheap physics is faster than any model of it ([where dreaming pays](../how-to/speed.md))."
        )
    drawn = figure("speed", "Throughput over TorchRL's, and what an adapter adds to a step")
    return "\n\n".join([drawn, "\n".join(points)])


def families(result: dict[str, Any]) -> str:
    """Steps a second by family."""
    rows = [row for row in rows_of(result, "steps") if row["variant"] == "gymnasium" and row["config"] == "tiny"]
    points = []
    for batch in (1, 64, 1024):
        rates = {row["work"].partition(",")[0]: row["rate"] for row in rows if row["work"].endswith(f"B={batch}")}
        if rates:
            slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
            at = "One dream" if batch == 1 else f"{batch:,} dreams at once"
            points.append(
                f"- {at} of a `tiny` preset: from {rates[slow]:,.0f} steps a second ({slow}) to {rates[fast]:,.0f} "
                f"({fast})."
            )
    drawn = figure("families", "Steps a second of every family's dream, tiny presets and the papers' sizes")
    return "\n\n".join(
        [f"Steps of whole dreams through `DreamVectorEnv`, on one thread of a CPU.\n\n{drawn}", "\n".join(points)]
    )


def pixel_speed(result: dict[str, Any]) -> str:
    """Frames a second by family."""
    points = []
    for row in [row for row in rows_of(result, "dream") if row["variant"] == "dream"]:
        memory = f", {row['peak_mib']:,.0f} MiB at the peak" if "peak_mib" in row else ""
        points.append(f"- {row['work']}: {row['rate']:.3g} frames a second{memory}.")
    drawn = figure("pixel_speed", "Frames a second over dreams at once")
    return "\n\n".join(
        [f"At the papers' sizes, on a CPU. A GPU is what they were made for.\n\n{drawn}", "\n".join(points)]
    )
