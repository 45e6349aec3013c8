"""The arguments of a behaviour as plain JSON and back, so that a trained one is made again without its run."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from wmcomponents.agents.actor_critic.estimators import (
    DynamicsGradient,
    MixedGradient,
    NormalizedDynamicsGradient,
    Reinforce,
)
from wmcomponents.agents.actor_critic.optimizers import OneAdam, OneLaProp, SharedAdam, TwoAdams
from wmcomponents.agents.actor_critic.targets import ArrivalReturn, FutureReturn, OwnValueReturn
from wmcomponents.agents.evolution.pedals import SteeringAndPedals
from wmcomponents.objectives import ExponentialAverage, PeriodicCopy
from wmcomponents.training import ConstantThenDecay, LinearDecay

NUMBERS = (
    OneAdam, OneLaProp, TwoAdams, SharedAdam, LinearDecay, ConstantThenDecay, ExponentialAverage, PeriodicCopy,
    SteeringAndPedals,
)  # fmt: skip
ARGUMENTS: dict[type, tuple[str, ...]] = {
    **{kind: tuple(one.name for one in fields(kind)) for kind in NUMBERS},
    Reinforce: (), DynamicsGradient: (), NormalizedDynamicsGradient: (), MixedGradient: ("dynamics",),
    FutureReturn: ("lam",), OwnValueReturn: ("lam",), ArrivalReturn: ("lam", "from_start"),
}  # fmt: skip
"""Parts that may stand among the arguments, and what each is made of: plain values that it holds by the same name."""

PARTS = {kind.__name__: kind for kind in ARGUMENTS}
"""The parts by name."""


class NotPlainError(TypeError):
    """An argument is neither a plain value nor a part of :data:`PARTS`."""


def to_json(value: Any) -> Any:
    """A value as plain JSON.

    Args:
        value: a number, a string, ``None``, a part of :data:`PARTS`, or tuples and mappings of these.

    Raises:
        NotPlainError: for anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [to_json(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    name = type(value).__name__
    if type(value) in ARGUMENTS:
        return {"part": name, **{each: to_json(getattr(value, each)) for each in ARGUMENTS[type(value)]}}
    raise NotPlainError(f"a {name} is no plain value, and none of the parts {', '.join(PARTS)}.")


def from_json(value: Any) -> Any:
    """What :func:`to_json` was given; sequences as tuples.

    Args:
        value: plain JSON.

    Raises:
        ValueError: if it names a part that there is not, or a part's arguments are others.
    """
    if isinstance(value, list):
        return tuple(from_json(each) for each in value)
    if not isinstance(value, dict):
        return value
    given = {key: from_json(each) for key, each in value.items()}
    if "part" not in given:
        return given
    name = given.pop("part")
    if name not in PARTS:
        raise ValueError(f"there is no part {name!r}; there are {', '.join(PARTS)}.")
    try:
        return PARTS[name](**given)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
