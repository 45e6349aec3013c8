"""Weights under the names of a paper's own repository, onto a model of this library: strictly, or not at all."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from wmcomponents.pretrained.folder import BadModelError
from wmcomponents.pretrained.tensors import nonfinite

N = TypeVar("N", bound=nn.Module)
NAMED = 6
"""How many keys an error names before it says how many more there are."""


class Rule(NamedTuple):
    r"""Where the keys of one kind go.

    Attributes:
        source: regular expression that the whole official key must match.
        target: our key, with ``\1`` or ``\g<name>`` for its groups; or a function of the match that returns our key;
            or ``None``: the key is known and not needed.
        change: of the tensor on the way, such as a transpose; none if not given.
    """

    source: str
    target: str | Callable[[re.Match[str]], str] | None
    change: Callable[[Tensor], Tensor] | None = None


def section(checkpoint: Mapping[str, Any], *path: str, optional: bool = False) -> Mapping[str, Any]:
    """A mapping inside a checkpoint, such as ``section(checkpoint, "model")``.

    Args:
        checkpoint: as :func:`wmcomponents.load_official` gives it to a family.
        path: the keys that lead to it, outermost first.
        optional: where a key is absent, what is there already is taken for the section: files hold it bare as well.

    Raises:
        BadModelError: if a key is missing or holds something else.
    """
    for key in path:
        if key not in checkpoint:
            if optional:
                continue
            raise BadModelError(
                f"the checkpoint has no entry {key!r}; it has {_named(map(str, checkpoint))}: it is of another model, "
                f"or of another version of the repository."
            )
        inner = checkpoint[key]
        if not isinstance(inner, Mapping):
            raise BadModelError(f"entry {key!r} of the checkpoint is a {type(inner).__name__}, not a mapping.")
        checkpoint = inner
    return checkpoint


def shape_of(weights: Mapping[str, Any], key: str, dims: int, family: str) -> tuple[int, ...]:
    """The shape of one weight of a checkpoint.

    Args:
        weights: values by their official keys.
        key: of the weight.
        dims: number of its dimensions.
        family: whose checkpoint it should be, for the error.

    Raises:
        BadModelError: if it is missing, no tensor, or has another number of dimensions.
    """
    value = weights.get(key)
    if isinstance(value, Tensor) and value.ndim == dims:
        return tuple(value.shape)
    kind = "missing" if value is None else f"a {type(value).__name__}"
    what = f"has the shape {list(value.shape)}" if isinstance(value, Tensor) else f"is {kind}"
    raise BadModelError(f"{key} of the checkpoint {what}; expected a tensor of {dims} dimensions: it is no {family}.")


def count_of(weights: Mapping[str, Any], pattern: str, family: str) -> int:
    """How many numbers, from 0, the first group of a pattern finds in the keys of a checkpoint.

    Args:
        weights: values by their official keys.
        pattern: regular expression of whole keys.
        family: whose checkpoint it should be, for the error.

    Raises:
        BadModelError: if there are none, or one is missing between them.
    """
    numbers = {int(found[1]) for key in weights if (found := re.fullmatch(pattern, key))}
    if numbers != set(range(len(numbers))) or not numbers:
        raise BadModelError(f"the checkpoint has no weights {pattern} numbered from 0: it is no {family}.")
    return len(numbers)


def map_keys(weights: Mapping[str, Any], rules: Iterable[Rule | tuple[Any, ...]]) -> dict[str, Tensor]:
    r"""A ``state_dict`` under our names; the first rule that matches a key decides.

    Args:
        weights: tensors by their official keys.
        rules: :class:`Rule`, or tuples of its fields.

    Raises:
        BadModelError: if no rule matches a key, two keys land in one place, or a value that is needed is no tensor.

    >>> map_keys({"net.0.weight": torch.ones(2)}, [(r"net\.(\d+)\.(\w+)", r"layers.\1.\2")])
    {'layers.0.weight': tensor([1., 1.])}
    """
    return {target: value for target, (_, value) in _mapped(weights, rules).items()}


def load_mapped(
    model: N,
    weights: Mapping[str, Any],
    rules: Iterable[Rule | tuple[Any, ...]],
    *,
    keeps: Collection[str] = (),
) -> N:
    """Give a model the weights of an official checkpoint: every key lands, none is left over, shapes agree.

    Args:
        model: takes the weights.
        weights: tensors by their official keys.
        rules: as :func:`map_keys` takes them.
        keeps: regular expressions of OUR keys that official checkpoints do not hold (constants, fitted scales), which
            stay as they are.

    Returns:
        The model, with the weights copied into it.

    Raises:
        BadModelError: naming the keys that are unknown, missing, of another shape or kind of number, or hold NaN or
            infinity; the model is left as it was.
    """
    mapped, own = _mapped(weights, rules), model.state_dict()
    name = type(model).__name__
    extra = [f"{source} (our {target})" for target, (source, _) in mapped.items() if target not in own]
    if extra:
        raise BadModelError(f"a {name} of this configuration has no place for {_named(extra)} of the checkpoint.")
    missing = [key for key in own if key not in mapped and not any(re.fullmatch(keep, key) for keep in keeps)]
    if missing:
        raise BadModelError(f"nothing in the checkpoint lands at {_named(missing)} of the {name}.")
    for key, (source, value) in mapped.items():
        if _is_unlike(value, own[key]):
            raise BadModelError(
                f"{source} of the checkpoint is {value.dtype} {list(value.shape)}; {key} of a {name} of this "
                f"configuration is {own[key].dtype} {list(own[key].shape)}."
            )
    fault = nonfinite({source: value.to(own[key].dtype) for key, (source, value) in mapped.items()})
    if fault:
        raise BadModelError(f"the checkpoint holds NaN or infinity: {fault}; its model diverged before it was saved.")
    with torch.no_grad():
        for key, (_, value) in mapped.items():
            own[key].copy_(value)
    return model


def _is_unlike(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor is of another shape or kind of number; precisions may differ."""
    is_float = value.is_floating_point() and own.is_floating_point()
    return value.shape != own.shape or (value.dtype != own.dtype and not is_float)


def _mapped(weights: Mapping[str, Any], rules: Iterable[Rule | tuple[Any, ...]]) -> dict[str, tuple[str, Tensor]]:
    """By our key: the official key, and the tensor."""
    compiled = [(re.compile(rule.source), rule) for rule in (Rule(*cast("tuple[Any, ...]", r)) for r in rules)]
    mapped: dict[str, tuple[str, Tensor]] = {}
    unknown = []
    for source, value in weights.items():
        match, rule = next(((m, r) for pattern, r in compiled if (m := pattern.fullmatch(str(source)))), (None, None))
        if match is None or rule is None:
            unknown.append(str(source))
        elif rule.target is not None:
            target = rule.target(match) if callable(rule.target) else match.expand(rule.target)
            if target in mapped:
                raise BadModelError(f"{mapped[target][0]} and {source} of the checkpoint both land at {target}.")
            mapped[target] = (str(source), _plain(str(source), value, rule.change))
    if unknown:
        raise BadModelError(
            f"the checkpoint has {_named(unknown)}, which this family does not know: it is of another model, or of "
            f"another version of the repository."
        )
    return mapped


def _plain(source: str, value: Any, change: Callable[[Tensor], Tensor] | None) -> Tensor:
    if not isinstance(value, Tensor):
        raise BadModelError(f"{source} of the checkpoint is a {type(value).__name__}, not a tensor.")
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise BadModelError(
            f"{source} of the checkpoint is not a plain tensor with its numbers (it is {value.type()})."
        )
    value = value.detach()
    if change is None:
        return value
    try:
        return change(value)
    except (RuntimeError, ValueError, IndexError) as error:
        raise BadModelError(
            f"{source} of the checkpoint has an unfitting shape {list(value.shape)}: {error}."
        ) from error


def _named(keys: Iterable[str]) -> str:
    keys = list(keys)
    rest = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return (", ".join(keys[:NAMED]) or "nothing") + rest
