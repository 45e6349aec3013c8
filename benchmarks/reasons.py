"""Why a goal is missed, one sentence each, with the figure that shows it; printed only where a goal is missed."""

from fnmatch import fnmatch
from typing import Any

REASONS: list[tuple[str, str, str, str, str]] = [
    (
        "overhead",
        "one step, B=1024",
        "*",
        "sb3",
        "SB3 wants a fresh dict of infos for every row: making 1024 of them takes 41-50 us of these {us:.0f} us.",
    ),
    (
        "overhead",
        "*",
        "*",
        "sb3",
        "As for gymnasium, and SB3's fresh dict of infos for every row: 2.6 us at B=64.",
    ),
    (
        "overhead",
        "*",
        "*",
        "gymnasium",
        "At B=1 `simulator.step` takes 35 us where the model takes 25 (two fresh flag tensors 2.5, no_grad 1.5, a "
        "copy of the view 1.2), reading the action 1.4, writing arrays 3 to 5.5, and the policy's own conversions 1.7. "
        "After these figures came the clipping of actions and a look for NaN at actions and rewards in every adapter, "
        "and the flags, the view and no_grad cost less; measured in turns with the tree before them: x0.95 to 1.05 in "
        "all nine cells, within the noise; simulator and `imagine` are level.",
    ),
    (
        "overhead",
        "*",
        "*",
        "imagine_compiled",
        "The compiled graph's generated Python wrapper takes about 9 us a step, as the row with the C++ wrapper shows; "
        "that wrapper meets the goal, and compiles for several times as long.",
    ),
    (
        "overhead",
        "*",
        "*",
        "torchrl",
        "More than half is TorchRL's: at B=64 a step of `EnvBase.rollout` takes 189 us, of which our `_step` is 82 and "
        "the simulator in it 57; the rest is `step`, `step_mdp`, the policy's module and the stacking.",
    ),
    (
        "observe",
        "*forward",
        "small",
        "ours",
        "Eager dispatch: {ops} operations, views included, and {matmul_share:.0%} of their time in matrix products; "
        "against a compiled scan that fuses the rest. Training, the pass that this is for, is ahead.",
    ),
    (
        "observe",
        "*forward",
        "12M",
        "ours",
        "{matmul_share:.0%} of the time is matrix products of 16 rows, which stream their weights; the rest is "
        "elementwise work that the compiled scan fuses. Training, the pass that this is for, is ahead.",
    ),
    (
        "imagination",
        "*B=1024",
        "*",
        "ours",
        "{matmul_share:.0%} of the time is matrix products, as in TorchRL's; the two differ by less than the runs "
        "do. Compiled, ours is ahead.",
    ),
    (
        "sampling",
        "sample",
        "*",
        "ours",
        "The indices take 21 us in a loop of their own; the rest is what every sampler pays to TorchRL's buffer: 116 "
        "us to gather 11 entries and about 170 us in `TensorDictReplayBuffer.sample`. A sampler that cost nothing "
        "would be at about x0.12.",
    ),
    (
        "steps",
        "*B=1024",
        "*",
        "*",
        "Which cells miss differs from run to run: the plain loop against itself came out at x0.95 to x1.13. Measured "
        "again in 6 to 8 repeats, PlaNet and DreamerV3 were at x0.96 to x1.03 through simulator and adapters, and at "
        "x1.08 to x1.10 as `imagine`.",
    ),
    (
        "steps",
        "*B=1",
        "*",
        "*",
        "At B=1 the simulator adds up to 60 us to a step and an adapter 75 to 125 us (330 to 410 with EfficientZero's "
        "large state) on a busy machine. Measured again in 12 to 30 repeats: gymnasium x1.11 to x1.33, sb3 x1.18 to "
        "x1.32, imagine x0.97 to x1.16, and the plain loop x0.95 to x1.03 of itself.",
    ),
    (
        "updates",
        "update*",
        "size5",
        "ours",
        "66% of the time is matrix products, most of them five heads' batched ones of 768x512x512, which run below the "
        "rate of one of 2048; 13% is Mish and its backward pass, 4% the dropout of the heads. The shortest of four "
        "further runs: gap 1.62.",
    ),
    (
        "dream",
        "Diamond, B=64",
        "*",
        "dream",
        "Rows are denoised eight at a time, as at B=16, and for the same reasons: convolutions called bare take 1.05 "
        "of the floor there.",
    ),
    (
        "dream",
        "Diamond, *",
        "*",
        "dream",
        "{conv_share:.0%} of the operations' time is convolutions. They alone, called bare with the same weights, take "
        "1.21 of the floor at B=1 and 1.05 at B=16; of what comes on top, normalisation under the condition and SiLU "
        "take a tenth of a convolution's time, the rest is concatenating skips, adding and doubling.",
    ),
    (
        "dream",
        "IRIS, B=64",
        "*",
        "dream",
        "Of decoding, two thirds of the time are convolutions, at the floor's rate, and a quarter group norms, SiLU "
        "and additions; besides, each of a step's 17 tokens reads the keys and values of all rows, up to 425 MB.",
    ),
    (
        "dream",
        "IRIS, *",
        "*",
        "dream",
        "{ops} operations in two steps; {conv_share:.0%} of their time is convolutions and {matmul_share:.0%} matrix "
        "products, which at B=1 stream 34 MB of weights for every one of a step's 17 tokens: for them, the floor that "
        "counts is reading memory.",
    ),
]
"""Section, work, config, variant (patterns), and the sentence; the first that fits is printed."""


def reason(section: str, row: dict[str, Any]) -> str:
    """The sentence for a missed goal, filled with the row's own figures.

    Args:
        section: of the report.
        row: the row, see ``measuring.row``.
    """
    found = {"ops": "?", "matmul_share": 0.0, "conv_share": 0.0, **row.get("profile", {})}
    for where, work, config, variant, sentence in REASONS:
        patterns = ((section, where), (row["work"], work), (row["config"], config), (row["variant"], variant))
        if all(fnmatch(value, pattern) for value, pattern in patterns):
            return sentence.format(us=row["ms"] * 1e3, **row, **found)
    return "Not explained yet."
