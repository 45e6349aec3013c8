"""Configs made of parts: network, loss, optimiser."""

import dataclasses
import difflib
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast, get_type_hints

C = TypeVar("C", bound="ModelConfig")


@dataclass(frozen=True)
class ModelConfig:
    """Base of a family's config: a frozen dataclass of parts, each a frozen dataclass of plain numbers and texts.

    Entries are reached as ``config.network.units``. :meth:`vary` changes them by their own name, wherever they lie; a
    preset is a classmethod that varies the defaults.

    Attributes:
        moved: entries that an earlier version wrote under another path, old to new, both dotted. Where an earlier
            config had none of the part that such an entry was in, the new entry is the default's.

    Example:
        >>> from dataclasses import dataclass, field
        >>> @dataclass(frozen=True)
        ... class NetworkConfig:
        ...     units: int = 64
        >>> @dataclass(frozen=True)
        ... class LossConfig:
        ...     free_nats: float = 1.0
        >>> @dataclass(frozen=True)
        ... class Config(ModelConfig):
        ...     network: NetworkConfig = field(default_factory=NetworkConfig)
        ...     loss: LossConfig = field(default_factory=LossConfig)
        >>> Config().vary(units=32).network
        NetworkConfig(units=32)
        >>> Config().vary(**{"loss.free_nats": 0.1}).loss
        LossConfig(free_nats=0.1)
    """

    moved: ClassVar[Mapping[str, str]] = {}

    def vary(self: C, **changes: Any) -> C:
        """A copy with some entries changed.

        Args:
            **changes: an entry or a whole part, by its own name where it is the only one of that name (``units=32``,
                ``loss=...``), or by its path (``**{"network.units": 32}``).

        Raises:
            ValueError: if there is no such entry, or several parts have it; the message names what there is.
        """
        return cast(C, _replaced(self, {path_of(type(self), name): value for name, value in changes.items()}))

    @classmethod
    def entries(cls) -> tuple[str, ...]:
        """Paths of all entries, dotted, in order."""
        return tuple(paths(cls))

    @classmethod
    def regrouped(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """What an earlier version wrote, in today's parts.

        Args:
            content: a config as JSON holds it: flat, or with entries under the paths of :attr:`moved`.

        Returns:
            The same entries under today's paths; what has no place now is kept where it was, to be refused by name.
        """
        leaves = dict(_leaves(content))
        out: dict[str, Any] = {}
        for path, value in leaves.items():
            _put(out, cls._today(path).split("."), value)
        for old, new in cls.moved.items():
            if any(leaves.get(part, old) is None for part in _above(old)):
                _put(out, new.split("."), functools.reduce(getattr, new.split("."), cls()))
        return out

    @classmethod
    def _today(cls, path: str) -> str:
        """The path today of an entry that an earlier version wrote; its own where it has no place now."""
        if path in cls.moved:
            return cls.moved[path]
        first, dot, rest = path.partition(".")
        is_here = first in {field.name for field in dataclasses.fields(cls)}
        places = [] if is_here else _by_name(cls).get(first, [])
        return places[0] + dot + rest if len(places) == 1 else path


def paths(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the entries of a dataclass whose fields may be dataclasses, in order.

    Args:
        kind: the dataclass.
        prefix: put before each.
    """
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from paths(cast(type, hints[field.name]), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def path_of(kind: type, name: str) -> str:
    """The dotted path of an entry or a part that is named by its path or by its own name.

    Args:
        kind: the config's class.
        name: what a user wrote.

    Raises:
        ValueError: if there is no such entry, or several parts have one of that name.
    """
    found = _by_name(kind)
    everything = {path for options in found.values() for path in options}
    if name in everything:
        return name
    options = found.get(name, [])
    if len(options) == 1:
        return options[0]
    if options:
        raise ValueError(f"{kind.__name__} has {name} in several parts: name one of {', '.join(options)}.")
    close = difflib.get_close_matches(name, [*found, *everything], n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{kind.__name__} has no {name!r}; it has {', '.join(paths(kind))}.{meant}")


def _by_name(kind: type) -> dict[str, list[str]]:
    """Paths of entries and parts, by the last word of each."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in (*paths(kind), *_parts(kind)):
        found[path.rpartition(".")[2]].append(path)
    return found


def _above(path: str) -> Iterator[str]:
    """Paths of the parts that an entry is in."""
    while path := path.rpartition(".")[0]:
        yield path


def _parts(kind: type, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield prefix + field.name
            yield from _parts(cast(type, hints[field.name]), f"{prefix}{field.name}.")


def _replaced(value: Any, changes: Mapping[str, Any]) -> Any:
    """A dataclass with entries replaced; whole parts first, so that an entry of a new part can be changed too."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(
            f"a part of a config was given as {value!r}, which has no {', '.join(changes)}: change a part's entries by "
            f"their names, or give a whole part, such as config.loss."
        )
    own = {path: new for path, new in changes.items() if "." not in path}
    value = dataclasses.replace(value, **own)
    deeper: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, new in changes.items():
        part, dot, rest = path.partition(".")
        if dot:
            deeper[part][rest] = new
    parts = {part: _replaced(getattr(value, part), below) for part, below in deeper.items()}
    return dataclasses.replace(value, **parts)


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _put(out: dict[str, Any], path: list[str], value: Any) -> None:
    *parts, last = path
    for part in parts:
        out = out.setdefault(part, {})
        if not isinstance(out, dict):
            return
    out[last] = value
