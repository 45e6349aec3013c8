"""Whether the data of a replay buffer are what a model was made for."""

from typing import Any, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torchrl.data import Categorical, ReplayBuffer, TensorSpec

from wmcomponents.pretrained import PretrainedModule
from wmcomponents.world_model import WorldModel


class OtherDataError(ValueError):
    """The buffer holds steps of another environment than the model was made for; the message says what differs."""


def check_data(
    model: WorldModel | PretrainedModule, sequences: TensorDictBase, action_key: NestedKey = "action"
) -> None:
    """Compare a batch of sequences ``[B, T]`` with a model's specs; entries that the batch lacks are not compared.

    Args:
        model: has the specs; one that is no world model has none of actions, and one that infers them reads none.
        sequences: as the buffer gives them.
        action_key: under which the action lies.

    Raises:
        OtherDataError: naming every entry that differs.
    """
    words = [_unlike(key, spec, sequences) for key, spec in model.observation_spec.items(True, True)]
    if isinstance(model, WorldModel) and not model.infers_actions:
        # A buffer may keep actions in another type than the spec's: they are turned into numbers anyway.
        words.append(_unlike(action_key, model.action_spec, sequences, is_any_type=True))
    words = [word for word in words if word]
    if words:
        raise OtherDataError(
            f"the replay buffer holds steps of another environment than this {type(model).__name__} was made for: "
            f"{'; '.join(words)}. Build the model from the specs of the environment that the data are of: "
            f"observation_spec(env), action_spec(env)."
        )


def _unlike(key: NestedKey, spec: TensorSpec, sequences: TensorDictBase, is_any_type: bool = False) -> str:
    value = sequences.get(key, None)
    if value is None or sequences.ndim != 2:
        return ""
    given, wanted = list(value.shape[2:]), list(spec.shape)
    is_other_type = not is_any_type and value.is_floating_point() != spec.dtype.is_floating_point
    if given != wanted or is_other_type:
        return (
            f"{key!r} is {str(value.dtype).removeprefix('torch.')} {given}, and the model takes "
            f"{str(spec.dtype).removeprefix('torch.')} {wanted}"
        )
    if type(spec) is Categorical and value.numel() and not 0 <= int(value.min()) <= int(value.max()) < spec.n:
        return f"{key!r} goes up to {int(value.max())}, and the model knows 0 to {spec.n - 1}"
    return ""


def non_finite_keys(replay: ReplayBuffer, rows: int = 4096) -> list[NestedKey]:
    """Keys of a buffer's data that hold NaN or infinity somewhere.

    Args:
        replay: the buffer.
        rows: how many are read at once.
    """
    storage = cast(Any, replay.storage)
    written = storage.shape[0] if storage.shape else 0
    found: set[NestedKey] = set()
    for first in range(0, written, rows):
        part = storage.get(torch.arange(first, min(first + rows, written)))
        leaves = part.items(True, True)
        found.update(key for key, value in leaves if value.is_floating_point() and not bool(value.isfinite().all()))
    return sorted(found, key=str)
