"""Films on disk: every frame of them, in colours that stay what they are, and whole or not there."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents._whole import unfinished, write_whole

MAX_BYTES = 2_000_000
"""Largest GIF and WebP written: quality, then size on the screen, is given up to stay below; frames never are."""

LAST = 1000
"""Milliseconds for which a film that loops rests on its last frame."""


def write_video(frames: Sequence[np.ndarray], path: str | Path, *, fps: float = 20.0) -> Path:
    """Write frames as the file's suffix says: ``.gif``, ``.webp`` or ``.mp4``.

    Raises:
        ValueError: for another suffix, or without frames.
        MissingExtraError: if Pillow (GIF, WebP) or imageio with ffmpeg (MP4) is not installed.
    """
    writers = {".gif": write_gif, ".webp": write_webp, ".mp4": write_mp4}
    writer = writers.get(Path(path).suffix.lower())
    if writer is None:
        raise ValueError(f"a video is written as .gif, .webp or .mp4; got {str(path)!r}.")
    return writer(frames, path, fps=fps)


def write_gif(frames: Sequence[np.ndarray], path: str | Path, *, fps: float = 20.0, max_bytes: int = MAX_BYTES) -> Path:
    """Write a GIF that loops, and rests a second on its last frame.

    Every frame has a palette of its own. Its most frequent colours are in it as they are, so that paper stays white and
    text black whatever the images hold.

    Args:
        frames: uint8 ``(H, W, 3)``, all of one size.
        path: the file.
        fps: frames a second; players cannot show more than 50.
        max_bytes: the size to stay below: first with fewer colours, then with smaller frames. None is left out.

    Raises:
        ValueError: without frames.
        MissingExtraError: if Pillow is not installed.
    """
    _check_frames(frames)
    require("PIL", extra="viz")
    data = b""
    for colours, scale in ((256, 1.0), (128, 1.0), (64, 1.0), *((64, 0.75**k) for k in range(1, 9))):
        data = _gif(frames, colours, scale, fps)
        if len(data) <= max_bytes:
            break
    return _written(path, data)


def write_webp(
    frames: Sequence[np.ndarray], path: str | Path, *, fps: float = 20.0, max_bytes: int = MAX_BYTES
) -> Path:
    """Write an animated WebP that loops, and rests a second on its last frame.

    It is exact to the last bit where that stays below ``max_bytes``, and like a JPEG otherwise. Browsers show it where
    they show an image.

    Args:
        frames: uint8 ``(H, W, 3)``, all of one size.
        path: the file.
        fps: frames a second.
        max_bytes: the size to stay below: first with less quality, then with smaller frames. None is left out.

    Raises:
        ValueError: without frames.
        MissingExtraError: if Pillow is not installed.
    """
    _check_frames(frames)
    require("PIL", extra="viz")
    from PIL import Image

    duration = max(1, round(1000 / fps))
    whole = [({"lossless": True, "quality": 60}, 1.0), *(({"quality": q}, 1.0) for q in (92, 80, 65, 45))]
    data = b""
    for how, scale in (*whole, *(({"quality": 45}, 0.75**k) for k in range(1, 9))):
        pages = [Image.fromarray(each) for each in _scaled(frames, scale)]
        data = _animation(pages, "WEBP", duration, loop=0, method=4, **how)
        if len(data) <= max_bytes:
            break
    return _written(path, data)


def write_mp4(frames: Sequence[np.ndarray], path: str | Path, *, fps: float = 20.0) -> Path:
    """Write an H.264 video that browsers play.

    Args:
        frames: uint8 ``(H, W, 3)``, all of one size; odd sides lose a pixel.
        path: the file.
        fps: frames a second.

    Raises:
        ValueError: without frames.
        OSError: if the file cannot be written whole.
        MissingExtraError: if imageio or its ffmpeg is not installed.
    """
    _check_frames(frames)
    ffmpeg = require("imageio_ffmpeg", extra="viz")
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    options = {"codec": "libx264", "quality": 7, "macro_block_size": 1, "output_params": ["-f", "mp4"]}
    with _replacing(path) as aside:
        with contextlib.closing(ffmpeg.write_frames(str(aside), (width, height), fps=fps, **options)) as writer:
            writer.send(None)  # starts it
            for each in frames:
                writer.send(np.ascontiguousarray(each[:height, :width]))
        # ffmpeg is another process, and nobody asks it how it ended.
        try:
            count = ffmpeg.count_frames_and_secs(str(aside))[0]
        except RuntimeError:
            count = 0
        if count != len(frames):
            raise OSError(f"{count} of {len(frames)} frames were written to {path}: is the disk full?")
    return Path(path)


def _check_frames(frames: Sequence[np.ndarray]) -> None:
    if not len(frames):
        raise ValueError("a video needs at least one frame.")


def _written(path: str | Path, data: bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return path


@contextlib.contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, for programs that want one; it takes the place of ``path`` at the end, or is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = unfinished(path)
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _animation(pages: Sequence[Any], kind: str, duration: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    durations = [duration] * (len(pages) - 1) + [LAST]
    pages[0].save(buffer, kind, save_all=True, append_images=pages[1:], duration=durations, **options)
    return buffer.getvalue()


def _scaled(frames: Sequence[np.ndarray], scale: float) -> list[np.ndarray]:
    from PIL import Image

    if scale == 1.0:
        return [np.ascontiguousarray(each) for each in frames]
    height, width = (max(1, round(side * scale)) for side in frames[0].shape[:2])
    return [np.asarray(Image.fromarray(each).resize((width, height), Image.Resampling.BOX)) for each in frames]


def _gif(frames: Sequence[np.ndarray], colours: int, scale: float, fps: float) -> bytes:
    pages = [_page(each, colours) for each in _scaled(frames, scale)]
    duration = max(20, round(100 / fps) * 10)  # the format counts in hundredths of a second
    return _animation(pages, "GIF", duration, loop=0, optimize=False, disposal=1)


def _page(frame: np.ndarray, colours: int) -> Any:
    """A frame with a palette: a quarter of it are the frame's most frequent colours, the rest stand for all others."""
    from PIL import Image

    packed = (frame.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)).ravel()
    distinct, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    channels = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1).astype(np.uint8)
    kept = len(distinct) if len(distinct) <= colours else colours // 4
    order = np.argsort(-counts, kind="stable")
    exact, others = order[:kept], order[kept:]
    place = np.empty(len(distinct), dtype=np.uint8)
    place[exact] = np.arange(kept)
    palette = channels[exact].ravel().tolist()
    if len(others):
        # Colours count by the root of their area: a small thing that moves keeps its own, however large the rest.
        weights = np.sqrt(counts[others]).round().astype(int)
        column = Image.fromarray(np.repeat(channels[others], weights, axis=0)[:, None])
        reduced = column.quantize(colours - kept, dither=Image.Dither.NONE)
        place[others] = kept + np.asarray(reduced)[:, 0][np.cumsum(weights) - weights]
        palette += reduced.getpalette() or []
    page = Image.fromarray(place[inverse].reshape(frame.shape[:2]), mode="P")
    page.putpalette(palette[: 3 * 256])
    return page
