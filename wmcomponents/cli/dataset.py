"""Data folders on the command line: one or several, opened as one buffer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torchrl.data import Composite, ReplayBuffer, TensorSpec

from wmcomponents.cli.console import say
from wmcomponents.cli.errors import UsageError
from wmcomponents.data import BadDataError, load_replay, make_replay
from wmcomponents.data.folder import SavedSteps, open_saved, read_one_save
from wmcomponents.data.layout import Layout
from wmcomponents.data.replay import check_same_steps
from wmcomponents.data.transitions import image_keys
from wmcomponents.pretrained import spec_from_json
from wmcomponents.world_model import WorldModel


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
    saved = [open_saved(path) for path in paths]
    facts = [_facts(one) for one in saved]
    first, spec = saved[0], _common_spec(saved)
    options: dict[str, Any] = {"sequence_length": sequence_length, "batch_size": batch_size, "seed": seed}
    total = sum(one.content["steps"] for one in saved)
    longest = total if len(saved) > 1 else first.rows
    if longest < sequence_length:
        raise BadDataError(
            f"{', '.join(map(str, paths))}: {longest} steps in all, fewer than one sequence of {sequence_length}. "
            f"Collect more, or ask for shorter sequences."
        )
    if len(paths) == 1:
        replay = make_replay(total, spec, num_streams=first.layout.streams, print_fn=say, **options)
        load_replay(replay, paths[0])
        replay.set_rng(torch.Generator().manual_seed(seed))
    else:
        replay = make_replay(total, spec, print_fn=say, **options)
        for path in paths:
            _append(replay, path, spec)
    shown = [key for key in spec.keys() if key not in ("next", "action", "is_init")]
    return Dataset(
        replay,
        *facts[0],
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


def _common_spec(saved: Sequence[SavedSteps]) -> Composite:
    """The spec of a step, the same in all folders.

    Raises:
        BadDataError: if they hold different kinds of steps, or their files do not fit it.
    """
    first = saved[0]
    for other in saved[1:]:
        if other.content["transition_spec"] != first.content["transition_spec"]:
            names = " and ".join(f"{one.path} ({one.content['env']})" for one in (other, first))
            raise BadDataError(f"{names} hold different kinds of steps: name folders of one environment.")
    spec = _spec(first)
    for one in saved:
        check_same_steps(one, None, Layout.of_spec(spec, one.layout.streams))
    return spec


def stored_streams(paths: Sequence[Path]) -> list[TensorDictBase]:
    """The steps of data folders as they were taken, ``[N]`` for each stream of each folder.

    Args:
        paths: the folders, of one kind of steps.

    Raises:
        BadDataError: if one is damaged, or they hold different kinds of steps.
    """
    if len(paths) > 1:
        _common_spec([open_saved(path) for path in paths])
    return [steps for path in paths for steps in _closed_streams(path)]


def spec_of(path: Path) -> Composite | None:
    """The spec of a step that a folder has noted; ``None`` without one.

    Args:
        path: the folder.
    """
    saved = open_saved(path)
    return None if saved.content.get("transition_spec") is None else _spec(saved)


def _append(replay: ReplayBuffer, path: Path, spec: Composite) -> None:
    """The steps of a folder behind those that are there."""
    for steps in _closed_streams(path):
        replay.extend(steps.select(*spec.keys(True, True)))


def _closed_streams(path: Path) -> Iterator[TensorDictBase]:
    """The streams of a folder, each ending where it breaks off: an episode cut short, not one that goes on."""
    for steps in read_one_save(path, lambda one: list(_streams(one))):
        steps["next", "truncated"][-1] |= ~steps["next", "terminated"][-1]
        steps["next", "done"][-1] = True
        steps["is_init"][0] = True  # a ring that was full begins in the middle of an episode
        yield steps


def _streams(saved: SavedSteps) -> Iterator[TensorDictBase]:
    """The steps of each stream, in order."""
    steps = cast(TensorDictBase, torch.cat(list(saved.parts()), 0))  # pyright: ignore
    yield from steps.unbind(1) if saved.layout.batch else [steps]


def _facts(saved: SavedSteps) -> tuple[str, dict[str, Any]]:
    """Which environment the steps are of; a buffer that was saved without naming one is called as its folder."""
    env, options = saved.content.get("env", saved.path.name), saved.content.get("env_options", {})
    if not isinstance(env, str) or not isinstance(options, dict):
        raise BadDataError(
            f"{saved.path} names its environment by something that is no name; save it again: "
            f"save_replay(replay, path, env=ID, env_options={{}})."
        )
    return env, options


def _spec(saved: SavedSteps) -> Composite:
    try:
        spec = cast(Composite, spec_from_json(saved.content["transition_spec"]))
        for key in ("action", "is_init", *(("next", name) for name in ("reward", "terminated", "truncated", "done"))):
            spec[key]
        image_keys(spec)
        return spec
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise BadDataError(f"{saved.path} does not describe its steps ({error}); collect the data again.") from error


def _words(kinds: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {list(shape)} {str(dtype).removeprefix('torch.')}" for key, (shape, dtype) in kinds.items()
    )
