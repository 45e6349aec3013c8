"""Optional dependencies: import them late, and name the extra when one is missing."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: the module to import, for example ``"stable_baselines3"``.
        extra: the extra of this package that installs it.

    Raises:
        MissingExtraError: if the module is not installed. An import error raised *inside* the module is passed on
            unchanged, since installing the extra again would not mend it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"This needs the package {module!r}, which is not installed; run: pip install 'wmcomponents[{extra}]'"
        ) from error
