"""A user's object inside an environment's spec, which Gymnasium copies whenever a wrapper is put around."""

from typing import Any


class UncopiedArguments(dict[str, Any]):
    """The arguments of an environment in its spec; copies of it hold the same objects."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "UncopiedArguments":
        return UncopiedArguments(self)
