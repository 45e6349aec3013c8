"""Forged, cut, linked and damaged data folders: each is refused with one class, or loads exactly what was saved.

A seeded part runs in the suite. More of them::

    WMC_FUZZ=20000 python -m pytest -q tests/fuzz/test_data_folders.py
"""

import copy
import hashlib
import json
import logging
import os
import pickle
import random
import resource
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Composite, Unbounded

from wmcomponents.data import BadDataError, load_replay, make_replay, save_replay
from wmcomponents.data.folder import FORMAT
from wmcomponents.pretrained.folder import sealed

CASES = int(os.environ.get("WMC_FUZZ", 150))
ROWS = 12
HUGE = 2**40


def spec(images: bool) -> Composite:
    flag = Binary(1, shape=(1,), dtype=torch.bool)
    shown = Bounded(0, 255, (2, 2, 3), dtype=torch.uint8) if images else Unbounded(3)
    return Composite(
        shown=shown,
        action=Bounded(-1, 1, (2,)),
        is_init=flag.clone(),
        next=Composite(
            shown=shown.clone(),
            reward=Unbounded(1),
            terminated=flag.clone(),
            truncated=flag.clone(),
            done=flag.clone(),
        ),
    )


class Case(NamedTuple):
    """A saved buffer, and what a load of it gives."""

    folder: Path
    images: bool
    streams: int
    content: dict
    files: dict[str, bytes]

    def buffer(self):
        streams = None if self.streams == 1 else self.streams
        capacity = ROWS * self.streams
        return make_replay(
            capacity,
            spec(self.images),
            num_streams=streams,
            sequence_length=2,
            batch_size=2,
            seed=3,
            print_fn=None,
        )


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[Case]:
    cases = []
    for images, streams, rows in ((False, 1, 9), (True, 1, 20), (True, 2, 9), (False, 2, 20)):
        folder = tmp_path_factory.mktemp("saved")
        case = Case(folder, images, streams, {}, {})
        buffer = case.buffer()
        generator = torch.Generator().manual_seed(rows)
        kind = spec(images)
        steps = TensorDict({}, [streams, rows])
        for key in kind.keys(True, True):
            leaf = kind[key]
            steps[key] = torch.randint(0, 2, (streams, rows, *leaf.shape), generator=generator).to(leaf.dtype)
        buffer.extend(steps if streams > 1 else steps[0])
        save_replay(buffer, folder, env="Forged-v0", env_options={})
        content = json.loads((folder / "data.json").read_text())
        del content["sha256"]
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert content["format"] == FORMAT and len(files) == 2
        cases.append(case._replace(content=content, files=files))
    return cases


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


ODD_VALUES = (
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, "", "x", "../outside/secret", "/etc/passwd"),
    *([], {}, [[]], [{}], {"a": 1}, [2**40, 2**40], "a" * 5000, "\u0661", "torch.float32", "float32", "bool"),
)


def paths_in(content, at=()):
    """Every place in nested JSON."""
    yield at
    if isinstance(content, dict | list):
        keys = content.keys() if isinstance(content, dict) else range(len(content))
        for key in keys:
            yield from paths_in(content[key], (*at, key))


def altered(content: dict, draw: random.Random) -> dict:
    """JSON with some entries replaced, removed, doubled or swapped, or counts moved by a little."""
    content = copy.deepcopy(content)
    # The spec is long and only compared: most changes go to what is interpreted.
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = [p for p in paths_in(content) if p and (p[0] != "transition_spec" or draw.random() < 0.05)]
        *above, last = draw.choice(places)
        parent = content
        for key in above:
            parent = parent[key]
        how = draw.randrange(6)
        if how == 0 and isinstance(parent[last], int):
            parent[last] += draw.choice((-1, 1, 7, -parent[last], HUGE))
        elif how == 1:
            del parent[last]
        elif how == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        elif how == 3 and isinstance(parent, list):
            draw.shuffle(parent)
        elif how == 4 and isinstance(parent[last], str) and parent[last]:
            at = draw.randrange(len(parent[last]))
            parent[last] = parent[last][:at] + draw.choice("0f/.\x00é") + parent[last][at + 1 :]
        else:
            parent[last] = copy.deepcopy(draw.choice(ODD_VALUES))
    return content


def write_description(folder: Path, content, draw: random.Random) -> None:
    try:
        data = sealed(content)
    except (TypeError, ValueError):
        data = json.dumps(content).encode()
    (folder / "data.json").write_bytes(data)


def rehashed(content: dict, folder: Path) -> dict:
    """The description a forger writes, who knows the format: with the hashes and lengths of the files there are."""
    content = copy.deepcopy(content)
    for part in content["parts"]:
        part["sha256"] = hashlib.sha256((folder / part["file"]).read_bytes()).hexdigest()
    return content


def forge(case: Case, folder: Path, outside: Path, draw: random.Random) -> str:
    """Do one thing to a copy of a saved folder; its name."""
    part = next(name for name in case.files if name.endswith(".bin"))
    names = [*case.files, part]
    name = draw.choice(names)
    target = folder / name
    data = bytearray(case.files[name])
    deed = draw.choice(
        ("flip", "cut", "grow", "hole", "delete", "link", "linkdir", "special", "json", "forged-json", "forged-steps")
        + ("foreign", "swap", "raw-json", "json", "forged-json")
    )
    if deed == "flip":
        for _ in range(draw.choice((1, 1, 3))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        target.write_bytes(data)
    elif deed == "cut":
        target.write_bytes(data[: draw.randrange(len(data))])
    elif deed == "grow":
        target.write_bytes(data + draw.randbytes(draw.randrange(1, 99)))
    elif deed == "hole":  # a sparse file of a terabyte, or of just the right length
        os.truncate(target, 0)
        os.truncate(target, draw.choice((HUGE, len(data))))
    elif deed == "delete":
        target.unlink()
    elif deed == "link":
        target.unlink()
        target.symlink_to(draw.choice((outside / "secret", Path("/dev/zero"), Path("nowhere"), case.folder / name)))
    elif deed == "linkdir":
        target.unlink()
        target.symlink_to(outside, target_is_directory=True)
    elif deed == "special":
        target.unlink()
        os.mkfifo(target) if draw.random() < 0.5 else target.mkdir()
    elif deed == "json":
        write_description(folder, altered(case.content, draw), draw)
    elif deed == "forged-json":  # names, counts and hashes that fit each other, and are not what was saved
        forged = copy.deepcopy(case.content)
        size = len(case.files[part])
        for entry in forged["parts"]:
            entry["file"] = draw.choice((part, "../outside/secret", "steps-00000002.bin", "data.json", f"./{part}"))
            entry["rows"] = draw.choice((entry["rows"], 1, size, HUGE))
        if draw.random() < 0.5:
            forged["generator"]["state"] = draw.randbytes(draw.choice((16, 5056, 5056))).hex()
        forged = altered(forged, draw) if draw.random() < 0.3 else forged
        write_description(folder, forged, draw)
    elif deed == "forged-steps":
        data = bytearray(case.files[part])
        for _ in range(draw.choice((1, 4))):
            at = draw.randrange(len(data)) if draw.random() < 0.5 else draw.randrange(min(32, len(data)))
            data[at] = draw.choice((0, 1, 2, 127, 255))
        (folder / part).write_bytes(data)
        write_description(folder, rehashed(case.content, folder), draw)
    elif deed == "foreign":  # what TorchRL's own format would have executed or followed
        storage = folder / draw.choice(("", "storage", "storage/observation", "rng_state"))
        storage.mkdir(parents=True, exist_ok=True)
        bomb = pickle.dumps(Bomb(outside / "executed"))
        for file in ("other.pickle", "prefetch.pkl", "transform.t"):
            (storage / file).write_bytes(bomb)
        meta = {"_type": "NonTensorData", "is_pytree": True, "path": str(outside / "made"), "shape": [HUGE]}
        (storage / "meta.json").write_text(json.dumps(meta))
        (storage / "shown.memmap").symlink_to(outside / "secret")
        if draw.random() < 0.5:
            (folder / "data.json").unlink()
            (folder / "replay.json").write_text('{"capacity": 12, "ndim": 1}')
    elif deed == "swap":  # files of another save
        (folder / part).write_bytes(draw.randbytes(len(case.files[part])))
    else:
        wild = (b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe{}", b"1" * 10_000, b"NaN")
        target = folder / "data.json"
        target.write_bytes(draw.choice(wild))
    return deed


def state_of(folder: Path) -> dict:
    """Everything about every file that a read could change."""
    found = {}
    for file in sorted(folder.rglob("*")):
        about = file.lstat()
        found[str(file)] = (about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino)
    return found


def oldest_first(buffer):
    held = buffer.storage[:].exclude("index")
    full = len(held) * buffer.layout.streams == buffer.storage.max_size
    return held[(torch.arange(len(held)) + (buffer.writer._cursor if full else 0)) % len(held)]


def same(one, other) -> bool:
    return bool((oldest_first(one) == oldest_first(other)).all())


def test_every_bad_folder_is_refused_or_is_what_was_saved(originals, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("torchrl"), "level", logging.WARNING)
    draw = random.Random(8)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    outside_before = state_of(outside)
    ends: dict[str, Counter] = {}
    truths = [load_replay(case.buffer(), case.folder) for case in originals]
    held: dict[int, tuple] = {}  # buffers with a step or two of their own, which a refused load leaves as they are
    for number in range(CASES):
        kind = number % len(originals)
        case, truth = originals[kind], truths[kind]
        folder = tmp_path / "forged"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in case.files.items():
            (folder / name).write_bytes(data)
        deed = forge(case, folder, outside, draw)
        before = state_of(folder)
        if kind not in held:
            buffer = case.buffer()
            buffer.extend(truth.storage[:2].exclude("index").transpose(0, buffer.dim_extend))
            held[kind] = buffer, buffer.storage[:].clone(), buffer._rng.get_state()
        buffer, own, luck = held[kind]
        try:
            load_replay(buffer, folder)
        except BadDataError as error:
            assert type(error) is BadDataError and len(str(error)) > 20
            assert len(buffer) == own.numel() and (buffer.storage[:] == own).all(), deed
            assert torch.equal(luck, buffer._rng.get_state())
            end = "refused"
        else:
            # Steps that were forged together with their hash are what that folder says was saved.
            end = "loaded" if deed != "forged-steps" else "loaded as forged"
            assert deed == "forged-steps" or same(buffer, truth), deed
            assert deed in ("forged-steps", "json", "forged-json") or buffer.writer._cursor == truth.writer._cursor
            buffer.sample()
            del held[kind]
        ends.setdefault(deed, Counter())[end] += 1
        assert state_of(folder) == before, deed
        assert state_of(outside) == outside_before, deed
    assert sum(counts["refused"] for counts in ends.values()) > 0.5 * CASES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20  # kB: no hole of a terabyte was read
    print({deed: dict(counts) for deed, counts in sorted(ends.items())})
