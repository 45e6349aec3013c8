import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")
pytest.importorskip("av")

import io

import av
import pyarrow.parquet as pq

from tests.support.films import film, frames
from tests.support.recorded import Known, check, cut_short, read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source, rows

FPS = 20
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [3]},
    "action": {"dtype": "float32", "shape": [2]},
    "next.reward": {"dtype": "float32", "shape": [1]},
    "next.done": {"dtype": "bool", "shape": [1]},
    "next.success": {"dtype": "bool", "shape": [1]},
    "timestamp": {"dtype": "float32", "shape": [1]},
    "episode_index": {"dtype": "int64", "shape": [1]},
}
CAMERA = {"observation.images.top": {"dtype": "video", "shape": [16, 16, 3]}}


def episode(length, died, seed, camera):
    """``length`` rows: what was seen after the last action is not among them."""
    rng = np.random.default_rng(seed)
    seen = {"state": rng.normal(size=(length + 1, 3)).astype(np.float32)}
    if camera:
        seen["top"] = frames(length + 1, seed=seed, size=(24, 20))
    acts = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
    return Known(seen, acts, rng.normal(size=length).astype(np.float32), died)


def table(known, number):
    length = len(known.actions)
    last = np.arange(length) == length - 1
    return {
        "observation.state": list(known.observations["state"][:-1]),
        "action": list(known.actions),
        "next.reward": known.rewards,
        "next.done": last,
        "next.success": last & known.terminated,
        "timestamp": np.arange(length, dtype=np.float32) / FPS,
        "episode_index": np.full(length, number),
    }


def write(folder, episodes, version, camera=False, per_file=2):
    """A data set as its documentation lays it out."""
    info = {"codebase_version": version, "fps": FPS, "features": {**FEATURES, **(CAMERA if camera else {})}}
    (folder / "meta").mkdir(parents=True)
    key = "observation.images.top"
    if version.startswith("v2"):
        info["chunks_size"] = 2
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mkv"
        lines = []
        for number, each in enumerate(episodes):
            lines.append(json.dumps({"episode_index": number, "tasks": ["x"], "length": len(each.actions)}))
            place = {"episode_chunk": number // 2, "episode_index": number, "video_key": key}
            put(folder / info["data_path"].format(**place), [table(each, number)])
            if camera:
                target = folder / info["video_path"].format(**place)
                target.parent.mkdir(parents=True, exist_ok=True)
                film(target, each.observations["top"][:-1], fps=FPS)
        (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines))
    else:
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mkv"
        listed = []
        for start in range(0, len(episodes), per_file):
            some, shown = episodes[start : start + per_file], 0
            place = {"chunk_index": 0, "file_index": start // per_file, "video_key": key}
            put(folder / info["data_path"].format(**place), [table(e, start + n) for n, e in enumerate(some)])
            for number, each in enumerate(some):
                row = {"episode_index": start + number, "length": len(each.actions)}
                row |= {"data/chunk_index": 0, "data/file_index": start // per_file}
                if camera:
                    row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": start // per_file}
                    row |= {f"videos/{key}/from_timestamp": shown / FPS}
                shown += len(each.actions)
                listed.append(row)
            if camera:
                target = folder / info["video_path"].format(**place)
                target.parent.mkdir(parents=True, exist_ok=True)
                film(target, np.concatenate([each.observations["top"][:-1] for each in some]), fps=FPS)
        (folder / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(listed), folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


def put(path, tables):
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = pa.concat_tables([pa.table(each) for each in tables])
    pq.write_table(whole, path, row_group_size=3)


@settings(max_examples=5, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 7), st.booleans()), min_size=1, max_size=4),
    st.sampled_from(["v2.0", "v2.1", "v3.0"]),
    st.integers(1, 4),
)
def test_tables_come_back_exactly(tmp_path_factory, shape, version, piece):
    known = [episode(length, died, seed, False) for seed, (length, died) in enumerate(shape)]
    folder = write(tmp_path_factory.mktemp("lerobot") / "set", known, version)
    wanted = [cut_short(each) for each in known]
    wanted = [each._replace(observations={"observation": each.observations["state"]}) for each in wanted]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "MOST_ROWS", piece)
        check(open_source("lerobot", folder), wanted)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_films_of_several_episodes_are_cut_where_the_episodes_are(tmp_path, monkeypatch, version):
    monkeypatch.setattr(rows, "MOST_ROWS", 3)
    known = [
        episode(length, died, seed, True) for seed, (length, died) in enumerate([(5, True), (4, False), (6, False)])
    ]
    folder = write(tmp_path / "set", known, version, camera=True)
    check(open_source("lerobot", folder), [cut_short(each) for each in known])
    alone = open_source("lerobot", folder, observations="images.top", image_size=16)
    assert {key: list(spec.shape) for key, spec in alone.observation_spec.items()} == {"pixels": [16, 16, 3]}
    assert len(read(alone)) == 13


def test_images_kept_in_the_table_are_decoded(tmp_path):
    def png(image):
        with io.BytesIO() as file:
            with av.open(file, "w", format="image2pipe") as container:
                stream = container.add_stream("png", rate=1)
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "rgb24"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                container.mux(stream.encode())
            return file.getvalue()

    known = episode(4, False, 0, True)
    folder = write(tmp_path / "set", [known], "v2.1")
    info = json.loads((folder / "meta" / "info.json").read_text())
    info["features"]["observation.image"] = {"dtype": "image", "shape": [16, 16, 3]}
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    images = [{"bytes": png(image), "path": None} for image in known.observations["top"][:-1]]
    put(folder / "data" / "chunk-000" / "episode_000000.parquet", [{**table(known, 0), "observation.image": images}])
    steps = read(open_source("lerobot", folder, observations="image"))
    assert np.array_equal(steps["pixels"].numpy(), known.observations["top"][:3])


def test_what_does_not_fit_together_is_named(tmp_path):
    known = [episode(4, False, seed, True) for seed in range(2)]
    folder = write(tmp_path / "set", known, "v3.0", camera=True)
    listed = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows_of = pq.read_table(listed).to_pylist()

    def refused(said, **changes):
        changed = [{**row, **changes} if row["episode_index"] == 1 else row for row in rows_of]
        pq.write_table(pa.Table.from_pylist(changed), listed)
        with pytest.raises(BadDataError, match=said):
            read(open_source("lerobot", folder))

    refused("has rows 4 to 10, and the file 8", length=6)
    refused("from second 0.400", **{"videos/observation.images.top/from_timestamp": 0.4})
    refused("is no file", **{"data/file_index": 7})
    info = json.loads((folder / "meta" / "info.json").read_text())

    def told(said, **changes):
        (folder / "meta" / "info.json").write_text(json.dumps({**info, **changes}))
        with pytest.raises(BadDataError, match=said):
            read(open_source("lerobot", folder))

    pq.write_table(pa.Table.from_pylist(rows_of), listed)
    told("outside of itself", data_path="../../{chunk_index}{file_index}.parquet")
    told("v2.0, v2.1 and v3.0 are read", codebase_version="v1.6")
    told("no fps", fps=0)
    told("describes no data set", features=[])
    told("has no observation", features={"action": FEATURES["action"]})
