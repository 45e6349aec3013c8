"""Whether the numbers themselves can be right."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import OneHot, TensorSpec

from wmcomponents.codecs.observation import ImageCodec, VectorCodec
from wmcomponents.data.doctor.finding import Finding
from wmcomponents.data.doctor.record import Record

WIDE = 1e4
"""A number that spreads further than this is in a unit that no network likes."""
SENTINEL = 500.0
"""A lone reward beyond this is likelier a mark, such as -999, than the reward of a goal."""
LARGE, SMALL = 1e3, 1e-3
"""Rewards beyond these want another unit."""


def finite(record: Record) -> Iterator[Finding]:
    """NaN and infinity."""
    for name, value in _entries(record):
        if not value.is_floating_point():
            continue
        wrong = ~value.isfinite().reshape(len(value), -1).all(1)
        if int(wrong.sum()):
            first = int(wrong.nonzero()[0, 0])
            yield Finding(
                "not finite",
                name,
                f"{name} holds NaN or infinity in {int(wrong.sum()):,} of {len(wrong):,} steps, first in step {first}.",
                "Cut the episodes there, or fill in what the sensor missed; training stops at the first of them.",
                {"steps": int(wrong.sum()), "first": first},
            )


def constant(record: Record) -> Iterator[Finding]:
    """Entries that never change."""
    for key in (*record.keys, "action"):
        flat = cast(Tensor, record.steps[key])
        flat = flat.reshape(len(flat), -1)
        still = (flat == flat[:1]).all(0)
        if bool(still.all()):
            yield Finding(
                "constant",
                key,
                f"{key} never changes in {len(flat):,} steps.",
                "Leave it out, or find out why it was not recorded."
                if key != "action"
                else "Nothing can be learned of what actions do if they do not differ: record them, or act at random.",
            )
        elif bool(still.any()) and flat.is_floating_point() and _is_vector(record, key):
            where = still.nonzero()[:, 0].tolist()
            yield Finding(
                "constant",
                key,
                f"{len(where)} of the {len(still)} numbers of {key} never change (the first is number {where[0]}).",
                "Leave them out, or find out why they were not recorded.",
                {"numbers": where[:20]},
            )


def frozen(record: Record) -> Iterator[Finding]:
    """Observations that stand still most of the time: a sensor slower than the steps."""
    inside = record.inside
    if int(inside.sum()) < 50:
        return
    for key in record.keys:
        value = cast(Tensor, record.steps[key])
        if not value.is_floating_point() or not _is_vector(record, key):
            continue
        after = cast(Tensor, record.steps["next", key])
        same = (value == after).reshape(len(value), -1).all(1)[inside]
        varies = bool((value != value[:1]).any())
        if varies and float(same.double().mean()) > 0.4:
            yield Finding(
                "frozen",
                key,
                f"{key} is the same before and after {100 * float(same.double().mean()):.0f} % of the steps.",
                "The sensor is slower than the steps: keep every so many-th step, and hold or sum what lies between.",
            )


def ranges(record: Record) -> Iterator[Finding]:
    """Numbers outside of what their kind, or their spec, allows."""
    for key in record.keys:
        value, kind = cast(Tensor, record.steps[key]), record.kinds[key]
        if isinstance(kind, ImageCodec):
            yield from _image_range(key, value)
        elif value.is_floating_point() and isinstance(kind, VectorCodec):
            yield from _vector_range(key, value)
        if record.observation_spec is not None and not isinstance(kind, ImageCodec):
            yield from _outside(key, value, cast(TensorSpec, record.observation_spec[key]))
    if record.action_spec is None:
        return
    action = cast(Tensor, record.steps["action"])
    if isinstance(record.action_spec, OneHot):
        wrong = int((action.reshape(len(action), -1).sum(1) != 1).sum())
        if wrong:
            yield Finding(
                "range",
                "action",
                f"In {wrong:,} of {len(action):,} steps the action is no choice: not exactly one entry is 1.",
                "Store choices as numbers from 0, or as vectors with a single 1.",
            )
    else:
        yield from _outside("action", action, record.action_spec)


def rewards(record: Record) -> Iterator[Finding]:
    """Rewards in a unit that nothing can be learned in, or none at all."""
    reward = cast(Tensor, record.steps["next", "reward"]).reshape(-1).double()
    reward = reward[reward.isfinite()]
    if not len(reward):
        return
    size = float(reward.abs().max())
    if size == 0.0:
        yield Finding(
            "reward scale",
            "next/reward",
            f"The reward is 0 in all {len(reward):,} steps.",
            "Without any reward a model of it cannot be learned: record it, collect until some comes, or dream with "
            "reward=.",
        )
        return
    some = reward[reward != 0].abs()
    middle = float(some.median())
    rare = reward.abs() > 100.0 * middle
    if 0 < int(rare.sum()) < 0.01 * len(reward) and size > SENTINEL:
        yield Finding(
            "reward scale",
            "next/reward",
            f"{int(rare.sum())} rewards are more than a hundred times the usual size ({size:.4g} beside {middle:.3g}).",
            "If they mark what is missing (such as -9999), cut them; otherwise clip rewards.",
            {"largest": size, "median": middle},
        )
    elif size > LARGE or size < SMALL:
        word = "large" if size > LARGE else "small"
        yield Finding(
            "reward scale",
            "next/reward",
            f"Rewards are very {word}: {middle:.3g} where there is one, {size:.3g} at most.",
            f"Divide them by {middle:.1g}, or say in which unit they are.",
            {"largest": size, "median": middle},
        )


def _image_range(key: str, value: Tensor) -> Iterator[Finding]:
    top, low = float(value.max()), float(value.min())
    if value.dtype == torch.uint8 and 0 < top <= 1:
        yield Finding(
            "range",
            key,
            f"{key} are images of bytes that go from {low:g} to {top:g}: as good as black.",
            "They were in [0, 1] and lost their digits: multiply by 255 before they become bytes.",
        )
    elif value.is_floating_point() and (low < -1e-6 or top > 255.0):
        yield Finding(
            "range",
            key,
            f"{key} are images that go from {low:.3g} to {top:.3g}.",
            "Store images as bytes from 0 to 255; half the memory of anything else, and no doubt about the range.",
        )


def _vector_range(key: str, value: Tensor) -> Iterator[Finding]:
    flat = value.reshape(len(value), -1).double()
    flat = torch.where(flat.isfinite(), flat, 0.0)
    spread = flat.std(0)
    if float(spread.max()) > WIDE:
        worst = int(spread.argmax())
        yield Finding(
            "range",
            key,
            f"Number {worst} of {key} spreads over {float(spread[worst]):.3g}.",
            "Bring it into a unit of order one: divide, or take its logarithm.",
            {"number": worst, "spread": float(spread[worst])},
        )


def _outside(name: str, value: Tensor, spec: TensorSpec) -> Iterator[Finding]:
    space = cast(Any, spec.space)
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None or not value.is_floating_point():
        return
    room = 1e-4 * (high - low).abs().clamp(1e-3, 1e3)
    wrong = ((value < low - room) | (value > high + room)).reshape(len(value), -1).any(1)
    if int(wrong.sum()):
        yield Finding(
            "range",
            name,
            f"In {int(wrong.sum()):,} of {len(wrong):,} steps {name} lies outside of its box, as far as "
            f"{float((value - torch.maximum(torch.minimum(value, high), low)).abs().max()):.3g} from it.",
            "Clip it, or give its true bounds: a model that squashes its actions, or an environment that clips them, "
            "makes others of them.",
            {"steps": int(wrong.sum())},
        )


def _is_vector(record: Record, key: str) -> bool:
    return key == "action" or isinstance(record.kinds[key], VectorCodec)


def _entries(record: Record) -> Iterator[tuple[str, Tensor]]:
    for key in (*record.keys, "action"):
        yield key, cast(Tensor, record.steps[key])
    for key in (*record.keys, "reward"):
        yield f"next/{key}", cast(Tensor, record.steps["next", key])
