"""A folder of image files, without actions."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torchrl.data import OneHot

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import IMAGES, ImageFileRows
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.folder import BadDataError

NO_ACTIONS = (
    "There are no actions: one choice, always taken, stands for them. The images of a folder stand in the order of "
    "their names, as if filmed, and the last one twice. They pretrain an encoder; nothing can act in them."
)


def images(path: str | Path, *, image_size: int | None = None) -> Recording:
    """A folder of image files, and folders in it, shown as ``pixels``: what an encoder is pretrained on.

    The images of one folder are an episode, in the order of their names: single images in one folder, the frames of
    films in a folder for each.

    Args:
        path: the folder.
        image_size: side of the images, which are squeezed into a square; their own if not given, which all must share.
    """
    path = Path(path)
    found = (file for file in path.rglob("*") if file.suffix.lower() in IMAGES and file.is_file())
    files = sorted(found, key=lambda file: (file.parent, file.name))
    if not files:
        raise BadDataError(f"{path} holds no image ({', '.join(IMAGES)}).")
    folders = [(folder, list(some)) for folder, some in groupby(files, lambda file: file.parent)]

    def episodes() -> Iterator[EpisodeRows]:
        for folder, some in folders:
            # So many actions, each of which leads to the next image; the last one leads to where it was taken.
            frames = ImageFileRows([*some, some[-1]], size=image_size)
            yield EpisodeRows({"pixels": frames}, np.zeros(len(some), np.int64), None, False, str(folder))

    return recording_of(f"images/{path.stem}", episodes, action_spec=OneHot(1, dtype=torch.int64), notes=(NO_ACTIONS,))
