"""Models on disk: safetensors weights beside a config.json that carries their hash. Nothing is ever unpickled."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
    Unbounded,
)

from typing_extensions import Self

from wmcomponents.world_model import State, WorldModel

FORMAT = 1
CONFIG, WEIGHTS, STARTS = "config.json", "model.safetensors", "starts.safetensors"


class BadModelError(ValueError):
    """A model folder is missing, incomplete, damaged or of another kind; nothing was loaded from it."""


class PretrainedModel(WorldModel):
    """A world model that is built from a frozen config and two specs, and can therefore be saved and loaded.

    Subclasses set ``config_class`` and take ``(config, observation_spec, action_spec)``.
    """

    config_class: ClassVar[type]
    config: Any

    def save_pretrained(self, path: str | Path, *, starts: State | None = None) -> Path:
        """Write the model to a folder, atomically: a reader sees the old folder or the new one.

        Args:
            path: the folder; replaced if it is one that holds a saved model.
            starts: start states ``[N, ...]`` to keep beside the model, so that its dreams can begin without data.

        Raises:
            FileExistsError: if the path exists and is not a saved model.
        """
        path = Path(path)
        if path.exists() and any(path.iterdir() if path.is_dir() else [path]) and not (path / CONFIG).is_file():
            raise FileExistsError(f"{path} exists and holds no saved model: choose another folder, or empty this one.")
        weights = _serialized(self.state_dict())
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
            files[STARTS] = _serialized(starts)
            content["starts_sha256"] = hashlib.sha256(files[STARTS]).hexdigest()
        content["sha256"] = _digest(content)
        files[CONFIG] = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        for name, data in files.items():
            with open(fresh / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        os.chmod(fresh, 0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.replace(path, old / path.name)
            os.replace(fresh, path)
            shutil.rmtree(old)
        else:
            os.replace(fresh, path)
        return path

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: torch.device | str | None = None) -> Self:
        """Load a model that :meth:`save_pretrained` wrote.

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
                f"{path} holds a {content['model']!r}, not a {cls.__name__}: use wmcomponents.load(path), which picks the class."
            )
        config = _config_from_json(cls.config_class, content["config"], path)
        weights = _tensors(path, WEIGHTS, content["weights_sha256"])
        try:
            observation_spec = cast(Composite, spec_from_json(content["observation_spec"]))
            model = cast(Any, cls)(config, observation_spec, spec_from_json(content["action_spec"]))
            model.load_state_dict(weights, strict=True)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            raise BadModelError(f"{path} does not describe a {cls.__name__} that fits its weights: {error}") from error
        return model.to(device).eval() if device is not None else model.eval()


def read_config(path: str | Path) -> dict[str, Any]:
    """The checked content of a model folder's ``config.json``.

    Raises:
        BadModelError: if it is missing, not JSON, was changed after it was saved, or has another format.
    """
    path = Path(path)
    try:
        content = json.loads((path / CONFIG).read_bytes())
    except OSError as error:
        raise BadModelError(f"{path} holds no readable {CONFIG}: it is not a saved model ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"{path / CONFIG} is not valid JSON; save the model again ({error}).") from error
    needed = {"format", "model", "config", "observation_spec", "action_spec", "weights_sha256", "sha256"}
    if not isinstance(content, dict) or not needed <= set(content):
        lacks = sorted(needed - set(content)) if isinstance(content, dict) else "everything"
        raise BadModelError(f"{path / CONFIG} is not the config of a saved model: it lacks {lacks}.")
    if content["sha256"] != _digest(content):
        raise BadModelError(
            f"{path / CONFIG} was changed after the model was saved. Build a model with another config and save that."
        )
    if content["format"] != FORMAT:
        raise BadModelError(f"{path} has format {content['format']}; this version reads format {FORMAT}.")
    return content


def read_starts(path: str | Path) -> State | None:
    """The start states kept beside a saved model, ``[N, ...]``, or ``None`` if there are none.

    Raises:
        BadModelError: if they are damaged.
    """
    content = read_config(path)
    return _tensors(Path(path), STARTS, content["starts_sha256"]) if "starts_sha256" in content else None


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    """A torchrl spec as plain JSON."""
    if isinstance(spec, Composite):
        return {"kind": "Composite", "entries": {str(key): spec_to_json(leaf) for key, leaf in spec.items()}}
    content: dict[str, Any] = {"shape": list(spec.shape), "dtype": str(spec.dtype).removeprefix("torch.")}
    if isinstance(spec, MultiOneHot):
        return {**content, "kind": "MultiOneHot", "n": [box.n for box in cast(Any, spec.space)]}
    if isinstance(spec, MultiCategorical):
        return {**content, "kind": "MultiCategorical", "n": cast(Any, spec.nvec).tolist()}
    if isinstance(spec, OneHot):
        return {**content, "kind": "OneHot", "n": cast(Any, spec.space).n}
    if isinstance(spec, Binary):
        return {**content, "kind": "Binary"}
    if isinstance(spec, Categorical):
        return {**content, "kind": "Categorical", "n": cast(Any, spec.space).n}
    if isinstance(spec, Bounded):
        return {**content, "kind": "Bounded", "low": _bound(spec.space.low), "high": _bound(spec.space.high)}
    if isinstance(spec, Unbounded):
        return {**content, "kind": "Unbounded"}
    raise TypeError(f"a spec of type {type(spec).__name__} cannot be saved; use Bounded, Unbounded, OneHot or their like.")


def spec_from_json(content: Mapping[str, Any]) -> TensorSpec:
    """The inverse of :func:`spec_to_json`."""
    kind = content["kind"]
    if kind == "Composite":
        return Composite({key: spec_from_json(leaf) for key, leaf in content["entries"].items()})
    shape, dtype = tuple(content["shape"]), _dtype(content["dtype"])
    if kind == "MultiOneHot":
        return MultiOneHot(content["n"], shape=shape, dtype=dtype)
    if kind == "MultiCategorical":
        return MultiCategorical(content["n"], shape=shape, dtype=dtype)
    if kind == "OneHot":
        return OneHot(content["n"], shape=shape, dtype=dtype)
    if kind == "Binary":
        return Binary(shape=shape, dtype=dtype)
    if kind == "Categorical":
        return Categorical(content["n"], shape=shape, dtype=dtype)
    if kind == "Bounded":
        return Bounded(_unbound(content["low"], shape, dtype), _unbound(content["high"], shape, dtype), shape, dtype=dtype)
    if kind == "Unbounded":
        return Unbounded(shape, dtype=dtype)
    raise ValueError(f"unknown kind of spec {kind!r}.")


def _bound(bound: Tensor) -> Any:
    """A bound as one number where all entries agree, else as a nested list; infinities as strings."""
    array = bound.cpu().numpy()
    values = array.reshape(-1)[:1] if array.size and (array == array.reshape(-1)[0]).all() else array
    readable = [repr(value) for value in values.reshape(-1).tolist()]
    return readable[0] if len(readable) == 1 else readable


def _unbound(value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    values = [float(v) if dtype.is_floating_point else int(float(v)) if v not in ("True", "False") else v == "True"
              for v in ([value] if isinstance(value, str) else value)]  # fmt: skip
    array = torch.tensor(values, dtype=dtype)
    return array.expand(shape).clone() if array.numel() == 1 else array.reshape(shape)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"unknown dtype {name!r}.")
    return dtype


def _serialized(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})


def _tensors(path: Path, name: str, digest: Any) -> dict[str, Tensor]:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise BadModelError(f"{path} lacks {name}; save the model again ({error.strerror}).") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BadModelError(f"{path / name} is not the file that {CONFIG} was written with: it is damaged or was replaced.")
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # safetensors raises its own error class, and ValueError or KeyError on odd headers
        raise BadModelError(f"{path / name} is not a safetensors file ({error}).") from error


def _digest(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _config_from_json(config_class: type, content: Any, path: Path) -> Any:
    """A frozen config from JSON, every field checked against its annotation."""
    if not isinstance(content, dict):
        raise BadModelError(f"{path / CONFIG}: the config must be an object; got {type(content).__name__}.")
    hints = typing.get_type_hints(config_class)
    names = {field.name for field in dataclasses.fields(config_class)}
    if set(content) != names:
        unknown, missing = sorted(set(content) - names), sorted(names - set(content))
        raise BadModelError(f"{path / CONFIG}: {config_class.__name__} has unknown fields {unknown}, lacks {missing}.")
    values = {}
    for name, value in content.items():
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, hints[name]):
            raise BadModelError(f"{path / CONFIG}: field {name!r} must be {hints[name]}; got {value!r}.")
        values[name] = value
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise BadModelError(f"{path / CONFIG}: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is tuple:
        inner = typing.get_args(hint)
        return isinstance(value, tuple) and all(_fits(entry, inner[0]) for entry in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
