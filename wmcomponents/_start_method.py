"""Importing TorchRL decides how the whole process starts its workers; importing this library must not."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class StartMethodKeeper(MetaPathFinder):
    """Watches for the import of TorchRL, which sets the start method where nobody has, and unsets it then.

    TorchRL's own workers are not touched by that: they ask for a context of their own.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Find TorchRL by the other finders, and have it loaded with the start method put back."""
        if fullname != "torchrl":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            _put_back_after(spec)
        return spec


def keep_start_method() -> None:
    """See to it that TorchRL's first import, whoever does it from here on, leaves the start method as it was."""
    if "torchrl" not in sys.modules and not any(isinstance(finder, StartMethodKeeper) for finder in sys.meta_path):
        sys.meta_path.insert(0, StartMethodKeeper())


def _put_back_after(spec: ModuleSpec) -> None:
    loader: Any = spec.loader
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        import multiprocessing

        unset = multiprocessing.get_start_method(allow_none=True) is None
        load(module)
        if unset:
            multiprocessing.set_start_method(None, force=True)

    loader.exec_module = exec_module
