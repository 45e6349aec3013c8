"""Films without loss, and the frames that are in them."""

import io
from pathlib import Path

import av
import numpy as np


def film(path: Path, frames: np.ndarray, *, fps: int = 20, codec: str = "libx264rgb") -> None:
    """Write frames ``[n, H, W, 3]`` as a film that loses nothing."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24" if codec == "libx264rgb" else "yuv420p"
        stream.options = {"qp": "0", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def frames(count: int, *, seed: int = 0, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """Frames ``[count, H, W, 3]`` of which no two are alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.uint8)


def png(image):
    """An image as the bytes of a PNG file."""
    with io.BytesIO() as file:
        with av.open(file, "w", format="image2pipe") as container:
            stream = container.add_stream("png", rate=1)
            stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return file.getvalue()
