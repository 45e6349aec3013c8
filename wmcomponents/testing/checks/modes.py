"""The verbs answer alike with gradients, under inference mode, compiled, and after saving and loading."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from wmcomponents.pretrained import PretrainedModel
from wmcomponents.testing.compare import difference
from wmcomponents.testing.model_probe import ModelProbe, ask
from wmcomponents.testing.report import Clause, Failure, Skip


def grad_modes(probe: ModelProbe) -> Iterator[Failure]:
    """The values do not depend on whether gradients are recorded."""
    situation = probe.situation(salt=70)
    modes: dict[str, Callable[[], Any]] = {"enable_grad": torch.enable_grad, "inference_mode": torch.inference_mode}
    for name, mode in modes.items():
        for verb in probe.verbs:
            wanted = probe.ask(verb, situation)
            with mode():
                answer = ask(probe.model, verb, situation.copy())
                text = difference({key: value.detach() for key, value in answer.items()}, wanted)
            if text:
                yield Failure(
                    "modes/grad",
                    f"{verb} under {name}",
                    "the values it has under no_grad",
                    text,
                    "a straight-through term must vanish in the forward pass: sample + probs - probs.detach().",
                )


def compiled(probe: ModelProbe) -> Iterator[Failure]:
    """The verbs compile as one graph, with the eager values."""
    if not probe.compile:
        raise Skip("asked for with compile=True")
    situation = probe.situation(salt=71)
    for verb in probe.verbs:
        torch.compiler.reset()
        call = torch.compile(getattr(probe.model, verb), backend="eager", fullgraph=True)
        try:
            with torch.no_grad():
                text = difference(ask(probe.model, verb, situation, call), probe.ask(verb, situation))
        except Exception as error:  # noqa: BLE001  the compiler raises many classes, and each is the finding
            text = f"{type(error).__name__}: {error}"
        if text:
            yield Failure(
                "modes/compile",
                verb,
                "one graph (fullgraph=True) that gives the eager values",
                text,
                "take .item(), .numpy() and Python branches on tensor values out of the verb.",
            )
    torch.compiler.reset()


def saved(probe: ModelProbe) -> Iterator[Failure]:
    """A saved and loaded model gives the same answers."""
    model = probe.model
    if not isinstance(model, PretrainedModel):
        raise Skip(f"{type(model).__name__} is no PretrainedModel")
    situation = probe.situation(salt=72)
    with tempfile.TemporaryDirectory() as folder:
        twin = type(model).from_pretrained(model.save_pretrained(Path(folder) / "model"), device=probe.device)
    for verb in probe.verbs:
        text = difference(probe.ask(verb, situation, twin), probe.ask(verb, situation))
        if text:
            yield Failure(
                "saving/round-trip",
                verb,
                "the same answer from the loaded model",
                text,
                "keep everything that decides an answer in the config, the parameters or persistent buffers.",
            )


CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("modes/grad",), grad_modes),
    Clause(("modes/compile",), compiled),
    Clause(("saving/round-trip",), saved),
)
