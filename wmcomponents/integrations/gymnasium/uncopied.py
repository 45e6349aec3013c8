"""A user's object inside an environment's spec, which Gymnasium copies whenever a wrapper is put around."""

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Uncopied(Generic[T]):
    """Stands for an object in the recorded arguments of a wrapper; copies of it stand for the same object.

    Args:
        value: the object.
    """

    def __init__(self, value: T) -> None:
        self.value = value

    def __copy__(self) -> "Uncopied[T]":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Uncopied[T]":
        return self

    def __repr__(self) -> str:
        return f"Uncopied({type(self.value).__name__})"


class UncopiedArguments(dict[str, Any]):
    """The arguments of an environment in its spec; copies of it hold the same objects."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "UncopiedArguments":
        return UncopiedArguments(self)
