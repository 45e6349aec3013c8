"""A step into a state that was given away: the values of the pure step, and no memory but that state's."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from wmcomponents.testing.checks.layout import stripped
from wmcomponents.testing.model_probe import Answer, ModelProbe, TestInputs, ask
from wmcomponents.testing.report import Clause, Failure, Skip

STEPS = 4


def as_pure(probe: ModelProbe) -> Iterator[Failure]:
    """Along a few steps the in-place step gives what the pure one gives, exactly, and the pure one spoils no state."""
    _needed(probe)
    starts = [probe.situation(salt=90), probe.situation((), salt=91), probe.situation((2, 3), salt=92)]
    for start in (*starts, probe.situation(salt=93).mode()):
        pure = inplace = start
        generator = probe.generator(94)
        for step in range(STEPS):
            before = pure.copy()
            wanted = _answer(probe, "imagine", pure)
            text = _first_difference(pure.named("imagine"), before.named("imagine"))
            if text:
                yield Failure(
                    "inplace/as-pure",
                    f"imagine, step {step + 1}",
                    "the pure step leaves the state that it is given as it is, beside an in-place one",
                    text,
                    "copy the state in imagine() before it is handed to imagine_inplace().",
                )
            # What was given away must not be seen again: the answer alone goes on.
            given = inplace.copy() if step == 0 else inplace
            got = _answer(probe, "imagine_inplace", given)
            text = _first_difference(got, wanted)
            if text:
                yield Failure(
                    "inplace/as-pure",
                    f"imagine_inplace, step {step + 1}, rows {list(start.batch)}",
                    "the values of imagine, bit by bit",
                    text,
                    "let both be one computation: imagine() copies the state and calls imagine_inplace(); read a part "
                    "of the state before it is written over.",
                )
                return
            action, noise = probe.action(start.batch, generator), probe.noise("imagine", start.batch, generator)
            noise = None if start.imagine_noise is None else noise
            pure = replace(pure, state=stripped(wanted, "state"), action=action, imagine_noise=noise)
            inplace = replace(inplace, state=stripped(got, "state"), action=action, imagine_noise=noise)


def alone(probe: ModelProbe) -> Iterator[Failure]:
    """What an in-place step returns may lie in the state given, and nowhere else: the next one would write over it."""
    _needed(probe)
    model = probe.model
    given = probe.situation(salt=95).copy()
    held = {f"parameter {name}": value for name, value in model.named_parameters()}
    held |= {f"buffer {name}": value for name, value in model.named_buffers()}
    held |= {name: value for name, value in given.named("imagine").items() if not name.startswith("state[")}
    kept = {name: value.clone() for name, value in held.items()}
    answer = _answer(probe, "imagine_inplace", given)
    places = {value.untyped_storage().data_ptr(): name for name, value in held.items() if value.numel()}
    states = {value.untyped_storage().data_ptr() for name, value in answer.items() if name.startswith("state[")}
    for name, value in answer.items():
        place = value.untyped_storage().data_ptr()
        if value.numel() and (place in places or (not name.startswith("state[") and place in states)):
            yield Failure(
                "inplace/alone",
                f"imagine_inplace: {name}",
                "memory of its own, or for a state that of the state given",
                f"it shares memory with {places.get(place, 'the new state')}",
                "clone() what is neither new nor part of the state given away.",
            )
    text = _first_difference(held, kept)
    if text:
        yield Failure(
            "inplace/alone",
            "imagine_inplace",
            "action, noise, parameters and buffers as they were",
            text,
            "write into the tensors of the state given, and into nothing else.",
        )


def _needed(probe: ModelProbe) -> None:
    if "inplace" not in probe.model.capabilities:
        raise Skip(f"{type(probe.model).__name__} has no step in place")


@torch.no_grad()
def _answer(probe: ModelProbe, verb: str, situation: TestInputs) -> Answer:
    return ask(probe.model, "imagine", situation, getattr(probe.model, verb))


def _first_difference(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    for name, value in wanted.items():
        if name not in got or got[name].shape != value.shape or got[name].dtype is not value.dtype:
            return f"{name} is missing or of another shape or dtype"
        off = (got[name] != value) & ~((got[name] != got[name]) & (value != value))
        if bool(off.any()):
            place = tuple(off.nonzero()[0].tolist())
            count = f"{int(off.sum())} of {value.numel()} entries differ"
            return f"{name}: {count}, first at {place}: {got[name][place].item()} against {value[place].item()}"
    return ""


CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("inplace/as-pure",), as_pure),
    Clause(("inplace/alone",), alone),
)
