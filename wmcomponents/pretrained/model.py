"""The base of all world models that can be saved and loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.pretrained.module import PretrainedModule
from wmcomponents.world_model import State, WorldModel

M = TypeVar("M", bound="PretrainedModel")


class PretrainedModel(WorldModel, PretrainedModule):
    """A world model that is built from a frozen config and two specs, and can therefore be saved and loaded.

    Subclasses set ``config_class`` and take ``(config, observation_spec, action_spec)``; see :class:`PretrainedModule`.
    """

    spec_names: ClassVar[tuple[str, ...]] = ("observation_spec", "action_spec")

    @classmethod
    def arguments_from(cls, given: dict[str, Any]) -> dict[str, Any]:
        """As :meth:`WorldModel.arguments_from`; and ``config`` may be a preset's name.

        Raises:
            TypeError, ValueError: if there is no such preset, or no model can be built from the config.
        """
        if "config" in given:
            config = cls.config_from(given["config"])
            given = given if config is given["config"] else {**given, "config": config}
        return super().arguments_from(given)

    @classmethod
    def from_config(
        cls: type[M], config: Any, observation_spec: Composite, action_spec: TensorSpec, **parts: nn.Module
    ) -> M:
        """A model with fresh weights, as a saved one is built before it is filled.

        Args:
            config: of :attr:`config_class`.
            observation_spec: spec of one real observation.
            action_spec: spec of one real action.
            **parts: what the config does not tell, by the name of the constructor's argument.
        """
        return cast(Any, cls)(config, observation_spec, action_spec, **parts)

    def save_pretrained(self, path: str | Path, *, starts: State | None = None, allow_nonfinite: bool = False) -> Path:
        """As :meth:`PretrainedModule.save_pretrained`, with start states beside the model.

        Args:
            path: the folder; replaced if it is one that holds a saved model and nothing else.
            starts: start states ``[N, ...]`` to keep beside the model, so that its dreams can begin without data.
            allow_nonfinite: keep weights with NaN or infinity too, of a model that diverged; it must be loaded with
                the same word.

        Raises:
            FileExistsError: if the path exists and is not a saved model, or holds files that would be lost.
            ValueError: if the starts are not states of this model, an observation or action is too large, or there is
                NaN or infinity among the weights or starts.
            TypeError: if the model has no config, or its config holds values, or a spec is of a kind, that cannot be
                saved.
        """
        return self._save(path, starts, allow_nonfinite)

    def _unlike_states(self, states: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
        spec = self.state_spec
        if set(states) != set(spec.keys()):
            return f"their keys are {sorted(states)}, not {sorted(map(str, spec.keys()))}"
        precisions = {value.dtype for value in weights.values() if value.is_floating_point()}
        for key, value in states.items():
            if not isinstance(value, Tensor):
                return f"{key!r} is a {type(value).__name__}, not a tensor"
            if tuple(value.shape[1:]) != tuple(spec[key].shape) or value.ndim != len(spec[key].shape) + 1:
                return f"{key!r} has the shape {list(value.shape)}, not [N, {', '.join(map(str, spec[key].shape))}]"
            dtype = cast(torch.dtype, spec[key].dtype)
            if value.dtype != dtype and not (dtype.is_floating_point and value.dtype in precisions):
                return f"{key!r} has the dtype {value.dtype}, not {dtype}"
        lengths = {len(value) for value in states.values()}
        return (
            "" if len(lengths) == 1 and lengths != {0} else f"they have {sorted(lengths)} rows; one number, at least 1"
        )
