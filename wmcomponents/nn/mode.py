"""Using a module in eval mode without changing the mode it is in."""

from torch import nn

_set = object.__setattr__
"""A module's own ``__setattr__`` first asks whether a flag is a parameter, at ten times the price."""


class EvalMode:
    """Holds a module in eval mode while it is used, each part back in its own mode afterwards.

    For what runs somebody else's model at every step: dropout and running statistics must not depend on where its owner
    left ``train()``, and its owner must not find it in another mode. The parts are listed once, so that a module that
    is in eval mode already costs a look at their flags.

    Args:
        module: the module; parts that it gets later are not known here.

    Example:
        >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
        >>> with EvalMode(model):
        ...     [part.training for part in model.modules()]
        [False, False, False]
        >>> [part.training for part in model.modules()]
        [True, True, False]
    """

    def __init__(self, module: nn.Module) -> None:
        self._parts = list(module.modules())
        self._changed: list[list[nn.Module]] = []

    def __enter__(self) -> None:
        changed = [part for part in self._parts if part.training]
        for part in changed:
            _set(part, "training", False)
        self._changed.append(changed)

    def __exit__(self, *error: object) -> None:
        for part in self._changed.pop():
            _set(part, "training", True)
