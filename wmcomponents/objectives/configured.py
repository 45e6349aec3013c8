"""The part of a config that an objective takes."""

from typing import TypeVar

from wmcomponents._arguments import of_kind

C = TypeVar("C")


def loss_part(kind: type[C], given: C | None) -> C:
    """Weights of a loss: those given, or the paper's.

    Args:
        kind: the class of the part.
        given: ``model.config.loss``, or ``None``.

    Raises:
        TypeError: if it is another thing, such as the whole config.
    """
    return _part("config", kind, given, "model.config.loss")


def optimizer_part(kind: type[C], given: C | None) -> C:
    """Numbers of an optimiser: those given, or the paper's.

    Args:
        kind: the class of the part.
        given: ``model.config.optimizer``, or ``None``.

    Raises:
        TypeError: if it is another thing, such as an optimiser.
    """
    return _part("optimizer", kind, given, "model.config.optimizer")


def _part(name: str, kind: type[C], given: C | None, where: str) -> C:
    if given is None:
        return kind()
    of_kind(name, given, kind, f"of {kind.__name__}, such as {where}")
    return given
