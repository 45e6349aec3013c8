"""Errors of the command line."""


class UsageError(ValueError):
    """The arguments make no sense together; nothing was begun."""


def at_least(minimum: int, **counts: int) -> None:
    """Refuse counts that are too small.

    Raises:
        UsageError: naming the option.
    """
    for name, count in counts.items():
        if count < minimum:
            raise UsageError(f"--{name.replace('_', '-')} is at least {minimum}; got {count}.")
