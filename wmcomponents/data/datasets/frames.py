"""Frames of films and of image files, decoded one after the other and brought to one size."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents.data.folder import BadDataError

MOST_PIXELS = 2**26
"""Of a frame: what one takes in memory while it is decoded is bounded."""

FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

# Only formats that hold their own data: a playlist would open other files, and addresses.
_OPTIONS = {
    "protocol_whitelist": "file,pipe",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe",
}


RATE_TOLERANCE = 1.05
"""By how much a rate may be asked for that is above a film's own, which is counted from its times."""


class FilmRows:
    """The frames of a film as rows ``[n, H, W, 3]`` of bytes, read by rising slices; going back begins anew.

    Args:
        path: the file.
        size: side of the frames; their own if not given.
        fps: frames a second that are kept; all if not given.
        at: seconds from the first frame on, rising; the frames nearest to them are kept.

    Raises:
        BadDataError: if it is no film that can be read, shows fewer frames a second, or ends before the last of these
            times.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        path: str | Path,
        *,
        size: int | None = None,
        fps: float | None = None,
        at: Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path)
        self._size = size
        with _opened(self.path) as container:
            stream = _stream_of(container, self.path)
            height, width = stream.codec_context.height, stream.codec_context.width
            self.times = _times(container, stream)
        if not self.times:
            raise BadDataError(f"{path} is a film without frames.")
        if at is not None:
            self._kept = _nearest(self.times, at, self.path)
        else:
            self._kept = list(range(len(self.times))) if fps is None else _at_rate(self.times, fps, self.path)
        self.shape = (len(self._kept), size or height, size or width, 3)
        self._frames: Iterator[np.ndarray] | None = None
        self._at = 0
        self._last: np.ndarray | None = None

    def __getitem__(self, index: slice) -> np.ndarray:
        start, stop = index.start, index.stop
        found = np.empty((stop - start, *self.shape[1:]), np.uint8)
        if not len(found):
            return found
        if self._frames is None or start < self._at - (self._last is not None):
            self._frames, self._at, self._last = self._decoded(), 0, None
        for row in range(self._at - (start < self._at), stop):
            if row >= self._at:
                self._last = next(self._frames, None)
                self._at += 1
            if self._last is None:
                self._frames = None
                raise BadDataError(
                    f"{self.path} ends after {row} of its {self.shape[0]} frames: it is damaged or cut off."
                )
            if row >= start:
                found[row - start] = self._last
        return found

    def _decoded(self) -> Iterator[np.ndarray]:
        kept = iter(self._kept)
        wanted = next(kept, None)
        with _opened(self.path) as container:
            for number, frame in enumerate(container.decode(_stream_of(container, self.path))):
                if wanted is None:
                    return
                if number == wanted:
                    yield self._array(frame)
                    wanted = next(kept, None)

    def _array(self, frame: Any) -> np.ndarray:
        image = _array_of(frame, self._size)
        if image.shape != self.shape[1:]:
            raise BadDataError(
                f"{self.path} changes its size to {image.shape[:2]} in the middle: give --image-size, which all frames "
                f"are brought to."
            )
        return image


class ImageFileRows:
    """Image files as rows ``[n, H, W, 3]`` of bytes.

    Args:
        paths: of the files, in order.
        size: side of the images; the first one's own if not given, which the others have to share.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, paths: Sequence[Path], *, size: int | None = None) -> None:
        self._paths, self._size = paths, size
        shape = (0, 0, 3) if not paths else (size, size, 3) if size else read_image(paths[0]).shape
        self.shape = (len(paths), *shape)

    def __getitem__(self, index: slice) -> np.ndarray:
        found = np.empty((index.stop - index.start, *self.shape[1:]), np.uint8)
        for row, path in enumerate(self._paths[index.start : index.stop]):
            image = read_image(path, size=self._size)
            if image.shape != self.shape[1:]:
                raise BadDataError(f"{path} is {image.shape[:2]} in size, others {self.shape[1:3]}: give --image-size.")
            found[row] = image
        return found


class EncodedRows:
    """Images that are encoded (JPEG, PNG ...), a row of bytes each, as rows ``[n, H, W, 3]``.

    Args:
        encoded: gives rows of bytes by slices, and has a length.
        count: how many there are.
        size: side of the images; the first one's own if not given.
        channels: 3, or 1 for grey ones.
        where: what they are called in an error.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, encoded: Any, count: int, *, size: int | None = None, channels: int = 3, where: str = ""
    ) -> None:
        self._encoded, self._size, self._channels, self._where = encoded, size, channels, where
        first = self._decode(encoded[0:1][0]) if count else np.empty((0, 0, channels), np.uint8)
        self.shape = (count, *first.shape)

    def __getitem__(self, index: slice) -> np.ndarray:
        images = [self._decode(row) for row in self._encoded[index.start : index.stop]]
        other = [image.shape for image in images if image.shape != self.shape[1:]]
        if other:
            raise BadDataError(f"{self._where} has images of {other[0]} and of {self.shape[1:]}: give --image-size.")
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), np.uint8)

    def _decode(self, data: Any) -> np.ndarray:
        return decoded_image(bytes(data), size=self._size, channels=self._channels, where=self._where)


class ResizedRows:
    """Rows of images ``[n, H, W, C]`` (or ``[n, H, W]``) of bytes, brought to one size.

    Args:
        rows: the images.
        size: height and width.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, rows: Any, size: int) -> None:
        self._rows, self._size = rows, size
        self.shape = (rows.shape[0], size, size, *rows.shape[3:])

    def __getitem__(self, index: slice) -> np.ndarray:
        images = self._rows[index]
        return (
            np.stack([resized(image, self._size) for image in images])
            if len(images)
            else np.empty((0, *self.shape[1:]), np.uint8)
        )


def is_images(rows: Any) -> bool:
    """Whether rows are images of bytes with their colours last: ``[n, H, W, C]`` of at least 16 a side."""
    shape = rows.shape[1:]
    return np.dtype(rows.dtype) == np.uint8 and len(shape) == 3 and min(shape[:2]) >= 16 and shape[2] in (1, 3)


def sized(rows: Any, size: int | None) -> Any:
    """Rows brought to a size, where they are images and one is asked for."""
    return rows if size is None or not is_images(rows) or rows.shape[1:3] == (size, size) else ResizedRows(rows, size)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """An image ``[H, W, C]`` or ``[H, W]`` of bytes, by area interpolation."""
    av = require("av", extra="datasets")
    is_grey = image.ndim == 2 or image.shape[2] == 1
    plane = image.reshape(image.shape[:2]) if is_grey else image
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray" if is_grey else "rgb24")
    small = frame.reformat(width=size, height=size, interpolation="AREA").to_ndarray()
    return small.reshape(size, size, *image.shape[2:])


def read_image(path: Path, *, size: int | None = None) -> np.ndarray:
    """An image file as ``[H, W, 3]`` bytes.

    Raises:
        BadDataError: if it is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadDataError(f"{path} cannot be read ({error.strerror}).") from error
    return decoded_image(data, size=size, where=str(path))


def decoded_image(data: bytes, *, size: int | None = None, channels: int = 3, where: str = "an image") -> np.ndarray:
    """An encoded image as ``[H, W, channels]`` bytes.

    Raises:
        BadDataError: if it is none.
    """
    av = require("av", extra="datasets")
    try:
        with av.open(io.BytesIO(data), options=_OPTIONS) as container:
            _stream_of(container, Path(where))
            return _array_of(next(container.decode(video=0)), size, channels)
    except BadDataError:
        raise
    except (av.FFmpegError, StopIteration, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise BadDataError(f"{where} holds an image that cannot be decoded ({error}).") from error


def _opened(path: Path) -> Any:
    av = require("av", extra="datasets")
    if not path.is_file():
        raise BadDataError(f"{path} is no file.")
    try:
        return av.open(str(path), options=_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadDataError(f"{path} is no film that can be read ({error}).") from error


def _stream_of(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise BadDataError(f"{path} has no video in it.")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise BadDataError(f"{path} is encoded in a way that this build of PyAV does not decode.")
    if not 0 < context.width * context.height <= MOST_PIXELS:
        raise BadDataError(f"{path} has frames of {context.width} x {context.height}; at most {MOST_PIXELS:,} pixels.")
    return stream


def _array_of(frame: Any, size: int | None, channels: int = 3) -> np.ndarray:
    kind = "gray" if channels == 1 else "rgb24"
    if size is None:
        image = frame.reformat(format=kind)
    else:
        image = frame.reformat(width=size, height=size, format=kind, interpolation="AREA")
    array = image.to_ndarray()
    return array.reshape(*array.shape[:2], channels)


def _times(container: Any, stream: Any) -> list[float]:
    """When each frame is shown, in seconds from the first, found without decoding any."""
    base = float(stream.time_base or 1)
    shown = sorted(packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None)
    return [(pts - shown[0]) * base for pts in shown]


def _at_rate(times: list[float], fps: float, path: Path) -> list[int]:
    """The frames to keep: the first one that is shown in each span of ``1 / fps`` seconds."""
    if not 0 < fps < float("inf"):
        raise BadDataError(f"fps is positive; got {fps}.")
    shown = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else fps
    if fps > RATE_TOLERANCE * shown:
        raise BadDataError(
            f"{path} shows {shown:.3g} frames a second, and fps={fps:g} are asked for: steps would be of another "
            f"length than you say. Ask for at most {shown:.3g}, or leave fps out to keep all frames."
        )
    kept, span = [], -1
    for number, time in enumerate(times):
        now = int(time * fps + 1e-6)
        if now > span:
            kept.append(number)
            span = now
    return kept


def _nearest(times: list[float], wanted: Sequence[float], path: Path) -> list[int]:
    """The frames that are shown next to these times."""
    shown = np.asarray(times)
    kept = [int(np.abs(shown - time).argmin()) for time in wanted]
    between = float(np.diff(shown).max()) if len(shown) > 1 else 0.0
    far = [time for time, number in zip(wanted, kept, strict=True) if abs(shown[number] - time) > max(between, 1e-3)]
    if far or len(set(kept)) < len(kept):
        raise BadDataError(
            f"{path} shows {len(times)} frames in {times[-1]:.3f} s, and {len(wanted)} are asked for, up to "
            f"{max(wanted):.3f} s: it is another film, or another rate."
        )
    return kept
