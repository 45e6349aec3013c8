"""Data folders: a saved replay buffer with a JSON file that says what is in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torchrl.data import Composite, ReplayBuffer, TensorDictReplayBuffer, TensorSpec

from wmcomponents.cli.console import say
from wmcomponents.cli.errors import UsageError
from wmcomponents.data import load_replay, make_replay, save_replay
from wmcomponents.pretrained import spec_from_json, spec_to_json
from wmcomponents.world_model import WorldModel

FORMAT = 1
DESCRIPTION = "data.json"


class BadDataError(ValueError):
    """A data folder is missing, damaged, or does not fit the model or the other folders."""


@dataclass(frozen=True)
class Dataset:
    """Real steps, ready to be sampled.

    Attributes:
        replay: gives sequences ``[B, T]``.
        env: id of the environment.
        env_options: how it was built (``data.make_env``).
        observation_spec: of one observation.
        action_spec: of one action.
    """

    replay: ReplayBuffer
    env: str
    env_options: dict[str, Any]
    observation_spec: Composite
    action_spec: TensorSpec


def write_dataset(
    path: Path, replay: TensorDictReplayBuffer, spec: Composite, *, env: str, env_options: dict[str, Any], **facts: Any
) -> None:
    """Write a buffer and its description.

    Args:
        path: the folder.
        replay: the buffer, one stream.
        spec: of one transition.
        env: id of the environment.
        env_options: how it was built.
        **facts: more to say about the data.
    """
    save_replay(replay, path)
    content = {
        "format": FORMAT,
        "env": env,
        "env_options": env_options,
        "steps": len(replay),
        **facts,
        "transition_spec": spec_to_json(spec),
    }
    (path / DESCRIPTION).write_text(json.dumps(content, indent=2) + "\n")


def read_description(path: Path) -> dict[str, Any]:
    """What a data folder says about itself.

    Raises:
        BadDataError: if it is no data folder.
    """
    try:
        content = json.loads((path / DESCRIPTION).read_text())
    except OSError as error:
        raise BadDataError(
            f"{path} is no data folder: {DESCRIPTION} cannot be read ({error.strerror}). "
            f"Make one: wmc collect --env ID --steps 5000 --out {path}"
        ) from error
    except ValueError as error:
        raise BadDataError(f"{path / DESCRIPTION} is not valid JSON ({error}); collect the data again.") from error
    needed = {"format", "env", "env_options", "steps", "transition_spec"}
    if not isinstance(content, dict) or not needed <= set(content) or content["format"] != FORMAT:
        raise BadDataError(
            f"{path / DESCRIPTION} was not written by this version of wmc collect; collect the data again."
        )
    return content


def open_dataset(paths: Sequence[Path], *, sequence_length: int, batch_size: int, seed: int) -> Dataset:
    """Load one data folder, or several of one environment, into one buffer.

    Args:
        paths: the folders.
        sequence_length: T of what is sampled.
        batch_size: B of what is sampled.
        seed: of the sampling.

    Raises:
        UsageError: if no folder is named.
        BadDataError: if one is damaged, or they hold different kinds of steps.
    """
    if not paths:
        raise UsageError("name at least one data folder.")
    contents = [read_description(path) for path in paths]
    first = contents[0]
    for path, content in zip(paths[1:], contents[1:], strict=True):
        if content["transition_spec"] != first["transition_spec"]:
            raise BadDataError(
                f"{path} ({content['env']}) and {paths[0]} ({first['env']}) hold different kinds of steps."
            )
    spec = _spec(paths[0], first)
    options: dict[str, Any] = {"sequence_length": sequence_length, "batch_size": batch_size}
    total = sum(content["steps"] for content in contents)
    if total < sequence_length:
        raise BadDataError(
            f"{', '.join(map(str, paths))}: {total} steps in all, fewer than one sequence of {sequence_length}. "
            f"Collect more, or ask for shorter sequences."
        )
    replay = make_replay(total, spec, seed=seed, print_fn=say, **options)
    if len(paths) == 1:
        load_replay(replay, paths[0])
        replay.set_rng(torch.Generator().manual_seed(seed))
    else:
        for path, content in zip(paths, contents, strict=True):
            part = make_replay(content["steps"], spec, sequence_length=1, batch_size=1, print_fn=None)
            steps = load_replay(part, path)[:].select(*spec.keys(True, True)).clone()
            # The stream breaks off here, and the next folder's follows: an episode cut short, not one that goes on.
            steps["next", "truncated"][-1] |= ~steps["next", "terminated"][-1]
            steps["next", "done"][-1] = True
            replay.extend(steps)
    shown = [key for key in spec.keys() if key not in ("next", "action", "is_init")]
    return Dataset(
        replay,
        first["env"],
        first["env_options"],
        Composite({key: cast(TensorSpec, spec[key]) for key in shown}),
        cast(TensorSpec, spec["action"]),
    )


def check_fits(model: WorldModel, data: Dataset, model_path: Path) -> None:
    """Refuse data of another kind than the model was trained on.

    Raises:
        BadDataError: naming both.
    """
    wanted = {str(key): (tuple(leaf.shape), leaf.dtype) for key, leaf in model.observation_spec.items()}
    given = {str(key): (tuple(leaf.shape), leaf.dtype) for key, leaf in data.observation_spec.items()}
    if wanted != given or model.action_spec.shape != data.action_spec.shape:
        raise BadDataError(
            f"{model_path} observes {_words(wanted)} and acts in {tuple(model.action_spec.shape)}; the data of "
            f"{data.env} shows {_words(given)} and acts in {tuple(data.action_spec.shape)}."
        )


def _spec(path: Path, content: dict[str, Any]) -> Composite:
    try:
        return cast(Composite, spec_from_json(content["transition_spec"]))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise BadDataError(f"{path / DESCRIPTION} describes no steps ({error}); collect the data again.") from error


def _words(kinds: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {list(shape)} {str(dtype).removeprefix('torch.')}" for key, (shape, dtype) in kinds.items()
    )
