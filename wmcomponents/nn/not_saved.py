"""A module of the user's inside a model, which is not saved with it."""

from typing import Any

from torch import nn


class NotSaved(nn.Module):
    """A module of the user's inside a model: it moves with it, and is neither trained nor saved with it.

    Args:
        module: the user's.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), NotSaved(nn.Linear(2, 2)))
        >>> list(model.state_dict())
        ['0.weight', '0.bias']
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **options: Any) -> Any:
        """The module's own."""
        return self.module(*args, **options)

    def train(self, mode: bool = True) -> "NotSaved":
        """Its own mode alone: the module stays in that in which its owner left it."""
        self.training = mode
        return self

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Nothing."""
        return options.get("destination", {})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # What was not saved is not missing: its own weights stand in for themselves.
        own = self.module.state_dict(prefix=f"{prefix}module.")
        state_dict.update(own)
