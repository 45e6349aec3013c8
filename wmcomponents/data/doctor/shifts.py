"""Whether the actions stand at the steps that they caused."""

from collections.abc import Iterator

import torch

from wmcomponents.data.doctor.finding import Finding
from wmcomponents.data.doctor.record import Record
from wmcomponents.data.doctor.regression import bent, explained

SHIFTS = (-1, 0, 1)
FEWEST = 200
"""Transitions that an inverse model is fitted to at least."""
CLEAR, MARGIN = 0.04, 1.4
"""What a shift must explain more than the observations alone do, and how many times as much as no shift."""


def shifted_actions(record: Record) -> Iterator[Finding]:
    """An inverse model at each shift: which action is told best by the change from x_t to x_{t+1}?

    What the two observations tell of an action one by one does not count: a policy that looks at x_{t+1} makes the next
    action easy to tell, and a velocity in x_t the last one.

    Args:
        record: the steps.
    """
    gains = action_gains(record)
    if not gains:
        return
    best = max(gains, key=lambda shift: gains[shift])
    if best == 0 or gains[best] < CLEAR or gains[best] < MARGIN * gains[0] + 0.02:
        return
    late, back = ("later", "back") if best > 0 else ("earlier", "forward")
    yield Finding(
        "shifted actions",
        "action",
        f"The change from one observation to the next tells the action stored one step {late} ({_percent(gains[best])} "
        f"of it, beyond what the observations tell one by one), not the action stored with it "
        f"({_percent(gains[0])}).",
        f"Actions are shifted by one: the action at index t is to be the one taken in observation t. Move each action "
        f"one step {back} within its episode (the one without a place is dropped) and import again. If the world "
        f"itself answers a step late (its observations show no velocities), leave it.",
        {str(shift): round(gain, 4) for shift, gain in gains.items()},
    )


def action_gains(record: Record) -> dict[int, float]:
    """What the change explains of the action at each shift, beyond either observation alone; empty if unknowable."""
    if "gains" not in record.notes:
        record.notes["gains"] = _gains(record.few())
    return record.notes["gains"]


def _gains(record: Record) -> dict[int, float]:
    here, after = record.numbers()
    actions = torch.nan_to_num(record.actions(), 0.0, 0.0, 0.0)
    # Three steps of one episode: the one before, this one, the one after.
    inside = record.inside
    chosen = torch.zeros_like(inside)
    chosen[1:-1] = inside[:-2] & inside[1:-1]
    index = chosen.nonzero()[:, 0]
    if len(index) < FEWEST or not here.shape[1] or float(actions.std(0).max()) < 1e-9:
        return {}
    before, later = here[index], after[index]
    change = later - before
    spread = change.std(0)
    change = change / torch.where(spread > 1e-9, spread, 1.0)
    together = bent(torch.cat([before, change], 1))
    if record.shows_places:
        motion = record.motion()[index]
        scale = motion.std(0)
        together = torch.cat([together, (motion / scale)[:, scale > 1e-6]], 1)
    caused = [actions[index + shift] for shift in SHIFTS]
    both, one, other = (explained(features, caused) for features in (together, bent(before), bent(later)))
    return {shift: both[i] - max(one[i], other[i]) for i, shift in enumerate(SHIFTS)}


def _percent(share: float) -> str:
    return f"{100 * max(share, 0.0):.0f} %"
