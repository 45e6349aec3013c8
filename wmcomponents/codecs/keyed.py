"""Modules under arbitrary string keys."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class KeyedModules(nn.Module, Generic[M]):
    """Like ``ModuleDict``, for keys that come from outside and may be anything ("pos", "type", "agent.pos").

    The name of a submodule is its key where that is allowed; dots become underscores, and a clash is resolved by a
    trailing underscore.

    Args:
        modules: by key; their order is kept.
    """

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        for key, module in modules.items():
            name = key.replace(".", "_")
            while not name or hasattr(self, name):
                name += "_"
            self.names[key] = name
            self.add_module(name, module)

    def __getitem__(self, key: str) -> M:
        return getattr(self, self.names[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def items(self) -> list[tuple[str, M]]:
        """Pairs of key and module, in order."""
        return [(key, self[key]) for key in self.names]
