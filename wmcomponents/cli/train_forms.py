"""What `wmc train` trains, and which of its options that reads: one without effect is refused, not ignored."""

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

from wmcomponents.cli.env_options import NAMES
from wmcomponents.cli.errors import UsageError

if TYPE_CHECKING:
    from wmcomponents.cli.train import TrainConfig

OF_UNCERTAINTY = {"uncertainty_penalty", "uncertainty_limit"}
OF_AGENTS = {"agent", "model", "dream_only", "env", "num_envs", "films", *OF_UNCERTAINTY, *NAMES}
OF_SEQUENCES = {"batch_size", "sequence_length", "start_states"}
DREAM_ONLY = {"agent", "model", "dream_only", "data", "steps", "seed", "device", "threads", *OF_UNCERTAINTY}
ONLINE = {
    "agent", "env", "num_envs", "films", "preset", "changes", "steps", "seed", "logger", "device", "threads",
    "parallel", *NAMES
}  # fmt: skip


def refuse_unread(config: "TrainConfig") -> None:
    """Refuse options that the training asked for does not read.

    Raises:
        UsageError: naming them, and what to do.
    """
    options = [one for one in fields(config) if one.default is not MISSING]
    given = {one.name for one in options if getattr(config, one.name) != one.default}
    if config.agent is None:
        what, unread, remedy = "a world model from --data", given & OF_AGENTS, "they go with --agent NAME"
    elif config.dream_only:
        read = DREAM_ONLY | (OF_SEQUENCES if config.data else set())
        what, unread, remedy = f"{config.agent} by --dream-only", given - read, "leave them out"
        if unread & OF_SEQUENCES and not config.data:
            remedy += ", or pass the --data that sequences are drawn from"
    else:
        what, unread = f"{config.agent} online", given - ONLINE
        remedy = "leave them out, or give the agent's numbers as --changes name=value"
        if unread & {"model", "data"}:
            remedy += "; in the dreams of a saved model an agent is trained by --model DIR --dream-only"
    if unread:
        named = ", ".join(f"--{one.name.replace('_', '-')}" for one in options if one.name in unread)
        raise UsageError(f"training {what} does not read {named}: {remedy}.")
