"""A state is a value: nothing is mutated, nothing is shared, nothing is remembered between calls."""

from collections.abc import Iterator

import torch
from torch import Tensor

from wmcomponents.testing.compare import difference
from wmcomponents.testing.model_probe import Answer, ModelProbe, TestInputs, ask
from wmcomponents.testing.report import Clause, Failure


def no_mutation(probe: ModelProbe) -> Iterator[Failure]:
    """Inputs are bitwise unchanged after a verb, gradients on or off."""
    for salt, situation in enumerate(_both(probe)):
        for verb in probe.verbs:
            given = situation.copy()
            with torch.set_grad_enabled(bool(salt)):
                ask(probe.model, verb, given)
            after = given.named(verb)
            for name, value in situation.named(verb).items():
                if name not in after or not _bitwise(value, after[name]):
                    yield Failure(
                        "state-is-a-value/no-mutation",
                        f"{verb}: {name}",
                        "the input is bitwise unchanged after the call",
                        "removed from its dict" if name not in after else _change(value, after[name]),
                        "write x = x + dx in place of x += dx, x[...] = dx or x.add_(dx); clone before changing.",
                    )
            added = set(after) - set(situation.named(verb))
            if added:
                yield Failure(
                    "state-is-a-value/no-mutation",
                    f"{verb}: the dict it was given",
                    "the input dict keeps its keys",
                    f"{sorted(added)} were added",
                    "build a new dict: {**state, 'key': value}.",
                )


def no_alias(probe: ModelProbe) -> Iterator[Failure]:
    """Outputs share memory with no input, no parameter and no buffer."""
    model = probe.model
    own = {f"parameter {name}": p for name, p in model.named_parameters()}
    own |= {f"buffer {name}": b for name, b in model.named_buffers()}
    for situation in (*_both(probe), probe.situation(salt=3).begun(), probe.situation((), salt=4)):
        for verb in probe.verbs:
            given = situation.copy()
            with torch.no_grad():
                answer = ask(model, verb, given)
            yield from _shared(verb, answer, given.named(verb) | own)
    state = {f"state[{key!r}]": value for key, value in model.initial_state((), probe.device).items()}
    yield from _shared("initial_state", state, own)


def no_hidden_state(probe: ModelProbe) -> Iterator[Failure]:
    """An answer depends on the arguments of its call alone, not on the calls before it."""
    calls = [(verb, probe.situation(salt=10 + k)) for k in range(3) for verb in probe.verbs]
    calls += [(verb, situation.mode()) for verb, situation in calls if verb in ("observe", "imagine")]
    first: dict[int, Answer] = {}
    for turn in range(3):
        order = torch.randperm(len(calls), generator=probe.generator(20 + turn)).tolist()
        for number in order:
            verb, situation = calls[number]
            answer = probe.ask(verb, situation)
            known = first.setdefault(number, {name: value.clone() for name, value in answer.items()})
            text = difference(answer, known)
            if text:
                yield Failure(
                    "state-is-a-value/no-hidden-state",
                    verb,
                    "the same answer to the same arguments, whatever was called before",
                    text,
                    "put what has to pass from step to step into the state and declare it in state_spec; an attribute "
                    "(the previous action, a cache, a counter, a generator) makes forks and rewinds wrong.",
                )


def model_unchanged(probe: ModelProbe) -> Iterator[Failure]:
    """Running a verb changes no parameter, no buffer and no train/eval flag."""
    model = probe.model
    situation = probe.situation()
    for verb in probe.verbs:
        before = {name: value.clone() for name, value in _tensors(probe).items()}
        model.eval()
        modes = [module.training for module in model.modules()]
        probe.ask(verb, situation)
        changed = [name for name, value in _tensors(probe).items() if not _bitwise(before[name], value)]
        if changed:
            yield Failure(
                "state-is-a-value/model-unchanged",
                verb,
                "parameters and buffers as they were before the call",
                f"changed: {', '.join(changed)}",
                "keep running statistics and caches out of the verbs; update them in the objective.",
            )
        if modes != [module.training for module in model.modules()]:
            yield Failure(
                "state-is-a-value/model-unchanged",
                f"{verb}: train/eval",
                "every module keeps its training flag",
                "a flag was switched",
                "leave train() and eval() to whoever drives the model.",
            )
            model.eval()


def _both(probe: ModelProbe) -> tuple[TestInputs, TestInputs]:
    return probe.situation(salt=1), probe.situation(salt=2).mode()


def _tensors(probe: ModelProbe) -> dict[str, Tensor]:
    return dict(probe.model.named_parameters()) | dict(probe.model.named_buffers())


def _shared(verb: str, outputs: Answer, inputs: Answer) -> Iterator[Failure]:
    held = {_storage(value): name for name, value in inputs.items() if value.numel()}
    for name, value in outputs.items():
        if value.numel() and _storage(value) in held:
            yield Failure(
                "state-is-a-value/no-alias",
                f"{verb}: {name}",
                "an output in memory of its own",
                f"it shares memory with {held[_storage(value)]}",
                "clone() what you pass on unchanged; a slice, view, expand or same-dtype .to() is not a copy.",
            )


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _bitwise(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype is b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _change(before: Tensor, after: Tensor) -> str:
    if before.shape != after.shape or before.dtype is not after.dtype:
        return f"{before.dtype} {tuple(before.shape)} became {after.dtype} {tuple(after.shape)}"
    place = tuple((before != after).nonzero()[0].tolist())
    count = int((before != after).sum())
    return f"{count} entries changed; at {place} {before[place].item()} became {after[place].item()}"


MEMORY: tuple[Clause[ModelProbe], ...] = (
    Clause(("state-is-a-value/no-hidden-state",), no_hidden_state, foundation=True),
)

CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("state-is-a-value/no-mutation",), no_mutation),
    Clause(("state-is-a-value/no-alias",), no_alias),
    Clause(("state-is-a-value/model-unchanged",), model_unchanged),
)
