"""Specs that say what they must, and verbs that return exactly what the specs promise."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.testing.model_probe import Answer, ModelProbe, TestInputs
from wmcomponents.testing.report import Clause, Failure
from wmcomponents.testing.sampling import bounds, is_uniform
from wmcomponents.world_model import CAPABILITIES, Prediction

LAYOUTS = ("layout/keys", "layout/shape", "layout/device")
TRAILING = ("reward", "cont", "value")


def specs_well_formed(probe: ModelProbe) -> Iterator[Failure]:
    """The four specs exist, are flat, describe one row, and say which noise is wanted."""
    model = probe.model
    for name in ("observation_spec", "state_spec"):
        spec = getattr(model, name, None)
        if not isinstance(spec, Composite) or tuple(spec.shape) or any(_nested(leaf) for leaf in spec.values()):
            yield _spec_failure(name, "a flat Composite without batch dims", spec, "pass it to WorldModel.__init__.")
        elif not len(list(spec.keys())):
            yield _spec_failure(name, "at least one entry", spec, "name what is observed, or what passes on.")
    action = getattr(model, "action_spec", None)
    if not isinstance(action, TensorSpec) or isinstance(action, Composite):
        yield _spec_failure("action_spec", "one leaf spec of ONE action", action, "pass it to WorldModel.__init__.")
    noise = getattr(model, "noise_spec", None)
    if not isinstance(noise, Composite) or set(noise.keys()) != {"observe", "imagine"}:
        yield _spec_failure(
            "noise_spec", "the entries 'observe' and 'imagine'", noise, "leave it to WorldModel.__init__."
        )
        return
    yield from _odd_noise(noise)


def _odd_noise(noise: Composite) -> Iterator[Failure]:
    for verb in ("observe", "imagine"):
        for key, leaf in cast(Composite, noise[verb]).items():
            if not is_uniform(leaf) and not isinstance(leaf, Unbounded):
                yield _spec_failure(
                    f"noise_spec[{verb!r}][{key!r}]",
                    "Bounded(0, 1) for uniform noise, or Unbounded for normal noise",
                    leaf,
                    "declare base noise, and transform it inside the model.",
                )


def specs_names(probe: ModelProbe) -> Iterator[Failure]:
    """No name stands for two things, so that the verbs have a TensorDict form."""
    model = probe.model
    state, observation = set(model.state_spec.keys()), set(model.observation_spec.keys())
    taken = {"action", "prev_action", "is_init", "reward", "continue", "done", "terminated", "truncated", "noise"}
    for what, names in (
        ("state and observation", state & observation),
        ("the protocol", (state | observation) & taken),
    ):
        if names:
            yield Failure(
                "specs/names",
                f"the names {sorted(names)}",
                "state keys, observation keys and the protocol's own names are distinct",
                f"{sorted(names)} belong(s) to {what} at once",
                "rename the state's keys: in a TensorDict each name holds one tensor.",
            )


def capabilities_known(probe: ModelProbe) -> Iterator[Failure]:
    """The model declares nothing but what the protocol knows."""
    unknown = set(probe.model.capabilities) - set(CAPABILITIES)
    if unknown:
        yield Failure(
            "capabilities/known",
            "capabilities",
            f"a subset of {', '.join(CAPABILITIES)}",
            f"also {sorted(unknown)}",
            "declare only what the protocol knows.",
        )


def initial_state(probe: ModelProbe) -> Iterator[Failure]:
    """The state before anything was seen has the declared layout for any batch size."""
    for batch in probe.batch_sizes:
        state = probe.model.initial_state(batch, probe.device)
        yield from _entries("initial_state", "state", state, probe.model.state_spec, batch, probe.device)


def verbs_run(probe: ModelProbe) -> Iterator[Failure]:
    """Every verb answers, in the shape of answer that the protocol names."""
    for situation in probe.situations():
        for verb in probe.verbs:
            for given in (situation, situation.mode()):
                yield from _kind(probe, verb, given)


def structure(probe: ModelProbe) -> Iterator[Failure]:
    """Exactly the declared keys, in their shapes, on the model's device."""
    yield from (failure for failure in _layout(probe) if failure.clause not in ("layout/dtype", "layout/trailing-one"))


def details(probe: ModelProbe) -> Iterator[Failure]:
    """The declared dtypes; reward, continuation and value end in a dimension of size one."""
    yield from (failure for failure in _layout(probe) if failure.clause in ("layout/dtype", "layout/trailing-one"))


def values_finite(probe: ModelProbe) -> Iterator[Failure]:
    """Nothing is NaN or infinite, at the edges of the noise either."""
    for situation in (probe.situation(), probe.situation(salt=1).mode(), *_edges(probe)):
        for verb in probe.verbs:
            for name, value in probe.ask(verb, situation).items():
                if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
                    bad = int((~torch.isfinite(value)).sum())
                    yield Failure(
                        "values/finite",
                        f"{verb}: {name}",
                        "finite numbers",
                        f"{bad} of {value.numel()} entries are NaN or infinite",
                        "look for a division, log or sqrt at zero; noise is uniform in [0, 1), so 0 itself can come.",
                    )


def values_in_space(probe: ModelProbe) -> Iterator[Failure]:
    """States and decoded observations lie inside their specs; continuation is a probability."""
    model = probe.model
    for situation in (probe.situation(), probe.situation(salt=1).mode()):
        for verb in probe.verbs:
            answer = probe.ask(verb, situation)
            spec = model.observation_spec if verb == "decode" else model.state_spec
            entries = stripped(answer, "observation" if verb == "decode" else "state")
            for key, value in entries.items():
                leaf = spec[key]
                if (
                    value.dtype is leaf.dtype
                    and bool(torch.isfinite(value).all())
                    and not bool(cast(Any, leaf).is_in(value))
                ):
                    yield Failure(
                        "values/in-space",
                        f"{verb}: {key}",
                        f"values inside {_short(leaf)}",
                        f"values between {value.min().item()} and {value.max().item()}",
                        "map the output into the declared space, or declare the space that it has.",
                    )
            cont = answer.get("cont")
            if cont is not None and not bool(((cont >= 0) & (cont <= 1)).all()):
                yield Failure(
                    "values/continue",
                    f"{verb}: cont",
                    "a probability in [0, 1]: P(not terminated)",
                    f"values between {cont.min().item()} and {cont.max().item()}",
                    "return the probability, not the logit and not gamma times it.",
                )


def _layout(probe: ModelProbe) -> Iterator[Failure]:
    model = probe.model
    for situation in probe.situations():
        batch = situation.batch
        for verb in probe.verbs:
            answer = probe.ask(verb, situation)
            if verb in ("observe", "imagine"):
                yield from _entries(verb, "state", stripped(answer, "state"), model.state_spec, batch, probe.device)
            if verb == "decode":
                seen = stripped(answer, "observation")
                yield from _entries(verb, "observation", seen, model.observation_spec, batch, probe.device)
            if verb == "features":
                yield from _features(answer["features"], batch, probe.device)
            for name in TRAILING:
                if name in answer:
                    yield from _scalar(verb, name, answer[name], batch, probe.device)


def _edges(probe: ModelProbe) -> Iterator[TestInputs]:
    """Situations whose uniform noise is exactly 0, or the last number below 1."""
    situation = probe.situation(salt=2)
    for value in (0.0, 1.0 - 2.0**-24):
        edge = situation.copy()
        for verb, noise in (("observe", edge.observe_noise), ("imagine", edge.imagine_noise)):
            for key, leaf in cast(Composite, probe.model.noise_spec[verb]).items():
                if isinstance(leaf, Bounded) and noise is not None and leaf.dtype in (torch.float32, torch.float64):
                    noise[str(key)].fill_(value)
        yield edge


def _kind(probe: ModelProbe, verb: str, situation: TestInputs) -> Iterator[Failure]:
    """Run a verb and look at the kind of its answer, before anything reads it."""
    model = probe.model
    with torch.no_grad():
        if verb == "imagine":
            answer: Any = model.imagine(situation.state, situation.action, situation.imagine_noise)
            good = isinstance(answer, tuple) and len(answer) == len(Prediction._fields) and _tensors(answer[0])
            good = good and all(part is None or isinstance(part, Tensor) for part in answer[1:])
            wanted = "Prediction(state, reward, cont): a dict of tensors, and a tensor or None each"
        elif verb == "observe":
            given = situation.state, situation.action, situation.observation, situation.is_init, situation.observe_noise
            answer = model.observe(*given)
            good, wanted = _tensors(answer), "a dict of tensors"
        elif verb == "decode":
            answer = model.decode(situation.state)
            good, wanted = _tensors(answer), "a dict of tensors"
        else:
            answer = getattr(model, verb)(situation.state)
            good, wanted = isinstance(answer, Tensor), "a tensor"
    if not good:
        yield Failure("verbs/run", verb, wanted, f"{type(answer).__name__}", "return what WorldModel's docstring says.")


def _tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(entry, Tensor) for entry in value.values())


def _entries(
    verb: str, what: str, got: Mapping[str, Tensor], spec: Composite, batch: tuple[int, ...], device: torch.device
) -> Iterator[Failure]:
    wanted = [str(key) for key in spec.keys()]
    if set(got) != set(wanted):
        yield Failure(
            "layout/keys",
            f"{verb}: {what}",
            f"exactly the keys {sorted(wanted)} of {what}_spec",
            f"{sorted(got)}",
            f"return every key of {what}_spec and no other; what is not in state_spec is lost between steps.",
        )
    for key in wanted:
        if key in got:
            leaf, value, where = spec[key], got[key], f"{verb}: {what}[{key!r}]"
            if tuple(value.shape) != (*batch, *leaf.shape):
                yield _shape(where, (*batch, *leaf.shape), value, batch)
            if value.dtype is not leaf.dtype:
                yield _dtype(where, leaf.dtype, value)
            yield from _device(where, value, device)


def _scalar(verb: str, name: str, value: Tensor, batch: tuple[int, ...], device: torch.device) -> Iterator[Failure]:
    where = f"{verb}: {name}"
    if tuple(value.shape) != (*batch, 1):
        yield Failure(
            "layout/trailing-one",
            where,
            f"shape {(*batch, 1)}: the batch, then a dimension of size 1",
            f"shape {tuple(value.shape)}",
            "unsqueeze(-1) it, or keep the last dimension when you slice or reduce (value[..., :1], keepdim=True).",
        )
    if value.dtype is not torch.float32:
        yield _dtype(where, torch.float32, value)
    yield from _device(where, value, device)


def _features(value: Tensor, batch: tuple[int, ...], device: torch.device) -> Iterator[Failure]:
    if value.ndim != len(batch) + 1 or tuple(value.shape[:-1]) != batch:
        yield _shape("features", (*batch, "F"), value, batch)
    if not value.dtype.is_floating_point:
        yield _dtype("features", "a floating dtype", value)
    yield from _device("features", value, device)


def _shape(where: str, wanted: tuple, value: Tensor, batch: tuple[int, ...]) -> Failure:
    return Failure(
        "layout/shape",
        where,
        f"shape {wanted} for the leading dims {batch}",
        f"shape {tuple(value.shape)}",
        "leading dims are free: index dims from the right (dim=-1), and never assume one batch dimension.",
    )


def _dtype(where: str, wanted: Any, value: Tensor) -> Failure:
    return Failure("layout/dtype", where, f"{wanted}", f"{value.dtype}", "cast the output, or declare what it is.")


def _device(where: str, value: Tensor, device: torch.device) -> Iterator[Failure]:
    if value.device != device:
        yield Failure(
            "layout/device",
            where,
            f"a tensor on {device}, like the model and its inputs",
            f"a tensor on {value.device}",
            "make new tensors on the device of an input (torch.zeros_like, device=x.device).",
        )


def stripped(answer: Answer, what: str) -> Answer:
    """The entries ``what['key']`` of an answer, by key."""
    return {name[len(what) + 2 : -2]: value for name, value in answer.items() if name.startswith(f"{what}[")}


def _spec_failure(name: str, expected: str, got: Any, remedy: str) -> Failure:
    return Failure("specs/well-formed", name, expected, f"{type(got).__name__}: {got}", remedy)


def _nested(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, Composite)


def _short(leaf: TensorSpec) -> str:
    if isinstance(leaf, Bounded):
        low, high = bounds(leaf)
        return f"{type(leaf).__name__}({low.min().item()} to {high.max().item()})"
    return f"{type(leaf).__name__} {tuple(leaf.shape)}"


CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("specs/well-formed",), specs_well_formed, foundation=True),
    Clause(("specs/names",), specs_names),
    Clause(("capabilities/known",), capabilities_known),
    Clause(
        ("verbs/run", "layout/keys", "layout/shape", "layout/dtype", "layout/device"), initial_state, foundation=True
    ),
    Clause(("verbs/run",), verbs_run, foundation=True),
    Clause(LAYOUTS, structure, foundation=True),
    Clause(("layout/dtype", "layout/trailing-one"), details),
    Clause(("values/finite",), values_finite),
    Clause(("values/in-space", "values/continue"), values_in_space),
)
