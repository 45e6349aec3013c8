"""A saved dream, read back: whatever is not one is refused before anything changes."""

from typing import Any, NamedTuple, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from wmcomponents.dream.checks import Layout, check_finite_states, check_layout, layout_of, told
from wmcomponents.world_model import State


class SavedDream(NamedTuple):
    """What decides the future of a dream, on its device, shared with nothing.

    Attributes:
        state: the rows' states.
        elapsed: their ages, int64 ``[N, 1]``.
        done: bool ``[N, 1]``.
        generator: the state of the generator.
        played: how many steps of given noise were taken.
        episodes: how many episodes were begun, int64.
    """

    state: State
    elapsed: Tensor
    done: Tensor
    generator: Tensor
    played: int
    episodes: Tensor


def read_saved(saved: Any, layout: Layout, device: torch.device, model: nn.Module) -> SavedDream:
    """Read what ``Simulator.get_state`` gave.

    Args:
        saved: the saved state.
        layout: of the states of the dream that is to go on from it.
        device: where that dream stands.
        model: its model, for the words of an error.

    Raises:
        TypeError: if it is no TensorDict.
        ValueError: if an entry is missing, or has another shape or dtype than this dream's.
        NotFiniteError: if a state holds a NaN or an infinity (on a CPU).
    """
    if not isinstance(saved, TensorDictBase):
        raise TypeError(f"set_state takes what get_state gave, a TensorDict; got a {type(saved).__name__}.")
    if set(saved.keys()) != set(SavedDream._fields) or not isinstance(saved["state"], TensorDictBase):
        raise ValueError(
            f"a saved dream has the entries {', '.join(SavedDream._fields)}; got "
            f"{', '.join(sorted(map(str, saved.keys())))}. get_state() makes one."
        )
    entries = cast(TensorDictBase, saved["state"]).items()
    state = {str(key): cast(Tensor, value).to(device, copy=True) for key, value in entries}
    check_layout(state, layout, "the saved states", model)
    if device.type == "cpu":
        check_finite_states(state, "the saved state", "it cannot be dreamt on from.")
    elapsed, done, played, episodes = (cast(Tensor, saved[key]) for key in ("elapsed", "done", "played", "episodes"))
    _check_numbers(elapsed, done, played, episodes, rows=next(iter(layout.values()))[0][0])
    generator = cast(Tensor, saved["generator"]).cpu()
    try:
        torch.Generator(device).set_state(generator)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the saved generator is not one of the device {device.type!r} ({error}): a dream goes on where it was "
            f"saved, on the same kind of device."
        ) from error
    elapsed, done, episodes = (value.to(device, copy=True) for value in (elapsed, done, episodes))
    return SavedDream(state, elapsed, done, generator, int(played), episodes)


def _check_numbers(elapsed: Tensor, done: Tensor, played: Tensor, episodes: Tensor, rows: int) -> None:
    """Refuse clocks and flags of another number of rows or another kind."""
    got = layout_of({"elapsed": elapsed, "done": done, "played": played, "episodes": episodes})
    each, count = (rows, 1), ((), torch.int64)
    wanted: Layout = {"elapsed": (each, torch.int64), "done": (each, torch.bool), "played": count, "episodes": count}
    if got != wanted:
        raise ValueError(f"beside the states a saved dream of {rows} rows has {told(wanted)}; got {told(got)}.")
    if any(int(value.min()) < 0 for value in (elapsed, played, episodes)):
        raise ValueError("the clocks of a saved dream count from 0; this one has a negative one.")
