"""The base of all networks that can be saved and loaded, world models and others."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec

from wmcomponents._arguments import folder_path
from wmcomponents._version import __version__
from wmcomponents.pretrained.building import (
    LARGEST_COUNT,
    bounded_memory,
    check_sizes,
    construction,
    largest_integer,
    take_precisions,
    unlike_weights,
)
from wmcomponents.pretrained.config import check_config, decoded
from wmcomponents.pretrained.folder import (
    CONFIG,
    FORMAT,
    STARTS,
    WEIGHTS,
    BadModelError,
    SavedModel,
    from_one_save,
    sealed,
    write_folder,
)
from wmcomponents.pretrained.model_config import ModelConfig
from wmcomponents.pretrained.specs import elements, spec_to_json
from wmcomponents.pretrained.tensors import nonfinite, serialized
from wmcomponents.world_model import State

AT_ONCE = 2**26
"""Bytes of a model that are read before its sizes are compared with its config."""

M = TypeVar("M", bound="PretrainedModule")  # not Self, which decorators that check types do not know in a method


class PretrainedModule(nn.Module):
    """A network that is built from a frozen config and specs, and can therefore be saved, loaded and trained.

    Subclasses set ``config_class``, a frozen dataclass of numbers, strings, tuples and other such dataclasses, and are
    built by :meth:`from_config` of it and the specs that they name in ``spec_names``. A class whose weights or states
    were named otherwise in folders of format 1 says so: patterns of ``re.sub`` in ``format_1_weights``, keys in
    ``format_1_states``; entries of the config in :attr:`ModelConfig.moved`.

    Attributes:
        observation_spec: spec of one real observation.
        config: what it was built from; ``None`` if it was put together by hand.
    """

    config_class: ClassVar[type]
    spec_names: ClassVar[tuple[str, ...]] = ("observation_spec",)
    format_1_weights: ClassVar[Sequence[tuple[str, str]]] = ()
    format_1_states: ClassVar[Mapping[str, str]] = {}
    observation_spec: Composite
    config: Any = None

    @classmethod
    def presets(cls) -> tuple[str, ...]:
        """Names of the presets: the classmethods of the config class, in order."""
        written = vars(cls.config_class).items()
        return tuple(name for name, value in written if isinstance(value, classmethod) and not name.startswith("_"))

    @classmethod
    def config_from(cls, given: Any) -> Any:
        """A config, of which a preset's name may stand in place.

        Raises:
            TypeError, ValueError: if there is no such preset, or nothing can be built from the config.
        """
        if isinstance(given, str):
            if given not in cls.presets():
                meant = difflib.get_close_matches(given, cls.presets(), n=1)
                hint = f" Did you mean {meant[0]!r}?" if meant else ""
                raise ValueError(f"{cls.__name__} has the presets {', '.join(cls.presets())}; got {given!r}.{hint}")
            given = getattr(cls.config_class, given)()
        check_config(given, cls.config_class, cls.__name__)
        return given

    @classmethod
    def from_config(cls: type[M], config: Any, *specs: TensorSpec, **parts: nn.Module) -> M:
        """One with fresh weights, as a saved one is built before it is filled.

        Args:
            config: of :attr:`config_class`.
            *specs: those of :attr:`spec_names`.
            **parts: what the config does not tell, by the name of the constructor's argument.
        """
        return cast(Any, cls)(config, *specs, **parts)

    def check_parts(self) -> None:
        """Refuse parts that were handed to a saved model and are others than those of its training; here are none.

        Raises:
            ValueError: naming what is another.
        """

    def objective(self) -> nn.Module:
        """A TorchRL ``LossModule`` that trains this network.

        Raises:
            TypeError: if it has none.
        """
        raise TypeError(f"{type(self).__name__} has no training objective; pass objective=... to the trainer.")

    # -- on disk -------------------------------------------------------------------------------------------------------

    def save_pretrained(self, path: str | Path, *, allow_nonfinite: bool = False) -> Path:
        """Write it to a folder, atomically: a reader sees the old folder or the new one.

        (Where the system cannot exchange two folders in one step, which Linux and macOS can, a crash between two
        renames leaves the old one beside the path.)

        Args:
            path: the folder; replaced if it is one that holds a saved model and nothing else.
            allow_nonfinite: keep weights with NaN or infinity too, of a model that diverged; it must be loaded with
                the same word.

        Raises:
            FileExistsError: if the path exists and is not a saved model, or holds files that would be lost.
            ValueError: if an observation or action is too large, or there is NaN or infinity among the weights.
            TypeError: if there is no config, or it holds values, or a spec is of a kind, that cannot be saved.
        """
        return self._save(path, None, allow_nonfinite)

    def _save(self, path: str | Path, starts: State | None, allow_nonfinite: bool) -> Path:
        path = folder_path("path", path)
        if self.config is None:
            raise TypeError(
                f"this {type(self).__name__} was put together by hand and has no config to build it from again. Give "
                f"it a class with a config_class, as DreamerV3 is; or keep its state_dict() and the code that built it."
            )
        write_folder(path, self._files(starts, allow_nonfinite))
        return path

    def _files(self, starts: State | None, allow_nonfinite: bool) -> dict[str, bytes]:
        weights = serialized(self._savable(starts, allow_nonfinite))
        content: dict[str, Any] = {
            "format": FORMAT,
            "model": type(self).__name__,
            "config": dataclasses.asdict(self.config),
            **{name: spec_to_json(getattr(self, name)) for name in self.spec_names},
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        files = {WEIGHTS: weights}
        if starts is not None:
            files[STARTS] = serialized(starts)
            content["starts_sha256"] = hashlib.sha256(files[STARTS]).hexdigest()
        try:
            files[CONFIG] = sealed(content)
            comes_back = self._decoded_config(json.loads(files[CONFIG])["config"], [])
            if comes_back != self.config:
                raise ValueError(f"it would come back as {comes_back}")
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{type(self.config).__name__} cannot be saved: its fields must be finite numbers, strings or tuples "
                f"of them, as annotated ({error})."
            ) from error
        return files

    def _savable(self, starts: State | None, allow_nonfinite: bool) -> dict[str, Tensor]:
        """The weights, if they and the starts can be saved."""
        state, name = self.state_dict(), type(self).__name__
        odd = [key for key, value in state.items() if not isinstance(value, Tensor) or value.is_meta]
        if odd:
            raise TypeError(f"{odd[0]} of this {name} is no tensor with numbers, and cannot be saved.")
        fault = "" if starts is None else self._unlike_states(starts, state)
        if fault:
            raise ValueError(f"starts must be states [N, ...] of this {name}: {fault}.")
        fault = "" if allow_nonfinite else nonfinite(state) or nonfinite(starts or {})
        if fault:
            raise ValueError(
                f"this {name} holds NaN or infinity: {fault}. It has diverged: save an earlier one, or this one with "
                f"allow_nonfinite=True to look at it."
            )
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, but where it is strict nothing is copied unless everything fits.

        Raises:
            RuntimeError: naming the key that is missing, unknown, or of another shape or kind of number; the model is
                as it was.
        """
        own = self.state_dict()
        if strict and all(isinstance(value, Tensor) for value in (*own.values(), *state_dict.values())):
            fault = unlike_weights(state_dict, own)
            if fault:
                raise RuntimeError(f"nothing was loaded into this {type(self).__name__}: {fault}.")
        return super().load_state_dict(state_dict, strict, assign)

    @classmethod
    def from_pretrained(
        cls: type[M],
        path: str | Path,
        *,
        device: torch.device | str | None = None,
        allow_nonfinite: bool = False,
        **parts: nn.Module,
    ) -> M:
        """Load a model that :meth:`save_pretrained` wrote; no global random state is touched.

        Args:
            path: the folder.
            device: where the weights go; the CPU if not given.
            allow_nonfinite: take weights with NaN or infinity too, to look at a model that diverged.
            **parts: what was handed to the model and is not in its folder, by the name of the constructor's argument,
                such as the frozen ``encoder`` of a :class:`wmcomponents.models.DINOWM`.

        Raises:
            BadModelError: if the folder is missing, incomplete, damaged, or holds another kind of model, or if a part
                is missing or is another one.
            TypeError: if models of this kind take no such part.
        """
        return from_one_save(
            path, lambda saved: cls.from_saved(saved, device=device, allow_nonfinite=allow_nonfinite, **parts)
        )

    @classmethod
    def from_saved(
        cls: type[M],
        saved: SavedModel,
        *,
        device: torch.device | str | None = None,
        allow_nonfinite: bool = False,
        **parts: nn.Module,
    ) -> M:
        """The model of an opened folder; its sizes are compared with its weights before memory is taken for them.

        Args:
            saved: the opened folder.
            device: where the weights go; the CPU if not given.
            allow_nonfinite: take weights with NaN or infinity too, to look at a model that diverged.
            **parts: see :meth:`from_pretrained`.

        Raises:
            BadModelError: if it is damaged, or holds another kind of model, or if a part is missing or is another one.
            TypeError: if models of this kind take no such part.
        """
        path = saved.path
        if saved.family != cls.__name__:
            raise BadModelError(
                f"{path} holds a {saved.family!r}, not a {cls.__name__}: use wmcomponents.load(path), which picks "
                f"the class."
            )
        unknown = sorted(parts.keys() - set(inspect.signature(cls.__init__).parameters))
        if unknown:
            raise TypeError(
                f"{cls.__name__} takes no {', '.join(unknown)}: all that it needs is in its folder, {path}."
            )
        saved.renamed(weights=cls.format_1_weights, states=cls.format_1_states)
        # A small file is compared with its hash at once, and a large one when it is known to be of this model.
        weights = _read(saved, allow_nonfinite) if saved.size <= AT_ONCE else None
        missing: list[str] = []
        try:
            with torch.device("cpu"):
                config, specs = cls._config_of(saved, missing), saved.specs(cls.spec_names)
            build = functools.partial(cls.from_config, config, *specs, **parts)
            model = cast(M, _filled(build, saved, sum(map(elements, specs)), weights, allow_nonfinite))
            starts = saved.start_shapes()
            model.check_parts()
            fault = "" if starts is None else model._unlike_states(starts, saved.weight_shapes())
        except BadModelError:
            raise
        except Exception as error:  # the constructor was given numbers from outside: it may fail in any way
            raise BadModelError(
                f"{path}, written by {saved.written_by} and read by {__version__}, does not describe a {cls.__name__} "
                f"that fits its weights: {error}"
            ) from error
        if fault:
            raise BadModelError(f"{path / STARTS} does not hold states of this model: {fault}.")
        if missing:
            warnings.warn(
                f"{path} was written by {saved.written_by}, which did not know {', '.join(missing)} of this "
                f"{__version__}: the defaults are taken. Saving the model again ends this note.",
                stacklevel=2,
            )
        return model.to(device).eval() if device is not None else model.eval()

    def _unlike_states(self, states: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
        """In words, why tensors are not N states of this network with such weights; empty if they are."""
        return f"a {type(self).__name__} has no states"

    @classmethod
    def _config_of(cls, saved: SavedModel, missing: list[str]) -> Any:
        """The config of an opened folder; ``missing`` receives the fields that it does not know."""
        content = saved.content["config"]
        if saved.is_old and issubclass(cls.config_class, ModelConfig):
            content = cls.config_class.regrouped(content)
        return cls._decoded_config(content, missing)

    @classmethod
    def _decoded_config(cls, content: Any, missing: list[str]) -> Any:
        """The config that JSON holds."""
        return decoded(content, cls.config_class, "config", missing)


def _filled(
    build: Callable[[], Any],
    saved: SavedModel,
    elements_of_specs: int,
    weights: Mapping[str, Tensor] | None,
    allow_nonfinite: bool,
) -> PretrainedModule:
    """A model with the weights of an opened folder, once they are known to be of one size.

    Raises:
        ValueError: if the weights are not the model's.
    """
    shapes = saved.weight_shapes()
    size = sum(value.numel() for value in shapes.values()) + elements_of_specs
    with contextlib.ExitStack() as guarded:
        if largest_integer(saved.content["config"]) > LARGEST_COUNT:
            guarded.enter_context(bounded_memory(64 * size + 2**30))
        check_sizes(build, shapes, size, is_certain=weights is None)
        weights = _read(saved, allow_nonfinite) if weights is None else weights
        with construction(size, len(weights)):
            model = build()
    fault = unlike_weights(weights, model.state_dict())
    if fault:
        raise ValueError(fault)
    take_precisions(model, weights)
    model.load_state_dict(weights)  # copied, not assigned: each into the memory layout that the model has for it
    return model


def _read(saved: SavedModel, allow_nonfinite: bool) -> dict[str, Tensor]:
    """The weights; the start states are compared with their hash as well."""
    saved.starts(allow_nonfinite=allow_nonfinite)
    return saved.weights(allow_nonfinite=allow_nonfinite)
