"""Load a saved model of any family, or a pretrained encoder, by its path."""

import difflib
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from wmcomponents.encoders import FrozenEncoder
from wmcomponents.models import ENSEMBLES, MODELS, PRETRAINING, MaskedModel
from wmcomponents.pretrained import BadModelError, PretrainedModel, SavedModel, from_one_save
from wmcomponents.world_model import State

KINDS = ChainMap(MODELS, ENSEMBLES)
"""Everything that can be loaded, by the name in its config: also what a user adds to either."""


class Loaded(NamedTuple):
    """A model and the start states that were saved with it.

    Attributes:
        model: the model, in evaluation mode.
        starts: start states ``[N, ...]``, or ``None``.
    """

    model: PretrainedModel
    starts: State | None


def load(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    allow_nonfinite: bool = False,
    **parts: nn.Module,
) -> PretrainedModel:
    """Load a saved world model, whatever its family; no global random state is touched.

    Args:
        path: a folder written by ``save_pretrained``.
        device: where the weights go; the CPU if not given.
        allow_nonfinite: take weights with NaN or infinity too, to look at a model that diverged.
        **parts: what was handed to the model and is not in its folder, by the name of the constructor's argument, such
            as the frozen ``encoder`` of a DINO-WM.

    Raises:
        BadModelError: if the folder is missing, incomplete, damaged, or of an unknown family, or if a part is missing
            or is another one. Nothing is unpickled.
        TypeError: if models of this family take no such part.
    """
    return from_one_save(path, lambda saved: _model(saved, device, allow_nonfinite, parts))


def load_pretraining(
    path: str | Path, *, device: torch.device | str | None = None, allow_nonfinite: bool = False
) -> MaskedModel:
    """Load a saved model that pretrains an encoder; no global random state is touched.

    Args:
        path: a folder written by ``save_pretrained``.
        device: where the weights go; the CPU if not given.
        allow_nonfinite: take weights with NaN or infinity too.

    Raises:
        BadModelError: if the folder is missing, incomplete, damaged, or holds something else.
    """

    def read(saved: SavedModel) -> MaskedModel:
        if saved.family not in PRETRAINING:
            raise BadModelError(
                f"{saved.path} holds a {saved.family!r}, which pretrains no encoder as {', '.join(PRETRAINING)} do: "
                f"wmcomponents.load(path) loads a world model."
            )
        return PRETRAINING[saved.family].from_saved(saved, device=device, allow_nonfinite=allow_nonfinite)

    return from_one_save(path, read)


def load_whatever(path: str | Path) -> Loaded | MaskedModel:
    """What a folder holds: a world model with its start states, or a model that pretrains an encoder.

    Args:
        path: a folder written by ``save_pretrained``.

    Raises:
        BadModelError: if the folder is missing, incomplete, damaged, or of an unknown family.
    """

    def read(saved: SavedModel) -> Loaded | MaskedModel:
        if saved.family in PRETRAINING:
            return PRETRAINING[saved.family].from_saved(saved)
        return Loaded(_model(saved, None, False, {}), saved.starts())

    return from_one_save(path, read)


def load_encoder(path: str | Path, *, device: torch.device | str | None = None, **options: Any) -> FrozenEncoder:
    """The encoder of a saved MAE, I-JEPA or V-JEPA, as a part that learns nothing: what DINO-WM takes, for one.

    Args:
        path: a folder written by ``save_pretrained``.
        device: where the weights go; the CPU if not given.
        **options: of :class:`wmcomponents.encoders.FrozenEncoder`.

    Raises:
        BadModelError: if the folder is missing, incomplete, damaged, or holds something else.
    """
    return load_pretraining(path, device=device).as_frozen_encoder(**options)


def load_starts(path: str | Path, *, allow_nonfinite: bool = False) -> State | None:
    """The start states saved beside a model, ``[N, ...]``; ``None`` if there are none.

    Beside a process that saves over the folder, :func:`load` and this may read two saves; :func:`load_with_starts`
    reads one.

    Raises:
        BadModelError: if they are damaged.
    """
    return from_one_save(path, lambda saved: _starts(saved, allow_nonfinite))


def load_with_starts(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    allow_nonfinite: bool = False,
    links_into: str | Path | None = None,
    **parts: nn.Module,
) -> Loaded:
    """A saved world model and its start states, of one and the same save though others save over it meanwhile.

    Args:
        path: a folder written by ``save_pretrained``.
        device: where the weights go; the CPU if not given. The start states stay on the CPU.
        allow_nonfinite: take NaN and infinity too, to look at a model that diverged.
        links_into: links to files below this folder are followed, as a cache of downloads has them; no others are.
        **parts: as :func:`load`.

    Raises:
        BadModelError, TypeError: as :func:`load`.
    """
    return from_one_save(
        path,
        lambda saved: Loaded(
            _model(saved, device, allow_nonfinite, parts), saved.starts(allow_nonfinite=allow_nonfinite)
        ),
        links_into=links_into,
    )


def _starts(saved: SavedModel, allow_nonfinite: bool) -> State | None:
    kind = KINDS.get(saved.family, PretrainedModel)
    saved.renamed(weights=kind.format_1_weights, states=kind.format_1_states)
    return saved.starts(allow_nonfinite=allow_nonfinite)


def _model(
    saved: SavedModel, device: torch.device | str | None, allow_nonfinite: bool, parts: Mapping[str, nn.Module]
) -> PretrainedModel:
    name = saved.family
    if name in PRETRAINING:
        raise BadModelError(
            f"{saved.path} holds a {name}, which has no time and no actions: nobody can dream in it. Its encoder "
            f"becomes part of a world: DINOWM(config, ..., encoder=load_pretraining(path)), or load_encoder(path)."
        )
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise BadModelError(
            f"{saved.path}, written by {saved.written_by}, holds a {name!r}; the families known here are "
            f"{', '.join(KINDS)}.{meant}"
        )
    return KINDS[name].from_saved(saved, device=device, allow_nonfinite=allow_nonfinite, **parts)
