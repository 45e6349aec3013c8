"""Where a played dream can begin: saved starts, recorded steps, the prior, the real environment, an image."""

import io
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tensordict import TensorDictBase

from wmcomponents._extras import require
from wmcomponents.codecs.from_spec import codec_from_spec
from wmcomponents.codecs.observation import ImageCodec
from wmcomponents.data.folder import SavedSteps, open_saved
from wmcomponents.dream.replay_starts import last_states
from wmcomponents.dream.starts import model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.play.errors import PlayError
from wmcomponents.play.reality import Reality, RealStep, first_state
from wmcomponents.world_model import State, WorldModel

MOST_PIXELS = 2**25
"""Of an image that is uploaded."""


class Start(NamedTuple):
    """The beginning of a branch.

    Attributes:
        state: s_0, one row.
        words: what it is, for a person.
        real: the first real observation, where the environment goes along.
        seed: of the dream, and of the environment.
    """

    state: State
    words: str
    real: RealStep | None = None
    seed: int = 0


class StartMenu:
    """What there is to begin from, and the states of each.

    Args:
        model: the world model.
        pool: start states saved with it, ``[N, ...]``.
        data: a folder of recorded steps.
        reality: the environment that goes along.
        burn_in: recorded observations that the filter sees before a dream begins, at most.

    Attributes:
        reality: as it was given.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        pool: State | None = None,
        data: Path | None = None,
        reality: Reality | None = None,
        burn_in: int = 16,
    ) -> None:
        self._model, self._pool, self.reality, self._burn_in = model, pool, reality, burn_in
        self._device = model_device(model)
        self._recorded = None if data is None else RecordedSteps(open_saved(data), model)
        self._image = _image_key(model)

    def describe(self) -> dict[str, Any]:
        """By kind, how many there are; 0 where there are none. The first one is the usual."""
        pool = 0 if self._pool is None else len(next(iter(self._pool.values())))
        recorded = 0 if self._recorded is None else len(self._recorded)
        image = self._image is not None
        return {
            "saved": pool,
            "data": recorded,
            "reality": int(self.reality is not None),
            "image": int(image),
            "prior": 1,
        }

    def start(self, kind: str, number: int | None, seed: int) -> Start:
        """A start of a kind.

        Args:
            kind: ``"saved"``, ``"data"``, ``"reality"`` or ``"prior"``.
            number: which of them; by the seed, if not given.
            seed: of all that is left to chance.

        Raises:
            PlayError: if there is no such start.
        """
        count = self.describe().get(kind, 0)
        if kind == "image" or not count:
            raise PlayError(f"there is no start of the kind {kind!r} here.")
        if number is None:
            number = int(torch.randint(count, (), generator=torch.Generator().manual_seed(seed)))
        if not 0 <= number < count:
            raise PlayError(f"there are {count} starts of the kind {kind!r}, from 0 on; got {number}.")
        with torch.no_grad(), EvalMode(self._model):
            makers = {"saved": self._saved, "data": self._data, "reality": self._real, "prior": self._prior}
            return makers[kind](number, seed)

    def from_image(self, data: bytes, seed: int) -> Start:
        """A start from an encoded image, as if it were the first observation; other entries of it are zero.

        Raises:
            PlayError: if the model sees no images, or this is none, or one too large.
        """
        if self._image is None:
            raise PlayError("this model observes no image, or several: it cannot begin from one.")
        codec = cast(ImageCodec, codec_from_spec(self._model.observation_spec[self._image]))
        pixels = torch.as_tensor(_read_image(data, codec.image_shape))
        pixels = pixels.to(torch.float32) / 255.0 * codec.white
        image = codec.layout(pixels.round() if codec.dtype == torch.uint8 else pixels).to(codec.dtype).numpy()
        spec = self._model.observation_spec
        others = {str(key): leaf.zero().cpu().numpy() for key, leaf in spec.items() if key != self._image}
        with EvalMode(self._model):
            state = first_state(self._model, {**others, self._image: image}, self._device, seed)
        return Start(state, "an image of yours", seed=seed)

    def _saved(self, number: int, seed: int) -> Start:
        pool = cast(State, self._pool)
        state = {key: value[number : number + 1].to(self._device) for key, value in pool.items()}
        return Start(state, f"saved start {number}", seed=seed)

    def _data(self, number: int, seed: int) -> Start:
        sequence = cast(RecordedSteps, self._recorded).before(number, self._burn_in)
        generator = torch.Generator(self._device).manual_seed(seed)
        state = last_states(self._model, sequence.unsqueeze(0), generator=generator)
        return Start(state, f"recorded step {number}", seed=seed)

    def _real(self, number: int, seed: int) -> Start:
        real = cast(Reality, self.reality).begin(seed)
        state = first_state(self._model, real.observation, self._device, seed)
        return Start(state, f"reality, seed {seed}", real, seed)

    def _prior(self, number: int, seed: int) -> Start:
        return Start(self._model.initial_state((1,), self._device), "nothing seen yet", seed=seed)


class RecordedSteps:
    """The steps of a data folder by their number, read where they are wanted; the streams lie one after the other.

    Args:
        saved: the folder.
        model: whose observations and actions they are.

    Raises:
        PlayError: if they are of another kind.
    """

    def __init__(self, saved: SavedSteps, model: WorldModel) -> None:
        self._saved, self._streams = saved, saved.layout.streams
        self._keys = [*(str(key) for key in model.observation_spec.keys()), "action", "is_init"]
        missing = sorted(set(self._keys) - {key[0] for key, _, _ in saved.layout.leaves if len(key) == 1})
        if missing:
            raise PlayError(f"{saved.path} holds no {', '.join(missing)}, which this model needs.")
        ends = np.cumsum([part["rows"] for part in saved.content["parts"]])
        self._ends = [int(end) for end in ends]
        self._held: tuple[int, TensorDictBase] | None = None

    def __len__(self) -> int:
        return self._saved.rows * self._streams

    def before(self, number: int, most: int) -> TensorDictBase:
        """A step and those of its episode before it, ``[T]``, T at most ``most``."""
        stream, row = divmod(number, self._saved.rows)
        steps = [self._step(row, stream)]
        while len(steps) < most and row > 0 and not bool(steps[0]["is_init"]):
            row -= 1
            before = self._step(row, stream)
            steps.insert(0, before)
        return cast(TensorDictBase, torch.stack(steps, 0))  # pyright: ignore

    def _step(self, row: int, stream: int) -> TensorDictBase:
        place = next(i for i, end in enumerate(self._ends) if row < end)
        if self._held is None or self._held[0] != place:
            self._held = place, self._saved.part(self._saved.content["parts"][place]).select(*self._keys)
        part = self._held[1]
        inside = part[row - (self._ends[place] - len(part))]
        return cast(TensorDictBase, inside[stream] if self._saved.layout.batch else inside)


def _image_key(model: WorldModel) -> str | None:
    """The one entry of an observation that is an image of one or three colours, or a stack of such."""
    keys = [str(key) for key, leaf in model.observation_spec.items() if isinstance(codec_from_spec(leaf), ImageCodec)]
    return keys[0] if len(keys) == 1 else None


def _read_image(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """An encoded image as uint8 ``(H, W, C)``: cut to the middle, sized smoothly, repeated for a stack of frames.

    Raises:
        PlayError: if it is none, or has too many pixels; it is then not decoded.
    """
    image_module = require("PIL.Image", extra="play")
    height, width, channels = shape
    mode, copies = ("RGB", channels // 3) if channels % 3 == 0 else ("L", channels)
    try:
        with image_module.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise PlayError(f"an image has at most {MOST_PIXELS:,} pixels; this one has {image.size}.")
            plain = image.convert("RGBA").convert("RGB") if mode == "RGB" else image.convert("L")
    except PlayError:
        raise
    except Exception as error:  # whatever a damaged file makes a decoder say
        raise PlayError(f"this is no image that can be read (PNG, JPEG, WebP, GIF, BMP): {error}") from error
    side = min(plain.width / width, plain.height / height)
    left, top = (plain.width - side * width) / 2, (plain.height - side * height) / 2
    box = (left, top, left + side * width, top + side * height)
    small = plain.resize((width, height), image_module.Resampling.BOX, box=box)
    array = np.asarray(small).reshape(height, width, -1)
    return np.concatenate([array] * copies, -1)
