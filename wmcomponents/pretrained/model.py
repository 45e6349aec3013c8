"""The base of all world models that can be saved and loaded."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor
from torchrl.data import Composite

from wmcomponents.pretrained.budget import Budget
from wmcomponents.pretrained.config import decoded
from wmcomponents.pretrained.folder import (
    CONFIG,
    FORMAT,
    STARTS,
    WEIGHTS,
    BadModelError,
    read_config,
    read_starts,
    read_tensors,
    sealed,
    serialized,
    write_folder,
)
from wmcomponents.pretrained.specs import elements, spec_from_json, spec_to_json
from wmcomponents.world_model import State, WorldModel

SPARE_ELEMENTS, SPARE_TENSORS = 2**22, 2**10
"""What building a model may take beyond a multiple of its weights and specs: masks, bins, tables."""

M = TypeVar("M", bound="PretrainedModel")  # not Self, which decorators that check types do not know in a method


class PretrainedModel(WorldModel):
    """A world model that is built from a frozen config and two specs, and can therefore be saved and loaded.

    Subclasses set ``config_class``, a frozen dataclass of numbers, strings, tuples and other such dataclasses, and take
    ``(config, observation_spec, action_spec)``.
    """

    config_class: ClassVar[type]
    config: Any = None

    def save_pretrained(self, path: str | Path, *, starts: State | None = None) -> Path:
        """Write the model to a folder, atomically: a reader sees the old folder or the new one.

        (Where the system cannot exchange two folders in one step, which Linux and macOS can, a crash between two
        renames leaves the old one beside the path.)

        Args:
            path: the folder; replaced if it is one that holds a saved model and nothing else.
            starts: start states ``[N, ...]`` to keep beside the model, so that its dreams can begin without data.

        Raises:
            FileExistsError: if the path exists and is not a saved model, or holds files that would be lost.
            ValueError: if the starts are not states of this model, or an observation or action is too large.
            TypeError: if the model has no config, or its config holds values, or a spec is of a kind, that cannot be
                saved.
        """
        path = Path(path)
        if self.config is None:
            raise TypeError(
                f"this {type(self).__name__} was put together by hand and has no config to build it from again. Give "
                f"it a class with a config_class, as DreamerV3 is; or keep its state_dict() and the code that built it."
            )
        write_folder(path, self._files(starts))
        return path

    def _files(self, starts: State | None) -> dict[str, bytes]:
        weights = serialized(self.state_dict())
        content: dict[str, Any] = {
            "format": FORMAT,
            "model": type(self).__name__,
            "config": dataclasses.asdict(self.config),
            "observation_spec": spec_to_json(self.observation_spec),
            "action_spec": spec_to_json(self.action_spec),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        files = {WEIGHTS: weights}
        if starts is not None:
            fault = _unlike_states(starts, self.state_spec)
            if fault:
                raise ValueError(f"starts must be states [N, ...] of this {type(self).__name__}: {fault}.")
            files[STARTS] = serialized(starts)
            content["starts_sha256"] = hashlib.sha256(files[STARTS]).hexdigest()
        try:
            files[CONFIG] = sealed(content)
            comes_back = decoded(json.loads(files[CONFIG])["config"], self.config_class, "config")
            if comes_back != self.config:
                raise ValueError(f"it would come back as {comes_back}")
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{type(self.config).__name__} cannot be saved: its fields must be finite numbers, strings or tuples "
                f"of them, as annotated ({error})."
            ) from error
        return files

    @classmethod
    def from_pretrained(cls: type[M], path: str | Path, *, device: torch.device | str | None = None) -> M:
        """Load a model that :meth:`save_pretrained` wrote; torch's global random state stays as it is.

        Args:
            path: the folder.
            device: where the weights go; the CPU if not given.

        Raises:
            BadModelError: if the folder is missing, incomplete, damaged, or holds another kind of model.
        """
        path = Path(path)
        content = read_config(path)
        if content["model"] != cls.__name__:
            raise BadModelError(
                f"{path} holds a {content['model']!r}, not a {cls.__name__}: use wmcomponents.load(path), which picks "
                f"the class."
            )
        weights = read_tensors(path, WEIGHTS, content["weights_sha256"])
        starts = read_starts(path)
        try:
            config = decoded(content["config"], cls.config_class, "config")
            observation_spec = cast(Composite, spec_from_json(content["observation_spec"]))
            action_spec = spec_from_json(content["action_spec"])
            size = sum(value.numel() for value in weights.values())
            size += elements(observation_spec) + elements(action_spec)
            # The initial weights are overwritten; drawing them must not show in the caller's own draws.
            budget = Budget(8 * size + SPARE_ELEMENTS, 8 * len(weights) + SPARE_TENSORS)
            with torch.random.fork_rng(devices=[]), budget:
                model = cast(Any, cls)(config, observation_spec, action_spec)
            _check_weights(weights, model.state_dict())
            # Copies, so that memory is laid out as torch lays it out, and results do not depend on the file's layout.
            model.load_state_dict({key: value.clone() for key, value in weights.items()}, strict=True, assign=True)
            fault = "" if starts is None else _unlike_states(starts, model.state_spec)
        except Exception as error:  # the constructor was given numbers from outside: it may fail in any way
            raise BadModelError(f"{path} does not describe a {cls.__name__} that fits its weights: {error}") from error
        if fault:
            raise BadModelError(f"{path / STARTS} does not hold states of this model: {fault}.")
        return model.to(device).eval() if device is not None else model.eval()


def _unlike_states(states: Mapping[str, Tensor], spec: Composite) -> str:
    """In words, why tensors are not N states of a model; empty if they are."""
    if set(states) != set(spec.keys()):
        return f"their keys are {sorted(states)}, not {sorted(map(str, spec.keys()))}"
    for key, value in states.items():
        if tuple(value.shape[1:]) != tuple(spec[key].shape) or value.ndim != len(spec[key].shape) + 1:
            return f"{key!r} has the shape {list(value.shape)}, not [N, {', '.join(map(str, spec[key].shape))}]"
    lengths = {len(value) for value in states.values()}
    return "" if len(lengths) == 1 and lengths != {0} else f"they have {sorted(lengths)} rows; one number, at least 1"


def _check_weights(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse what ``load_state_dict(assign=True)`` would take: another kind of number, or another shape."""
    for key in own.keys() & weights.keys():
        was, now = weights[key], own[key]
        is_float = was.is_floating_point() and now.is_floating_point()
        if was.shape != now.shape or (was.dtype != now.dtype and not is_float):
            raise ValueError(f"{key} is {was.dtype} {list(was.shape)}, expected {now.dtype} {list(now.shape)}")
