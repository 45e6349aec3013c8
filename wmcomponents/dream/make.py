"""A simulator from a model in memory or on disk."""

from pathlib import Path

from typing_extensions import Unpack

from wmcomponents.dream.options import StepOptions
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import PoolStarts, Starts
from wmcomponents.models.loading import load_with_starts
from wmcomponents.world_model import WorldModel

Model = WorldModel | str | Path
"""A world model, or the path of a saved one."""


def make_simulator(
    model: Model,
    starts: Starts | None = None,
    *,
    batch_size: int = 1,
    seed: int | None = None,
    compile: bool = False,
    **options: Unpack[StepOptions],
) -> Simulator:
    """A simulator from a model, or from the path of a saved one together with the start states saved beside it.

    Args:
        model: a world model, or a folder written by ``save_pretrained``.
        starts: where dreams begin; by default the saved start states, else the model's prior.
        batch_size: the number of rows.
        seed: of the rows' common generator; fresh entropy if not given.
        compile: compile the model's step.
        **options: how the dream goes on, as :class:`StepOptions` says.

    Raises:
        BadModelError: if the folder holds no valid saved model.
        CapabilityError, TypeError, ValueError: as :class:`Simulator`.
    """
    if isinstance(model, (str, Path)):
        model, saved = load_with_starts(model)
        starts = PoolStarts(saved) if starts is None and saved is not None else starts
    return Simulator(model, starts, batch_size=batch_size, seed=seed, compile=compile, **options)
