"""Is this tree as fast as another commit? ``python -m benchmarks.against REV`` measures both in turns, in one run."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Times = dict[str, float]
"""Milliseconds of each row, by what was measured."""


def measure(tree: Path, sections: list[str], repeats: int) -> Times:
    """The rows of our own code as one process in ``tree`` measures them.

    Args:
        tree: a checkout; what is imported is its package.
        sections: of ``python -m benchmarks``.
        repeats: interleaved repeats inside the process.

    Raises:
        subprocess.CalledProcessError: if measuring fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks", "--only", *sections, "--threads", "1"]
        command += ["--repeats", str(repeats), "--out", folder]
        here = {**os.environ, "PYTHONPATH": str(tree)}
        subprocess.run(command, cwd=tree, env=here, check=True, stdout=subprocess.DEVNULL)
        return rows(json.loads((Path(folder) / "speed.json").read_text()))


def rows(result: dict[str, Any]) -> Times:
    """The rows of ``speed.json`` on the CPU, by section, work, size and variant."""
    return {
        f"{section} | {row['work']} | {row['config']} | {row['variant']}": row["ms"]
        for section, found in result["sections"].items()
        for row in found["cpu"]["rows"]
    }


def compared(ours: list[Times], theirs: list[Times]) -> list[dict[str, Any]]:
    """For each row that both have: medians, the median ratio of the rounds, and its smallest and largest.

    Args:
        ours: of each round.
        theirs: of the same rounds.
    """
    table = []
    for name in ours[0]:
        if name not in theirs[0]:
            continue
        ratios = [new[name] / old[name] for new, old in zip(ours, theirs, strict=True)]
        table.append(
            {
                "row": name,
                "ms": statistics.median(times[name] for times in ours),
                "ms_before": statistics.median(times[name] for times in theirs),
                "ratio": round(statistics.median(ratios), 3),
                "range": [round(min(ratios), 3), round(max(ratios), 3)],
            }
        )
    return table


def markdown(table: list[dict[str, Any]]) -> str:
    """The comparison as a table."""
    lines = ["| row | now, ms | before, ms | now / before | of the rounds |", "|---|---|---|---|---|"]
    for cell in table:
        low, high = cell["range"]
        name = cell["row"].replace(" | ", ", ")
        lines.append(
            f"| {name} | {cell['ms']:.4g} | {cell['ms_before']:.4g} | {cell['ratio']:.2f} | {low:.2f} to {high:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Check out, measure in turns, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("rev", help="the commit to compare with")
    parser.add_argument("--sections", nargs="+", default=["overhead", "observe"], help="of python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats inside each turn")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), given.rev], cwd=ROOT, check=True)
        try:
            ours: list[Times] = []
            theirs: list[Times] = []
            for round_ in range(given.rounds):
                # Each goes first in every other round: what warms up or slows down in between is nobody's.
                for tree_, kept in [(ROOT, ours), (tree, theirs)][:: 1 if round_ % 2 else -1]:
                    kept.append(measure(tree_, given.sections, given.repeats))
                print(f"round {round_ + 1} of {given.rounds}", file=sys.stderr, flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    table = compared(ours, theirs)
    if given.out is not None:
        given.out.write_text(json.dumps({"before": given.rev, "rounds": given.rounds, "rows": table}, indent=1) + "\n")
    print(markdown(table))


if __name__ == "__main__":
    main()
