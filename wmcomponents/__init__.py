"""World-model components for PyTorch: parts, protocol, and dreams as environments.

What the names below need is imported when they are first used, so that ``import wmcomponents`` and ``wmc --help`` are
quick; adapters to other libraries load when they are imported.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmcomponents.models.loading import load as load
    from wmcomponents.models.official import load_official as load_official
    from wmcomponents.pretrained import BadModelError as BadModelError
    from wmcomponents.world_model import CapabilityError as CapabilityError
    from wmcomponents.world_model import Prediction as Prediction
    from wmcomponents.world_model import WorldModel as WorldModel

from wmcomponents._start_method import keep_start_method
from wmcomponents._version import __version__ as __version__

keep_start_method()

_HOMES = {
    "BadModelError": "wmcomponents.pretrained",
    "CapabilityError": "wmcomponents.world_model",
    "Prediction": "wmcomponents.world_model",
    "WorldModel": "wmcomponents.world_model",
    "load": "wmcomponents.models.loading",
    "load_official": "wmcomponents.models.official",
}
__all__ = ["BadModelError", "CapabilityError", "Prediction", "WorldModel", "load", "load_official"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wmcomponents' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
