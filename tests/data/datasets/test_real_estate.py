import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

av = pytest.importorskip("av")

from tests.support.films import film, frames
from tests.support.recorded import Known, check, read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source
from wmcomponents.data.datasets.real_estate import movements, read_cameras


def rotation(vector):
    """Rodrigues' formula, for itself."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def camera(centre, vector):
    """From the world to a camera that stands there, turned so."""
    pose = np.eye(4)
    pose[:3, :3] = rotation(vector).T
    pose[:3, 3] = -pose[:3, :3] @ centre
    return pose


def write(file, poses, step=50_000):
    lines = ["https://www.youtube.com/watch?v=none"]
    for number, pose in enumerate(poses):
        numbers = [number * step, 0.5, 0.9, 0.5, 0.5, 0, 0, *pose[:3].reshape(-1)]
        lines.append(" ".join(f"{value:.9f}" if place else str(value) for place, value in enumerate(numbers)))
    file.write_text("\n".join(lines) + "\n")


def test_a_camera_that_walks_forward_and_looks_left_does_so_in_its_own_axes():
    poses = np.stack(
        [
            camera([0, 0, 0], [0, np.pi / 2, 0]),
            camera([2, 0, 0], [0, np.pi / 2, 0]),
            camera([2, 0, 0], [0, np.pi / 2 - 0.3, 0]),
        ]
    )  # noqa: E501
    assert np.allclose(movements(poses), [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, -0.3, 0]], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float64, (4, 6), elements=st.floats(-1, 1)))
def test_movements_lead_from_each_camera_to_the_next(numbers):
    poses = np.stack([camera(row[:3], row[3:]) for row in numbers])
    farthest = max(np.linalg.norm(row[:3] - numbers[0, :3]) for row in numbers)
    farthest = farthest if farthest > 1e-9 else 1.0
    for before, after, moved in zip(poses[:-1], poses[1:], movements(poses).astype(np.float64), strict=True):
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = rotation(moved[3:]), moved[:3] * farthest
        assert np.allclose(before @ np.linalg.inv(after), step, atol=1e-5)


@pytest.mark.parametrize("form", ["film", "faster film", "images"])
def test_a_clip_is_its_frames_and_the_movements_between_them(tmp_path, form):
    poses = [camera([0.1 * n, 0, 0.2 * n], [0, 0.05 * n, 0]) for n in range(5)]
    write(tmp_path / "clip.txt", poses)
    shown = frames(10)[::2]
    if form == "film":
        film(tmp_path / "clip.mkv", shown)
    elif form == "faster film":
        film(tmp_path / "clip.mkv", frames(10), fps=40)
    else:
        (tmp_path / "clip").mkdir()
        for number, image in enumerate(shown):
            with av.open(str(tmp_path / "clip" / f"{number * 50_000}.png"), "w", format="image2") as container:
                stream = container.add_stream("png", rate=1)
                stream.height, stream.width, stream.pix_fmt = 16, 16, "rgb24"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                container.mux(stream.encode())
    recording = open_source("realestate10k", tmp_path)
    moves = movements(np.stack(poses))
    known = Known({"pixels": shown}, moves, np.zeros(4, np.float32), False)
    assert np.allclose(read(recording)["action"], moves, atol=1e-6)
    check(recording, [known._replace(actions=read(recording)["action"].numpy())])


def test_a_caption_is_skipped_and_what_is_no_camera_is_named(tmp_path):
    file = tmp_path / "clip.txt"
    poses = [camera([n, 0, 0], [0, 0, 0]) for n in range(2)]
    write(file, poses)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "", "a quiet room", *lines[1:]]))
    assert np.allclose(read_cameras(file)[1], poses)
    faults = {
        "a line has 18": "\n".join([lines[0], lines[1].rsplit(" ", 1)[0], lines[2].rsplit(" ", 1)[0]]),
        "no rotation": "\n".join([lines[0], lines[1].replace("1.000000000", "3.0"), lines[2]]),
        "do not rise": "\n".join([lines[0], lines[2], lines[1]]),
        "a line has 0": lines[0],
    }
    for said, text in faults.items():
        file.write_text(text)
        with pytest.raises(BadDataError, match=said):
            read_cameras(file)
