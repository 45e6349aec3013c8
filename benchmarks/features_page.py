"""The page of worlds of features in two rooms."""

from typing import Any

from benchmarks.features_worlds import (
    BATCH,
    EPISODE,
    EPISODES,
    FEWER,
    IMAGE_SIZE,
    LENGTH,
    LONG,
    MAX_STEPS,
    REPEAT,
    SIZES,
    STEPS,
    WORLDS,
    Plans,
)
from wmcomponents.data.two_rooms import BY_DOOR, DOOR, DOT, PUBLISHED_DOOR


def told_of(plans: Plans) -> str:
    """Of a planner, in words."""
    tried = f"{plans.candidates} sequences of {plans.horizon} moves"
    tried = tried if plans.iterations == 1 else f"{plans.iterations} iterations of {tried}"
    return f"{tried}, {plans.executed} executed"


def page(facts: dict[str, Any]) -> str:
    """The page that the numbers give."""
    lines = [
        "# Worlds of features in two rooms",
        "",
        "A dot, two rooms, a wall with a door that stand elsewhere in every episode, and the picture of a goal in the",
        f"other room. Worlds of features learn from {STEPS:,} steps of random walks (or as many as are named), without",
        f"rewards; then a planner looks for the goals of {EPISODES} unseen rooms, at most {MAX_STEPS} steps each.",
        "",
        "| world | seed | updates | reached | 95 % interval | steps | missed by | dot, wall, door | near over far "
        "| rank | deviation | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in facts["runs"]:
        low, high = one["interval"]
        steps = "" if one["mean_length_reached"] is None else f"{one['mean_length_reached']:.0f}"
        row = [
            facts["worlds"].get(one["name"], one["name"]),
            one["seed"],
            f"{one['updates']:,}" if "updates" in one else "",
            f"{one['rate']:.0%}",
            f"{low:.0%} to {high:.0%}",
        ]
        row += [steps, f"{one['mean_distance']:.0f}"]
        if "rank" in one:
            r2 = ", ".join(f"{one[key]:.2f}" for key in ("r2_dot", "r2_wall", "r2_door"))
            row += [
                r2,
                f"{one['near_over_far']:.2f}" if "near_over_far" in one else "",
                f"{one['rank']:.1f}",
                f"{one['std']:.2f}",
                f"{one['cpu_seconds'] + one['planning_cpu_seconds']:.0f}",
            ]
        else:
            row += [""] * 5
        lines.append(f"| {' | '.join(map(str, row))} |")
    if any(one["name"] == "dino-wm" for one in facts["runs"]):
        lines += [
            "",
            "From DINO-WM's patches a linear map reads where the dot, the wall and the door are, and planning fails: a",
            "dot that moves within a patch changes its features as much as one that moves to another patch, so that",
            "distances do not tell near from far.",
        ]
    if any(one["name"].startswith("jepa-64-slow") for one in facts["runs"]):
        weights = " or ".join(f"{WORLDS[name].changes['similarity']:g}" for name in WORLDS if "slow" in name)
        lines += [
            "",
            f"Slow features: temporal similarity is weighed by {weights} in place of {SIZES['similarity']:g}.",
            "What does not move, walls and doors, is told then, and distances of features tell near from far. A fourth",
            "stack of convolutions sees the whole image, and half of the walks begin by doors, through which few lead",
            "otherwise.",
        ]
    lines += [
        "",
        "Seen move by move, where doors are wide and images have 32 pixels: most of the goals that are missed lie",
        "behind a door far to the side. The way there leads away from the goal first, and the dot goes up and down",
        "along the wall where the goal is nearest.",
    ]
    if facts["agents"]:
        lines += ["", "## An agent that learned in a dream alone", ""]
        lines += [
            "Stable-Baselines3's PPO, paid by `GoalReward` in a world's dreams, in the same real rooms",
            "(`python -m benchmarks.features_agent --world NAME`). Its dreams begin in 40,000 further real steps of",
            "random walks, which show their goals; their rewards are not read.",
        ]
        head = ["agent", "world", "seed", "dreamed steps", "reached", "95 % interval", "CPU s"]
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for one in facts["agents"]:
        for look in one["curve"]:
            low, high = look["interval"]
            last = f"{one['cpu_seconds']:.0f}" if look is one["curve"][-1] else ""
            cells = [one["agent"], facts["worlds"][one["world"]], one["seed"], f"{look['dreamed_steps']:,}"]
            cells.append(f"{look['rate']:.0%}")
            lines.append(f"| {' | '.join(map(str, [*cells, f'{low:.0%} to {high:.0%}', last]))} |")
    lines += [
        "",
        "## How it was measured",
        "",
        f"`{facts['command']}` with torch {facts['torch']}, one thread a run, beside other work. Images have",
        f"{IMAGE_SIZE} pixels a side where nothing else is said; doors {DOOR:g}, of which the dot's middle has half,",
        f"wide ones {PUBLISHED_DOOR:g}, of which it has {PUBLISHED_DOOR - 2 * DOT:g} as in PLDM's task;",
        f"walks have {EPISODE} steps, and a move is kept with",
        f"probability {REPEAT}; they begin anywhere, or so many of them as are named within {BY_DOOR:g} pixels of a",
        "door;",
        f"updates are of {BATCH} sequences of {LENGTH} steps, presets `tiny` with the sizes that",
        "the script names. The",
        f"planner is iCEM, whose best sequence is executed: {told_of(Plans())}; in the world of",
        f"{LONG:,} updates {told_of(WORLDS['jepa-long'].plans)}; where a transformer predicts, {told_of(FEWER)}.",
        "Plans are judged by the sum of distances of features to those of the goal (means of squares); reached it is",
        "at 4.5 of 64 pixels,",
        "also the unit of what it was missed by. Dot, wall, door: R^2 of a linear map from the features to where they",
        "are, in unseen rooms; near over far: the mean distance of features where dots are within 8 pixels of each",
        "other, over that where they are 24 or more apart (1 tells nothing); rank: participation ratio of features;",
        "deviation: mean of their channels'. CPU s: of the fit and the plans, and of the walks where a run had to",
        "collect them first.",
        "",
    ]
    return "\n".join(lines)
