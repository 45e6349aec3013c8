"""Capabilities are honest: what is declared works, what is not refuses by name."""

from collections.abc import Iterator
from typing import Any

import torch
from tensordict import TensorDict
from torch import nn

from wmcomponents.testing.compare import difference
from wmcomponents.testing.model_probe import Answer, ModelProbe, TestInputs, flat
from wmcomponents.testing.report import Clause, Failure
from wmcomponents.world_model import CapabilityError


def declared(probe: ModelProbe) -> Iterator[Failure]:
    """Reward and continuation come exactly if declared; an undeclared verb raises ``CapabilityError``."""
    model, situation = probe.model, probe.situation()
    answer = probe.ask("imagine", situation)
    for capability, name in (("reward", "reward"), ("continue", "cont")):
        if (capability in model.capabilities) != (name in answer):
            yield Failure(
                "capabilities/honest",
                f"imagine: {name}",
                f"a tensor if and only if {capability!r} is among the capabilities {sorted(model.capabilities)}",
                "a tensor" if name in answer else "None",
                f"override capabilities to {'add' if name in answer else 'take out'} {capability!r}.",
            )
    calls: dict[str, Any] = {
        "decode": lambda: model.decode(situation.state),
        "features": lambda: model.features(situation.state),
        "value": lambda: model.value(situation.state),
        "objective": model.objective,
    }
    for capability, call in calls.items():
        if capability in model.capabilities:
            continue
        got = "an answer"
        try:
            with torch.no_grad():
                call()
        except CapabilityError:
            continue
        except Exception as error:  # noqa: BLE001  any other error is the finding
            got = f"{type(error).__name__}: {error}"
        yield Failure(
            "capabilities/honest",
            capability,
            f"CapabilityError, since {capability!r} is not among the capabilities {sorted(model.capabilities)}",
            got,
            "leave the method to WorldModel, raise CapabilityError in it, or declare the capability.",
        )
    if "objective" in model.capabilities and not isinstance(model.objective(), nn.Module):
        yield Failure(
            "capabilities/honest",
            "objective",
            "a LossModule",
            type(model.objective()).__name__,
            "return a torchrl LossModule that holds this model.",
        )


@torch.no_grad()
def tensordict_form(probe: ModelProbe) -> Iterator[Failure]:
    """``module(verb)`` writes into a TensorDict what the verb returns."""
    for situation in (probe.situation(salt=60), probe.situation(salt=61).mode()):
        for verb in probe.verbs:
            written = probe.model.module(verb)(_tensordict(verb, situation))
            answer = probe.ask(verb, situation)
            text = difference(_read(probe, verb, written), answer)
            if text:
                yield Failure(
                    "capabilities/tensordict-form",
                    f"module({verb!r})",
                    "the verb's own answer under the verb's keys",
                    text,
                    "leave module() to WorldModel, and the keys distinct.",
                )


def _tensordict(verb: str, situation: TestInputs) -> TensorDict:
    entries: dict[str, Any] = dict(situation.state)
    noise = situation.observe_noise if verb == "observe" else situation.imagine_noise
    if verb == "observe":
        entries |= {"prev_action": situation.action, **situation.observation, "is_init": situation.is_init}
    if verb == "imagine":
        entries["action"] = situation.action
    if verb in ("observe", "imagine") and noise:
        entries["noise"] = dict(noise)
    return TensorDict(entries, batch_size=situation.batch)


def _read(probe: ModelProbe, verb: str, written: Any) -> Answer:
    model = probe.model
    if verb == "decode":
        return flat("observation", {str(key): written[key] for key in model.observation_spec.keys()})
    if verb in ("features", "value"):
        return {verb: written["latent" if verb == "features" else "state_value"]}
    if verb == "observe":
        return flat("state", {str(key): written[key] for key in model.state_spec.keys()})
    answer = flat("state", {str(key): written["next", key] for key in model.state_spec.keys()})
    names = (("reward", "reward"), ("continue", "cont"))
    return answer | {name: written["next", key] for key, name in names if key in model.capabilities}


TENSORDICT: tuple[Clause[ModelProbe], ...] = (Clause(("capabilities/tensordict-form",), tensordict_form),)

CLAUSES: tuple[Clause[ModelProbe], ...] = (Clause(("capabilities/honest",), declared),)
