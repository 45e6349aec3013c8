"""Damages files of every source, and tells in JSON what reading each came to: ``python -m tests.support.damaged N``.

In a process of its own, whose libraries have started no threads when it forks: a child would wait for those.
"""

import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.support.films import film, frames, png
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source
from wmcomponents.data.datasets.steps import steps_of

MEMORY = 3 * 2**30
"""What a case may take beside what the process has."""
SECONDS = 4


def arrays(folder):
    ends = np.arange(9) % 3 == 2
    np.savez(folder / "a.npz", observations=frames(9), actions=np.zeros((9, 2)), rewards=np.ones(9), terminated=ends)
    return "arrays", folder / "a.npz", {}


def hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        for number in range(2):
            file.create_dataset(
                f"data/demo_{number}/obs/camera", data=frames(5), chunks=(2, 16, 16, 3), compression="gzip"
            )
            file[f"data/demo_{number}/actions"] = np.zeros((4, 2), np.float32)
            file[f"data/demo_{number}/rewards"] = np.zeros(4)
    return "hdf5", folder / "a.h5", {}


def lerobot(folder):
    features = {
        "observation.state": {"dtype": "float32"},
        "action": {"dtype": "float32"},
        "next.reward": {"dtype": "f"},
    }
    info = {"codebase_version": "v2.1", "fps": 20, "features": features, "chunks_size": 1000}
    info["data_path"] = "data/{episode_index}.parquet"
    (folder / "meta").mkdir()
    (folder / "data").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 6}\n')
    columns = {"observation.state": list(np.ones((6, 3), np.float32)), "action": list(np.zeros((6, 2), np.float32))}
    table = pa.table({**columns, "next.reward": np.ones(6), "episode_index": np.zeros(6, int)})
    pq.write_table(table, folder / "data" / "0.parquet")
    return "lerobot", folder, {}


def video(folder):
    film(folder / "a.mkv", frames(6))
    np.savez(folder / "a.npz", actions=np.zeros((5, 1)))
    return "video", folder, {}


def minecraft(folder):
    film(folder / "a.mp4", frames(5), codec="mpeg4")
    said = {"mouse": {"dx": 1, "dy": 0, "buttons": [], "newButtons": []}, "keyboard": {"keys": []}, "hotbar": 0}
    (folder / "a.jsonl").write_text((json.dumps(said) + "\n") * 5)
    return "minecraft", folder, {}


def real_estate(folder):
    film(folder / "a.mkv", frames(3))
    row = "{} .5 .9 .5 .5 0 0 1 0 0 0 0 1 0 0 0 0 1 {}"
    (folder / "a.txt").write_text("\n".join(["url", *(row.format(n * 50000, n) for n in range(3))]))
    return "realestate10k", folder, {}


def dreamer(folder):
    rows = {"vector": np.zeros((6, 3), np.float32), "action": np.zeros((6, 2), np.float32), "reward": np.zeros(6)}
    flags = {"is_first": np.arange(6) == 0, "is_terminal": np.arange(6) == 5}
    np.savez(folder / "a.npz", **rows, **flags)
    return "dreamer", folder, {}


def carla(folder):
    (folder / "town" / "rgb").mkdir(parents=True)
    for number, image in enumerate(frames(5)):
        (folder / "town" / "rgb" / f"{number:06d}.png").write_bytes(png(image))
    said = {"speed": 3.5, "control": {"steer": 0.1, "throttle": 0.5, "brake": 0.0}}
    (folder / "town" / "measurements.jsonl").write_text((json.dumps(said) + "\n") * 5)
    return "carla", folder, {}


def minari(folder):
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    ends = np.arange(5) == 4
    episode = EpisodeBuffer(
        id=0, observations=np.zeros((6, 3), np.float32), actions=np.zeros((5, 2), np.float32), rewards=np.ones(5),
        terminations=ends, truncations=~ends & False,
    )  # fmt: skip
    quiet = {"code_permalink": "-", "author": "-", "author_email": "-", "algorithm_name": "-", "description": "-"}
    spaces = {"observation_space": Box(-1, 1, (3,)), "action_space": Box(-1, 1, (2,))}
    minari.create_dataset_from_buffers("test/mine-v0", [episode], data_format="hdf5", **spaces, **quiet)
    return "minari", folder / "test" / "mine-v0", {}


def rlds(folder):
    from tensorboard.summary.writer.record_writer import RecordWriter

    number = {"pythonClassName": "Tensor", "tensor": {"shape": {"dimensions": ["2"]}, "dtype": "float32"}}
    flag = {"pythonClassName": "Scalar", "tensor": {"shape": {}, "dtype": "bool"}}
    steps = {
        "observation": {"featuresDict": {"features": {"state": number}}}, "action": number, "is_first": flag,
        "is_last": flag, "is_terminal": flag, "reward": {"tensor": {"shape": {}, "dtype": "float32"}},
    }  # fmt: skip
    step = {"sequence": {"feature": {"featuresDict": {"features": steps}}, "length": "-1"}}
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": {"steps": step}}}))
    last = bytes([0, 0, 0, 0, 1])
    features = {
        "observation/state": _field(2, _field(1, bytes(40))), "action": _field(2, _field(1, bytes(40))),
        "reward": _field(2, _field(1, bytes(20))), "is_first": _field(3, _field(1, bytes([1, 0, 0, 0, 0]))),
        "is_last": _field(3, _field(1, last)), "is_terminal": _field(3, _field(1, last)),
    }  # fmt: skip
    entries = (_field(1, f"steps/{name}".encode()) + _field(2, value) for name, value in features.items())
    with (folder / "set-train.tfrecord-00000-of-00001").open("wb") as file:
        RecordWriter(file).write(_field(1, b"".join(_field(1, entry) for entry in entries)))
    return "rlds", folder, {}


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer, shorter than 16 kB."""
    low, high = len(content) & 127, len(content) >> 7
    return bytes([number << 3 | 2, low | 128, high] if high else [number << 3 | 2, low]) + content


def dino_wm(folder):
    (folder / "obses").mkdir()
    tensors = {"states": torch.zeros(2, 4, 5), "rel_actions": torch.ones(2, 4, 2), "velocities": torch.ones(2, 4, 2)}
    for name, tensor in tensors.items():
        torch.save(tensor, folder / f"{name}.pth")
    (folder / "seq_lengths.pkl").write_bytes(pickle.dumps([4, 3]))
    torch.save(torch.from_numpy(frames(4)), folder / "obses" / "episode_000.pth")
    film(folder / "obses" / "episode_001.mp4", frames(3))
    return "dino_wm", folder, {}


def images(folder):
    for number, image in enumerate(frames(3)):
        (folder / f"{number}.png").write_bytes(png(image))
    return "images", folder, {}


MAKERS = (arrays, hdf5, lerobot, video, minecraft, real_estate, dreamer, carla, minari, rlds, dino_wm, images)


def originals(folder: Path):
    """A sound file of each source."""
    made = []
    for make in MAKERS:
        place = folder / make.__name__
        place.mkdir()
        source, path, options = make(place)
        made.append((source, place, path.relative_to(place), options))
    return made


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bits turned, bytes put in or taken out, a piece repeated or zeroed, numbers made huge."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(found) + 1) if chance.random() < 0.7 else chance.randrange(min(256, len(found)) + 1)
        size = chance.choice((1, 2, 4, 8, 64))
        kind = chance.randrange(7)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            found[at : at + size] = chance.randbytes(size)
        elif kind == 2:
            del found[at : at + size]
        elif kind == 3:
            del found[at:]
        elif kind == 4:
            found[at:at] = found[at : at + size]
        elif kind == 5:
            found[at : at + size] = bytes(len(found[at : at + size]))
        else:
            found[at : at + 8] = b"\xff\xff\xff\xff\xff\xff\xff\x7f"
    return bytes(found)


def outcome(case, seed: int, folder: Path) -> str:
    source, original, path, options = case
    chance = random.Random(seed)
    shutil.copytree(original, folder)
    if seed < len(MAKERS):  # the first of each source stays as it is
        return f"whole {sum(map(len, steps_of(open_source(source, folder / path, **options)))) > 1}"
    file = chance.choice(sorted(each for each in folder.rglob("*") if each.is_file()))
    file.write_bytes(damaged(file.read_bytes(), chance))
    try:
        return f"read {sum(map(len, steps_of(open_source(source, folder / path, **options)))) > 0}"
    except BadDataError as error:
        return "refused" if str(folder) in str(error) or source in str(error) else f"nameless: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def in_a_child(case, seeds, folder: Path) -> list[tuple[int, str]]:
    """Outcomes of these seeds; a child that died leaves the seed it died of."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)  # FFmpeg and HDF5 tell the terminal what they find
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            with os.fdopen(write, "wb") as out:
                for seed in seeds:
                    signal.alarm(SECONDS)
                    pickle.dump((seed, outcome(case, seed, folder / str(seed))), out)
                    out.flush()
                    shutil.rmtree(folder / str(seed), ignore_errors=True)
        finally:
            os._exit(0)
    os.close(write)
    found = []
    with os.fdopen(read, "rb") as told:
        while True:
            try:
                seed, said = pickle.load(told)
            except EOFError:
                break
            found.append((seed, said))
    _, status = os.waitpid(child, 0)
    if len(found) < len(seeds):
        found.append((seeds[len(found)], f"died of {os.waitstatus_to_exitcode(status)}"))
    return found


def main() -> None:
    """Read so many files, most of them damaged; print what came of each."""
    cases, found = int(sys.argv[1]), []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        made = originals(folder)
        for place, case in enumerate(made):
            seeds = list(range(place, cases, len(made)))
            while seeds:
                part = in_a_child(case, seeds, folder / "read")
                found += [(case[0], seed, said) for seed, said in part]
                seeds = seeds[len(part) :]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
