"""Errors of the command line."""


class UsageError(ValueError):
    """The arguments make no sense together; nothing was begun."""


def known_family(family: str, preset: str) -> None:
    """Refuse a family or a preset that does not exist.

    Raises:
        UsageError: naming those that do.
    """
    from wmcomponents.models import MODELS, presets

    if family not in MODELS:
        raise UsageError(f"--family is one of {', '.join(MODELS)}; got {family!r}.")
    if preset not in presets(family):
        raise UsageError(f"--preset of {family} is one of {', '.join(presets(family))}; got {preset!r}.")


def at_least(minimum: int, **counts: int) -> None:
    """Refuse counts that are too small.

    Raises:
        UsageError: naming the option.
    """
    for name, count in counts.items():
        if count < minimum:
            raise UsageError(f"--{name.replace('_', '-')} is at least {minimum}; got {count}.")
