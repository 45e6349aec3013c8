"""`wmc train --family MAE`: what pretraining an encoder reads of the options, and what it refuses."""

from typing import TYPE_CHECKING

from wmcomponents.cli.errors import UsageError, changed

if TYPE_CHECKING:
    from wmcomponents.cli.train import TrainConfig

OF_WORLDS = {"members": "an ensemble is of world models", "start_states": "no dream begins in an encoder"}


def frames_of(config: "TrainConfig", steps: int | dict[str, int]) -> int:
    """Steps of a sequence that an encoder is pretrained on: 1, or the frames of its clips.

    Args:
        config: the arguments of `wmc train`.
        steps: updates in all.

    Raises:
        UsageError: if an option is given that this training does not read, or the updates outlast the schedules.
    """
    from wmcomponents.models import PRETRAINING

    defaults = type(config)(config.out)
    for name, reason in OF_WORLDS.items():
        if getattr(config, name) != getattr(defaults, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with a world model: {reason}; leave it out.")
    sizes = getattr(PRETRAINING[config.family].config_class, config.preset)(**changed(config.changes))
    if config.sequence_length not in (defaults.sequence_length, sizes.frames):
        raise UsageError(
            f"{config.family} reads sequences of {sizes.frames}; got --sequence-length {config.sequence_length}: leave "
            f"it out" + (", or change frames=... by --changes." if sizes.frames > 1 else ".")
        )
    if isinstance(steps, int) and steps > sizes.optimizer.steps:
        raise UsageError(
            f"--steps {steps} outlasts the schedules of {config.family} {config.preset}, which end after "
            f"{sizes.optimizer.steps} updates: add --changes optimizer.steps={steps}."
        )
    return sizes.frames
