"""The spaces of an environment as specs, and back; and the one check of what can be modelled."""

import sys
from typing import Any, cast

from torchrl.data import Composite, TensorSpec

from wmcomponents._extras import require
from wmcomponents.codecs.entry import BARE_KEYS, Real, SpaceError, marked, real_of, space_of, spec_of
from wmcomponents.codecs.space_json import to_json

RESERVED = frozenset(
    {"action", "prev_action", "next", "is_init", "reward", "continue", "noise", "done", "terminated", "truncated"}
)
"""Names that TorchRL's layout or the models' protocol use beside the entries of an observation."""

_REMEDIES = {
    "Tuple": "FlattenObservation(env) makes one vector of it, TransformObservation a Dict with a name for each part",
    "Dict": "FlattenObservation(env) makes one vector of all, TransformObservation one flat Dict",
    "Text": "FlattenObservation(env) makes numbers of it, FilterObservation drops it, TransformObservation encodes it",
    "Sequence": "TransformObservation pads it to a Box of fixed shape",
    "Graph": "TransformObservation makes Boxes of fixed shape of it",
    "OneOf": "TransformObservation makes a Dict of it",
}


def is_space(thing: Any) -> bool:
    """Whether something is a Gymnasium space; asked without importing Gymnasium."""
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is not None and isinstance(thing, gymnasium.spaces.Space)


def observation_spec_from_space(space: Any) -> Composite:
    """The spec of one observation of a Gymnasium observation space.

    The order of a ``Dict`` is kept. What a spec cannot say (a first number other than 0, double precision, axes of
    choices) is remembered beside it, so that :func:`space_from_spec` returns the same space.

    Args:
        space: ``Box``, ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or a flat ``Dict`` of them. A space that is no
            ``Dict`` becomes the entry ``observation``; colour images, as in TorchRL, ``pixels``.

    Raises:
        SpaceError: for another space, or a name that TensorDicts use themselves; it says what to wrap it in.

    Example:
        >>> from gymnasium.spaces import Box, Dict, Discrete
        >>> space = Dict(speed=Box(-1, 1, (2,)), gear=Discrete(5, start=1))
        >>> spec = observation_spec_from_space(space)
        >>> list(spec.keys()), space_from_spec(spec) == space
        (['speed', 'gear'], True)
    """
    spaces = require("gymnasium.spaces", extra="gym")
    if not isinstance(space, spaces.Dict):
        bare_key = "pixels" if is_colour(space) else "observation"
        return Composite({bare_key: spec_of(_modelled(space, "the observation"), "the observation")}, shape=())
    entries = {}
    for name, entry in space.spaces.items():
        check_name(name)
        where = f"the observation's entry {name!r}"
        entries[name] = spec_of(_modelled(entry, where), where, name)
    if not entries:
        raise SpaceError("the observation space is an empty Dict: there is nothing to observe.")
    return Composite(entries, shape=())


def action_spec_from_space(space: Any) -> TensorSpec:
    """The spec of one action of a Gymnasium action space.

    Args:
        space: ``Box``, ``Discrete``, ``MultiDiscrete`` or ``MultiBinary``.

    Raises:
        SpaceError: for another space; it says what to wrap it in.
    """
    kind = type(space).__name__
    if not _is_entry(space):
        raise SpaceError(
            f"the action is a {kind} space, {space}, and not supported: a model acts in one Box, Discrete, "
            f"MultiDiscrete or MultiBinary. Wrap the environment: gymnasium.wrappers.TransformAction(env, function, "
            f"action_space) with one of these (gymnasium.spaces.utils.flatten_space makes one Box of all parts)."
        )
    return spec_of(space, "the action")


def space_from_spec(spec: TensorSpec) -> Any:
    """The Gymnasium space of a torchrl spec: the real one, for a spec that was made from one.

    A ``Composite`` becomes a ``Dict``, unless its only entry is called ``observation``, ``pixels`` or ``latent`` (the
    names that TorchRL gives to a bare observation): then that entry's space itself.

    Args:
        spec: spec of one row.

    Raises:
        SpaceError: if the spec has no Gymnasium counterpart.
    """
    if not isinstance(spec, Composite):
        return space_of(spec)
    if is_bare(spec):
        return space_of(next(iter(spec.values())))
    spaces = require("gymnasium.spaces", extra="gym")
    # A sequence of pairs: Gymnasium sorts a plain dict.
    return spaces.Dict([(name, space_of(spec[key])) for key, name in names_of(spec).items()])


def is_bare(spec: Composite) -> bool:
    """Whether an observation is shown as its only entry, without a ``Dict`` around it."""
    key, leaf = next(iter(spec.items()))
    real = real_of(leaf)
    return len(spec.keys()) == 1 and key in BARE_KEYS and (real is None or real.name is None)


def names_of(spec: Composite) -> dict[str, str]:
    """The name in the environment's ``Dict`` of each entry of a spec, in order."""
    names = {}
    for key, leaf in spec.items():
        real = real_of(leaf)
        names[cast(str, key)] = cast(str, key) if real is None or real.name is None else real.name
    return names


def remembered(leaf: TensorSpec, space: Any, key: str, name: str | None) -> TensorSpec:
    """A spec of an entry as some environment shows it, marked with the real space where it does not say it all."""
    plain = marked(leaf, None)
    says_all = space_of(plain) == space and space_of(plain).dtype == space.dtype
    is_named = name is None or (name == key and name not in BARE_KEYS)
    return plain if says_all and is_named else marked(plain, Real(to_json(space), name))


def check_name(name: Any) -> None:
    """Refuse the name of an entry that cannot stand in a TensorDict beside the library's own.

    Raises:
        SpaceError: if it is not a string, or reserved.
    """
    remedy = "rename the entry: gymnasium.wrappers.TransformObservation(env, function, observation_space)"
    if not isinstance(name, str) or not name:
        raise SpaceError(f"the observation's entry {name!r} has no string as its name; {remedy}.")
    if name in RESERVED or name.startswith("_"):
        raise SpaceError(
            f"the observation's entry {name!r} has a name that TensorDicts of steps use themselves "
            f"({', '.join(sorted(RESERVED))}, and names that begin with an underscore); {remedy}."
        )


def _is_entry(space: Any) -> bool:
    spaces = require("gymnasium.spaces", extra="gym")
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)


def is_colour(space: Any) -> bool:
    """Whether a space is that of colour images ``[H, W, 3]`` of 256 levels, which TorchRL calls ``pixels``."""
    shape = tuple(space.shape or ())
    is_box = isinstance(space, require("gymnasium.spaces", extra="gym").Box)
    return is_box and len(shape) == 3 and shape[-1] == 3 and bool((space.low == 0).all() and (space.high == 255).all())


def _modelled(space: Any, where: str) -> Any:
    """The space itself, if it is one that a model observes."""
    if _is_entry(space):
        return space
    kind = next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in _REMEDIES), type(space).__name__)
    remedy = _REMEDIES.get(kind, "TransformObservation makes a Box, Discrete, MultiDiscrete or MultiBinary of it")
    raise SpaceError(
        f"{where} is a {kind} space, {space}, and not supported: a model observes Box, Discrete, MultiDiscrete and "
        f"MultiBinary, alone or in one flat Dict. Wrap the environment: of gymnasium.wrappers, {remedy}."
    )
