"""z is an input: verbs draw nothing themselves, and the noise they are given is what makes them random."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torchrl.data import Composite

from wmcomponents.testing.compare import difference
from wmcomponents.testing.model_probe import Answer, ModelProbe
from wmcomponents.testing.report import Clause, Failure, Skip
from wmcomponents.testing.sampling import global_generators, moved_generators, reseed_globals
from wmcomponents.world_model import Verb

OWN_NOISE = "declare the randomness in noise_spec and read it from the verb's noise argument."


def no_global_rng(probe: ModelProbe) -> Iterator[Failure]:
    """No verb moves a global generator."""
    for situation in (probe.situation(), probe.situation().mode()):
        for verb in probe.verbs:
            before = global_generators()
            probe.ask(verb, situation)
            moved = moved_generators(before)
            if moved:
                yield Failure(
                    "randomness/no-global-rng",
                    verb,
                    "the global generators stay where they are",
                    f"moved: {', '.join(moved)}",
                    OWN_NOISE,
                )


def repeatable(probe: ModelProbe) -> Iterator[Failure]:
    """The same arguments give the same answer, whatever the global generators hold; with noise=None too."""
    for clause, situation in (
        ("randomness/repeatable", probe.situation()),
        ("randomness/mode", probe.situation().mode()),
    ):
        for verb in probe.verbs if clause == "randomness/repeatable" else ("observe", "imagine"):
            answers: list[Answer] = []
            for seed in (0, 1, 2):
                reseed_globals(seed)
                answers.append({name: value.clone() for name, value in probe.ask(verb, situation).items()})
            # The first answer may depend on the call before it, which is another clause's matter.
            text = difference(answers[2], answers[1])
            if text:
                asked = "the same arguments" if clause == "randomness/repeatable" else "noise=None, the mode"
                yield Failure(clause, verb, f"one and the same answer to {asked}", text, OWN_NOISE)


def noise_matters(probe: ModelProbe) -> Iterator[Failure]:
    """Declared noise changes something. A flat ``noise_spec`` serves both verbs and must matter in one of them."""
    model = probe.with_nonzero_weights
    specs = {verb: cast(Composite, model.noise_spec[verb]) for verb in ("observe", "imagine")}
    declared: list[Verb] = [verb for verb in ("observe", "imagine") if len(list(specs[verb].keys()))]
    if not declared:
        raise Skip("noise_spec is empty: the model is deterministic")
    shared = _outline(specs["observe"]) == _outline(specs["imagine"])
    situation = probe.situation(salt=5, model=model)
    deaf = []
    for verb in declared:
        other = probe.noise(verb, situation.batch, probe.generator(6))
        changed = (
            replace(situation, observe_noise=other) if verb == "observe" else replace(situation, imagine_noise=other)
        )
        a, b = probe.ask(verb, situation, model), probe.ask(verb, changed, model)
        if all(torch.equal(a[name], b[name]) for name in a):
            deaf.append(verb)
    if deaf and (not shared or len(deaf) == len(declared)):
        yield Failure(
            "randomness/noise-matters",
            ", ".join(deaf),
            "two draws of the declared noise lead to different answers somewhere",
            f"the same answer in all {situation.batch[0]} rows",
            "use the noise, or leave it out of noise_spec for this verb ({'imagine': ...} alone is allowed).",
        )


def _outline(spec: Composite) -> dict[str, tuple]:
    return {str(key): (tuple(leaf.shape), leaf.dtype, type(leaf)) for key, leaf in spec.items()}


NOISE: tuple[Clause[ModelProbe], ...] = (Clause(("randomness/noise-matters",), noise_matters),)

CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("randomness/no-global-rng",), no_global_rng),
    Clause(("randomness/repeatable", "randomness/mode"), repeatable, foundation=True),
)
