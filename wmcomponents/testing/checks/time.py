"""Time passes as TorchRL counts it: the state moves, a_t acts at once, ``is_init`` begins anew."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from wmcomponents.functional.broadcast import aligned
from wmcomponents.testing.checks.layout import stripped
from wmcomponents.testing.compare import difference
from wmcomponents.testing.model_probe import ROWS, Answer, ModelProbe, TestInputs, flat
from wmcomponents.testing.report import Clause, Failure

STEPS = 5


def not_frozen(probe: ModelProbe) -> Iterator[Failure]:
    """Over a few imagined steps the state changes, and so does something that can be seen of it."""
    model, generator = probe.with_nonzero_weights, probe.generator(30)
    situation = probe.situation(salt=31, model=model)
    begin, seen_first = situation, _seen(probe, situation)
    moved = visible = False
    for _ in range(STEPS):
        answer = probe.ask("imagine", situation, model)
        situation = replace(
            situation,
            state=probe.conforming(stripped(answer, "state"), situation.batch),
            action=probe.action(situation.batch, generator),
            imagine_noise=probe.noise("imagine", situation.batch, generator),
        )
        moved |= any(not torch.equal(begin.state[key], value) for key, value in situation.state.items())
        # Under the first action and noise: what differs then is the state's doing.
        seen = _seen(probe, replace(begin, state=situation.state))
        visible |= any(not torch.equal(seen_first[name], value) for name, value in seen.items())
    if not moved or not visible:
        yield Failure(
            "time/not-frozen",
            "imagine",
            f"over {STEPS} steps with new actions and noise the state and what is seen of it change somewhere",
            "every state is the first one" if not moved else f"the state changes, but {', '.join(seen_first)} do not",
            "return the new state, not the one that was given; check that the dynamics' output is used.",
        )


def action_at_once(probe: ModelProbe) -> Iterator[Failure]:
    """s_{t+1} = imagine(s_t, a_t): a_t shapes the very next step, and is not only stored for the step after."""
    fields = _fields(probe, "imagine")
    own = [name for name, field in fields.items() if bool((field.action & ~field.only_action).any())]
    stored = [name for name, field in fields.items() if bool(field.only_action.any())]
    if own or _decoded_depends(probe) or _outcome_depends(fields):
        return
    delayed = "it is only stored, in " + ", ".join(stored)
    yield Failure(
        "time/action-at-once",
        "imagine",
        "the next state, its decoded observation or the reward depends on a_t",
        delayed if stored else "nothing depends on the action",
        "act with the action of this call. Paper code that pairs x_t with a_{t-1} is shifted by one here: s_t has seen "
        "a_0..a_{t-1}, and acting with a_t leads to s_{t+1}.",
    )


def observe_action(probe: ModelProbe) -> Iterator[Failure]:
    """A filter that carries its past forward does so with the action that led here, not with an earlier one."""
    observed, imagined = _fields(probe, "observe"), _fields(probe, "imagine")
    stored = [name for name, field in observed.items() if bool(field.only_action.any())]
    used = [name for name, field in observed.items() if bool((field.action & ~field.only_action).any())]
    carried = [
        name
        for name, field in observed.items()
        if bool((field.state & ~field.action & imagined[name].action & ~imagined[name].only_action).any())
    ]
    if stored and carried and not used:
        # A window of frames and actions carries its frames without either; wrong is what reads the action of before.
        carried = [name for name in carried if name in _moved_by(probe, stored)]
    if stored and carried and not used:
        yield Failure(
            "time/observe-action",
            "observe",
            f"{', '.join(carried)}, which carries the past, uses the action given (in imagine it does)",
            f"the action is only stored, in {', '.join(stored)}",
            "observe(state, action, ...) is given a_{t-1}, the action that led to x_t: use it in this call.",
        )


def observation_matters(probe: ModelProbe) -> Iterator[Failure]:
    """The filter looks at what it is shown."""
    model = probe.with_nonzero_weights
    situation = probe.situation(salt=32, model=model)
    other = replace(situation, observation=probe.observation(situation.batch, probe.generator(33)))
    for name, given in (("within an episode", situation), ("at its start", situation.begun())):
        shown = replace(other, is_init=given.is_init)
        a, b = probe.ask("observe", given, model), probe.ask("observe", shown, model)
        if all(torch.equal(a[key], b[key]) for key in a):
            yield Failure(
                "time/observation-matters",
                f"observe, {name}",
                "two different observations lead to different states somewhere",
                f"the same states in all {ROWS} rows",
                "use the observation in observe(); it may be masked with is_init the wrong way round.",
            )


def is_init_erases(probe: ModelProbe) -> Iterator[Failure]:
    """Where ``is_init`` is true, neither the state nor the action given matters; elsewhere rows are as without it."""
    model = probe.with_nonzero_weights
    situation, past = probe.situation(salt=34, model=model), probe.situation(salt=35, model=model)
    begun = situation.begun()
    initial = model.initial_state(situation.batch, probe.device)
    nothing = probe.model.action_spec.zero(torch.Size(situation.batch)).to(probe.device)
    pasts = {
        "another state and action": replace(begun, state=past.state, action=past.action),
        "the initial state and no action": replace(begun, state=initial, action=nothing),
    }
    wanted = probe.ask("observe", begun, model)
    for name, given in pasts.items():
        text = difference(probe.ask("observe", given, model), wanted)
        if text:
            yield Failure(
                "time/is-init-erases",
                f"observe, after {name}",
                "the same state, since is_init says that an episode begins here",
                text,
                "where is_init is true, put initial_state and a zero action in place of those given.",
            )
    mask = (torch.arange(ROWS, device=probe.device) % 2 == 0).view(-1, 1)
    mixed = probe.ask("observe", replace(situation, is_init=mask), model)
    continued = probe.ask("observe", situation, model)
    expected = {name: torch.where(aligned(mask, wanted[name]), wanted[name], continued[name]) for name in wanted}
    text = difference(mixed, expected)
    if text:
        yield Failure(
            "time/is-init-erases",
            "observe, is_init true in every other row",
            "each row as if the whole batch had its flag",
            text,
            "apply is_init row by row (torch.where), never to the batch as a whole (is_init.any()).",
        )


def sequence(probe: ModelProbe) -> Iterator[Failure]:
    """``observe_sequence`` over T steps equals T calls of ``observe``, with episodes that begin in between.

    ``observe_last`` gives the last of these states.
    """
    model = probe.model
    for batch in ((3,), ()):
        time = len(batch)
        long = probe.situation((*batch, STEPS), salt=36)
        is_init = long.is_init.clone()
        is_init.select(time, 0).fill_(True)
        is_init.select(time, 2).fill_(True)
        start = probe.situation(batch, salt=37).state
        for given in (long, long.mode()):
            noise, state, steps = given.observe_noise, start, []
            with torch.no_grad():
                whole = model.observe_sequence(start, given.action, given.observation, is_init, noise)
                for t in range(STEPS):
                    one = given.map(lambda tensor, time=time, t=t: tensor.select(time, t), batch)
                    now = is_init.select(time, t)
                    state = model.observe(state, one.action, one.observation, now, one.observe_noise)
                    steps.append(state)
            single = {key: torch.stack([step[key] for step in steps], time) for key in steps[0]}
            text = difference(flat("state", whole), flat("state", single))
            if text:
                yield Failure(
                    "time/sequence",
                    f"observe_sequence, batch {batch}, {'mode' if noise is None else 'with noise'}",
                    "the states of T single observes; action[t] is the one that LED to observation t",
                    text,
                    "do not shift actions inside: the caller hands a_{t-1} at index t; reset rows where is_init[t].",
                )
            with torch.no_grad():
                last = model.observe_last(start, given.action, given.observation, is_init, noise)
            text = difference(flat("state", last), flat("state", steps[-1]))
            if text:
                yield Failure(
                    "time/sequence",
                    f"observe_last, batch {batch}, {'mode' if noise is None else 'with noise'}",
                    "the last state of T single observes",
                    text,
                    "leave observe_last() to WorldModel, or step through the whole sequence.",
                )


class _Field:
    """On what each element of an output depends, by rows in which one argument was changed."""

    def __init__(self, base: Tensor, acted: list[Tensor], others: list[Tensor], states: list[Tensor]) -> None:
        self.action = _any_row(base, acted)
        self.state = _any_row(base, states)
        self.only_action = self.action & ~_any_row(base, others)


def _fields(probe: ModelProbe, verb: str) -> dict[str, _Field]:
    """For each element of what a verb returns: does it depend on the action, on the state, on the action alone?"""
    model = probe.with_nonzero_weights
    base = probe.situation(salt=40, model=model)
    donors = [probe.situation(salt=41 + k, model=model) for k in range(3)]
    acted = [replace(base, action=donor.action) for donor in donors]
    states = [replace(base, state=donor.state) for donor in donors]
    others = [replace(donor, action=base.action) for donor in donors]
    answers = {
        name: [probe.ask(verb, given, model) for given in group]
        for name, group in (("base", [base]), ("acted", acted), ("others", others), ("states", states))
    }
    return {
        name: _Field(value, *([answer[name] for answer in answers[group]] for group in ("acted", "others", "states")))
        for name, value in answers["base"][0].items()
    }


def _moved_by(probe: ModelProbe, stored: list[str]) -> set[str]:
    """What the filter returns otherwise where nothing but these entries of the state before is another."""
    model = probe.with_nonzero_weights
    base, donor = probe.situation(salt=40, model=model), probe.situation(salt=41, model=model)
    names = zip(base.state, flat("state", base.state), strict=True)
    other = {key: (donor if name in stored else base).state[key] for key, name in names}
    first, second = (probe.ask("observe", given, model) for given in (base, replace(base, state=other)))
    return {name for name in first if not torch.equal(first[name], second[name])}


def _any_row(base: Tensor, changed: list[Tensor]) -> Tensor:
    """Which elements of one row change in any row of any of the variants."""
    return torch.stack([variant != base for variant in changed]).flatten(0, 1).any(0)


def _outcome_depends(fields: dict[str, _Field]) -> bool:
    return any(bool(fields[name].action.any()) for name in ("reward", "cont") if name in fields)


def _decoded_depends(probe: ModelProbe) -> bool:
    if "decode" not in probe.verbs:
        return False
    model = probe.with_nonzero_weights
    base = probe.situation(salt=40, model=model)
    seen: list[Answer] = []
    for given in (base, replace(base, action=probe.situation(salt=41, model=model).action)):
        after = probe.conforming(stripped(probe.ask("imagine", given, model), "state"), given.batch)
        seen.append(probe.ask("decode", replace(given, state=after), model))
    return any(not torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def _seen(probe: ModelProbe, situation: TestInputs) -> Answer:
    """What can be seen of a state: decoded, as features, or in what it predicts; without these, the state itself."""
    model, seen = probe.with_nonzero_weights, {}
    for verb in ("decode", "features", "value"):
        if verb in probe.verbs:
            seen |= probe.ask(verb, situation, model)
    outcome = probe.ask("imagine", situation, model)
    seen |= {name: outcome[name] for name in ("reward", "cont") if name in outcome}
    return seen or flat("state", situation.state)


CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("time/not-frozen",), not_frozen),
    Clause(("time/action-at-once",), action_at_once),
    Clause(("time/observe-action",), observe_action),
    Clause(("time/observation-matters",), observation_matters),
    Clause(("time/is-init-erases",), is_init_erases),
    Clause(("time/sequence",), sequence),
)
