"""Whether episodes begin and end where the steps say so."""

from collections.abc import Iterator

import torch
from torch import Tensor

from wmcomponents.data.doctor.finding import Finding
from wmcomponents.data.doctor.record import Record
from wmcomponents.data.doctor.regression import bent, predicted

FEWEST = 3
"""Cases that make a pattern."""
FAR, UNUSUAL = 0.15, 5.0
"""A jump misses its prediction by such a share of what two observations lie apart, and by so many times the median."""
NEAR = 0.25
"""An episode has begun where a jump lands closer to the first observations, by squares, than this share of it."""
NEAR_OF_PLACES = 0.03
"""The same of pictures and boards, most of which never changes."""
SOON = 10
"""Steps after a beginning in which a world may be as it began."""
STARTS = 40
"""First observations that are looked for."""


def flags(record: Record) -> Iterator[Finding]:
    """Flags that contradict each other."""
    done, ended = record.flag("next", "done"), record.flag("next", "terminated") | record.flag("next", "truncated")
    wrong = int((done != ended).sum())
    if wrong:
        yield Finding(
            "flags",
            "next/done",
            f"In {wrong:,} steps done is not 'terminated or truncated'.",
            "Store done as terminated | truncated.",
            {"steps": wrong},
        )
    begins, follows = record.flag("is_init"), record.goes_on
    unended = int((follows[:-1] & begins[1:] & ~done[:-1]).sum())
    unbegun = int((follows[:-1] & ~begins[1:] & done[:-1]).sum())
    first = torch.ones_like(begins)
    first[1:] = record.streams[1:] != record.streams[:-1]
    unopened = int((first & ~begins).sum())
    for count, says in (
        (unended, "episodes begin though the one before has not ended"),
        (unbegun, "episodes end and the next step is not marked as a beginning"),
        (unopened, "streams begin in the middle of an episode, which is not marked"),
    ):
        if count:
            yield Finding(
                "flags",
                "is_init",
                f"{count:,} {says}.",
                "Mark the first step of every episode by is_init, and the last by terminated (the world ended) or "
                "truncated (it was cut).",
                {"cases": count},
            )


def chain(record: Record) -> Iterator[Finding]:
    """The observation after a step is the one before the next, within an episode."""
    inside = record.inside.nonzero()[:, 0]
    for key in record.keys:
        if not len(inside):
            return
        differs = _differ(record.steps["next", key][inside], record.steps[key][inside + 1])
        if int(differs.sum()):
            yield Finding(
                "chain",
                key,
                f"In {int(differs.sum()):,} of {len(inside):,} steps inside episodes, {key!r} after the step is not "
                f"what the next step has.",
                "Either an episode ends there that is not marked, or the observations after a step are of another one: "
                "they are to be those of the next one.",
                {"steps": int(differs.sum())},
            )


def leaked(record: Record) -> Iterator[Finding]:
    """The last observation of an episode is its own, not the first of the next."""
    done = record.flag("next", "done")
    ends = (done & record.goes_on).nonzero()[:, 0]
    inside = record.inside.nonzero()[:, 0]
    if len(ends) < FEWEST or not len(inside):
        return
    same = torch.ones(len(ends), dtype=torch.bool)
    still = torch.ones(len(inside), dtype=torch.bool)
    for key in record.keys:
        here, after = record.steps[key], record.steps["next", key]
        same &= ~_differ(after[ends], here[ends + 1])
        still &= ~_differ(after[inside], here[inside])
    share, usual = float(same.double().mean()), float(still.double().mean())
    if share > 0.5 and share > 2.0 * usual:
        yield Finding(
            "leaked reset",
            "next",
            f"In {int(same.sum())} of {len(ends)} ends the observation after the last step is the first of the next "
            f"episode: the environment had been reset already.",
            "Record the last observation before the reset (Gymnasium: info['final_obs'] under autoreset); if it is "
            "lost, drop the last step of each episode.",
            {"ends": len(ends), "leaked": int(same.sum())},
        )


def jumps(record: Record) -> Iterator[Finding]:
    """Steps inside episodes that only a reset explains: ends that were not marked, or marked a step off.

    A step jumps if it misses what a small forward model expects by far more than is usual. Walls and goals make jumps
    too; a reset is one that leads where episodes begin, or comes as regularly as a time limit.

    Args:
        record: the steps.
    """
    record = record.few()
    here, after = record.numbers()
    inside, begins = record.inside, record.flag("is_init")
    if not here.shape[1] or int(inside.sum()) < 100:
        return
    ended = record.flag("next", "done") & record.goes_on
    apart = 2.0 * here.var(0).sum()
    miss = (_missed(here, after, record.actions(), inside) / apart).sqrt()
    far = inside & (miss > FAR) & (miss > UNUSUAL * miss[inside].median())
    off = _off_by_one(record, here, far, begins, ended)
    if off is not None:
        yield off
        return
    lands = (after - here[begins].median(0).values).square().sum(1) < (
        NEAR_OF_PLACES if record.shows_places else NEAR
    ) * apart
    again = _on_a_start(record, begins, inside)
    if int(again.sum()) < 0.25 * int(begins.sum()):
        again = torch.zeros_like(again)  # a world that comes back to where it began, now and then
    found = ((far & lands) | again).nonzero()[:, 0]
    enough = len(found) >= FEWEST or (len(found) == FEWEST - 1 and _is_regular(found))
    # Pieces on a board move by a clock of their own.
    if not enough and not record.shows_places and int(far.sum()) >= FEWEST and _is_regular(far.nonzero()[:, 0]):
        found, enough = far.nonzero()[:, 0], True
    if enough:
        yield Finding(
            "boundaries",
            "is_init",
            f"{len(found)} steps inside episodes jump as only a reset does (the first at step {int(found[0])}): ends "
            f"that are not marked.",
            "Mark the step before each of them as terminated or truncated, and the step after it by is_init; readers "
            "of wmc data import do so where the source tells ends.",
            {"jumps": len(found), "first": [int(step) for step in found[:10]]},
        )


def _off_by_one(record: Record, here: Tensor, far: Tensor, begins: Tensor, ended: Tensor) -> Finding | None:
    """Marks that stand one step beside the resets: first observations resemble each other more than any others do."""
    first, last = begins.nonzero()[:, 0], ended.nonzero()[:, 0]
    if len(last) <= FEWEST:
        return None
    second = (first + 1)[first + 1 < len(begins)]
    places = {"last": last, "first": first, "second": second}
    spread = {name: float(here[where].var(0, correction=0).sum()) for name, where in places.items()}
    kinds = {name: _kinds(record, where) for name, where in places.items()}
    jumps = int((far & _moved(ended, -1)).sum())
    late = jumps > 0.5 * len(last) and not record.shows_places
    late = late or spread["last"] < 0.6 * spread["first"] or kinds["last"] < 0.7 * kinds["first"]
    early = spread["second"] < 0.5 * spread["first"] or kinds["second"] < 0.7 * kinds["first"]
    if not late and not early:
        return None
    word, fix = ("late", "earlier") if late else ("early", "later")
    return Finding(
        "boundaries",
        "is_init",
        f"The {len(first)} beginnings are marked one step too {word}: what stands one step "
        f"{'before' if late else 'after'} them is alike in all episodes, as the observations after a reset are.",
        f"Mark ends and beginnings one step {fix}.",
        {"episodes": len(first), "spread": {name: round(value, 4) for name, value in spread.items()}},
    )


def _kinds(record: Record, where: Tensor) -> float:
    """How many different observations stand at these places, as so many equally frequent ones, over all places."""
    flat = torch.cat([record.steps[key][where].reshape(len(where), -1).double() for key in record.keys], 1)
    _, counts = torch.unique(torch.nan_to_num(flat), dim=0, return_counts=True)
    shares = counts.double() / len(where)
    return float(torch.special.entr(shares).sum().exp()) / len(where)


def _on_a_start(record: Record, begins: Tensor, inside: Tensor) -> Tensor:
    """Steps that end, to the last bit, in a first observation, by a large change: bool ``[N]``.

    Whoever walks back to where it began changes as much as in any step; and soon after a beginning little has changed.
    """
    count = len(begins)
    since = torch.arange(count) - torch.where(begins, torch.arange(count), 0).cummax(0).values
    change = torch.zeros(count, dtype=torch.float64)
    for key in record.keys:
        differs = record.steps["next", key] != record.steps[key]
        change += differs.reshape(count, -1).double().sum(1)
    large = change > 1.4 * change[inside & (change > 0)].median().nan_to_num(0.0)
    equal = torch.zeros_like(begins)
    for start in begins.nonzero()[:STARTS, 0].tolist():
        same = torch.ones_like(begins)
        for key in record.keys:
            same &= ~_differ(record.steps["next", key], record.steps[key][start].expand_as(record.steps[key]))
        equal |= same
    return inside & equal & large & (since > SOON)


def _is_regular(places: Tensor) -> bool:
    """Whether steps come as regularly as a time limit, from the first step on: gaps are multiples of one of them."""
    if len(places) < FEWEST - 1:
        return False
    gaps = torch.cat([torch.tensor([-1]), places]).diff()
    gap = int(gaps.mode().values)
    return gap > 20 and float(((gaps % gap) == 0).double().mean()) > 0.7


def _missed(here: Tensor, after: Tensor, actions: Tensor, known: Tensor) -> Tensor:
    """By how much each step misses its prediction, as a squared distance, ``[N]``."""
    features = bent(torch.cat([here, torch.nan_to_num(actions, 0.0, 0.0, 0.0)], 1))
    change = after - here
    # Fitted again without the outliers of the first fit: some jumps must not bend what they are measured by.
    left_out = ~known
    miss = torch.zeros(len(here), dtype=torch.float64)
    for _ in range(3):
        miss = (predicted(features, change, left_out, 1e-4) - change).square().sum(1)
        left_out = ~known | (miss > 30.0 * miss[known].median())
    return miss


def _moved(mask: Tensor, by: int) -> Tensor:
    """The mask, each entry some places earlier or later; nothing comes round."""
    moved = torch.zeros_like(mask)
    if by < 0:
        moved[:by] = mask[-by:]
    else:
        moved[by:] = mask[:-by]
    return moved


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """Which rows differ, bool ``[N]``; NaN is like NaN."""
    differs = first != second
    if first.is_floating_point():
        differs &= ~(first.isnan() & second.isnan())
    return differs.reshape(len(first), -1).any(1)
