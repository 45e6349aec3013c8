"""What the page shows beside numbers: one episode overlaid by its dreams, frames, and a film."""

import base64
import io
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tensordict import TensorDictBase

from wmcomponents._extras import MissingExtraError
from wmcomponents.evaluation.figures import LARGEST_OVERLAY
from wmcomponents.evaluation.film_files import write_webp
from wmcomponents.evaluation.open_loop import Comparison, compare, longest
from wmcomponents.evaluation.truth.evidence import Evidence
from wmcomponents.evaluation.video import comparison_reels, side_by_side
from wmcomponents.rendering.labels import component_labels
from wmcomponents.rendering.renderers import make_renderer
from wmcomponents.world_model import WorldModel

FILM_BYTES = 120_000
"""Largest film in a page."""
COLUMNS = 8
"""Frames in the strip."""
STRIP = 96
"""Height of one, in pixels."""
DREAMS = 16
"""Dreams behind the bands of the overlay."""


class Footage(NamedTuple):
    """What is shown of one real episode and its dreams.

    Attributes:
        tracks: by label the real values, and 10 %, median and 90 % of the dreams (``None`` before the dream begins).
        burn_in: real observations before the dream.
        strip: data URI of frames, reality above the dream; empty where there are none.
        strip_steps: the steps of its columns.
        film: data URI of a film; empty where there is none.
        why_not: why frames are missing, where they are.
    """

    tracks: list[dict[str, Any]]
    burn_in: int
    strip: str
    strip_steps: list[int]
    film: str
    why_not: str


def footage(
    model: WorldModel, evidence: Evidence, burn_in: int, horizon: int, film_steps: int, seed: int, env_id: str | None
) -> Footage:
    """Dream beside the longest real episode of the evidence.

    Args:
        model: what it cannot decode is not shown.
        evidence: real sequences.
        burn_in: real observations that the filter sees first.
        horizon: steps of the overlay.
        film_steps: steps of the film, not more than the sequences hold; 0 makes none.
        seed: of the dreams.
        env_id: chooses the renderer and the labels.
    """
    sequences = evidence.sequences
    sequence = cast(TensorDictBase, sequences[longest(sequences, burn_in=burn_in, horizon=horizon)])
    generator = torch.Generator(next(iter(model.parameters())).device).manual_seed(seed)
    decodes = "decode" in model.capabilities
    span: dict[str, Any] = {"burn_in": burn_in, "generator": generator}
    # Dreams of images are dear, and not overlaid.
    is_flat = all(len(leaf.shape) < 2 for leaf in model.observation_spec.values())
    told = compare(model, sequence, horizon=horizon, samples=DREAMS if is_flat else 1, **span)
    tracks = _tracks(told, env_id) if is_flat else _outcomes(told)
    if not decodes or film_steps == 0:
        why = "" if decodes else "The model shows no observations."
        return Footage(tracks, burn_in, "", [], "", why)
    steps = min(film_steps, horizon)
    film = compare(model, sequence, horizon=steps, **span)
    try:
        render = make_renderer(env_id, model.observation_spec)
        pages = side_by_side(comparison_reels(film, render), caption="same start, same actions")
        strip, columns = _strip(film, render)
        return Footage(tracks, burn_in, strip, columns, _film(pages), "")
    except MissingExtraError as error:
        return Footage(tracks, burn_in, "", [], "", str(error))


def _tracks(told: Comparison, env_id: str | None) -> list[dict[str, Any]]:
    """The components of vector observations that vary most."""
    tracks, spread = [], []
    for key, real in told.real.items():
        flat = real.reshape(len(real), -1).astype(np.float64)
        dream = told.dream.get(key)
        for i, label in enumerate(component_labels(key, real.shape[1:], env_id)):
            values = None if dream is None else dream.reshape(*dream.shape[:2], -1)[..., i].astype(np.float64)
            tracks.append(_track(label, flat[:, i], values, told.burn_in))
            spread.append(float(np.std(flat[:, i])))
    chosen = sorted(sorted(range(len(tracks)), key=lambda i: -spread[i])[:LARGEST_OVERLAY])
    return [tracks[i] for i in chosen]


def _outcomes(told: Comparison) -> list[dict[str, Any]]:
    """Rewards and chances of an end, where observations are no numbers."""
    blank = np.full(told.burn_in, np.nan)
    found = []
    if told.dream_reward is not None:
        start = np.full((len(told.dream_reward), 1), np.nan)
        dream = np.concatenate([start, told.dream_reward.cumsum(1)], 1)
        found.append(_track("reward so far", np.concatenate([blank, told.real_reward.cumsum()]), dream, told.burn_in))
    if told.dream_cont is not None:
        ends = np.zeros(told.steps)
        ends[-1:] = float(told.terminated)
        start = np.full((len(told.dream_cont), 1), np.nan)
        dream = np.concatenate([start, 1.0 - told.dream_cont], 1)
        found.append(_track("chance of an end", np.concatenate([blank, ends]), dream, told.burn_in))
    return found


def _track(label: str, real: np.ndarray, dream: np.ndarray | None, burn_in: int) -> dict[str, Any]:
    track: dict[str, Any] = {"label": label, "real": real.tolist(), "low": None, "median": None, "high": None}
    if dream is not None:
        before = [None] * (burn_in - 1)
        for name, part in (("low", 0.1), ("median", 0.5), ("high", 0.9)):
            track[name] = [*before, *np.quantile(dream, part, axis=0).tolist()]
    return track


def _strip(film: Comparison, render: Any) -> tuple[str, list[int]]:
    """Reality above the dream, evenly spaced, as a PNG."""
    from PIL import Image

    steps = np.unique(np.linspace(0, film.steps, COLUMNS).round().astype(int)).tolist()
    start, rows = film.burn_in - 1, []
    for frames in (
        [render({key: value[start + k] for key, value in film.real.items()}) for k in steps],
        [render({key: value[0, k] for key, value in film.dream.items()}) for k in steps],
    ):
        row = []
        for frame in frames:
            image = Image.fromarray(np.ascontiguousarray(frame))
            how = Image.Resampling.NEAREST if image.height < STRIP else Image.Resampling.LANCZOS
            row.append(np.asarray(image.resize((max(1, round(image.width * STRIP / image.height)), STRIP), how)))
            row.append(np.full((STRIP, 4, 3), 255, np.uint8))
        rows += [np.concatenate(row[:-1], 1), np.full((4, sum(one.shape[1] for one in row[:-1]), 3), 255, np.uint8)]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(rows[:-1])).quantize(64).save(file, "PNG", optimize=True)
    return _uri("image/png", file.getvalue()), steps


def _film(pages: list[np.ndarray]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = write_webp(pages, Path(folder) / "film.webp", fps=10.0, max_bytes=FILM_BYTES)
        return _uri("image/webp", path.read_bytes())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
