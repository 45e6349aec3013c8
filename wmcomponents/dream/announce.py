"""What the states of a dream take, told before they take it."""

from collections.abc import Callable

from wmcomponents.world_model import WorldModel

LARGE = 2**30
"""Bytes of states from which a dream tells what it will take."""


def announce_states(model: WorldModel, rows: int, print_fn: Callable[[str], None] = print) -> int:
    """Tell what the states of so many rows will take, where that is a gigabyte or more (:data:`LARGE`).

    Args:
        model: the world model.
        rows: number of states.
        print_fn: what to tell it.

    Returns:
        Bytes.
    """
    size = model.state_bytes(rows)
    if size >= LARGE:
        each = model.state_bytes() / 2**20
        print_fn(
            f"{rows} states of {type(model).__name__} take {size / 2**30:.1f} GiB, {each:.1f} MiB each; a step that "
            f"copies them takes it twice. Fewer rows take less."
        )
    return size
