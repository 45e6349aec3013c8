"""Models on disk: they come back to the bit, or not at all."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    NonTensor,
    OneHot,
    Unbounded,
)

import wmcomponents
from tests.support import models as contract
from tests.support.small_dreamer import ACTION, SPEC, model, same
from wmcomponents.dream.make import make_simulator
from wmcomponents.models import DreamerV3, DreamerV3Config, make_model, presets
from wmcomponents.models.loading import load, load_starts, load_with_starts
from wmcomponents.pretrained import (
    BadModelError,
    PretrainedModel,
    SavedModel,
    StrictFolder,
    files,
    folder,
    read_config,
    spec_from_json,
    spec_to_json,
    specs,
)
from wmcomponents.pretrained.config import decoded
from wmcomponents.pretrained.tensors import TensorFile
from wmcomponents.world_model import Prediction

CONFIG, WEIGHTS, STARTS = folder.CONFIG, folder.WEIGHTS, folder.STARTS


def starts(rows=5):
    return {"deter": torch.randn(rows, 16), "stoch": torch.randn(rows, 2, 3)}


def resealed(path, change):
    """Rewrite a model's config after ``change(content)``, with a right hash: what a forger would do."""
    content = json.loads((path / CONFIG).read_bytes())
    change(content)
    content.pop("sha256", None)
    (path / CONFIG).write_bytes(folder.sealed(content))


@pytest.fixture
def saved(tmp_path):
    return model().save_pretrained(tmp_path / "model", starts=starts())


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return model().save_pretrained(tmp_path_factory.mktemp("saved") / "model", starts=starts())


def copied(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "copy", dirs_exist_ok=True))


SPECS = [
    Unbounded(4),
    Unbounded((2, 3)),
    Unbounded((), dtype=torch.float64),
    Unbounded(2, dtype=torch.int64),
    Bounded(-1.0, 1.0, (3,)),
    Bounded(torch.tensor([-1.0, -torch.inf]), torch.tensor([1.0, torch.inf]), (2,)),
    Bounded(torch.tensor([0.1, 0.2]), torch.tensor([0.3, 1e-7]) + 1, (2,), dtype=torch.float32),
    Bounded(-(2**63), 2**63 - 1, (2,), dtype=torch.int64),
    Bounded(0, 255, (8, 8, 3), dtype=torch.uint8),
    Bounded(-0.5, 0.5, (2,), dtype=torch.float64),
    Binary(3),
    Binary(shape=(4, 4, 2), dtype=torch.bool),
    OneHot(5),
    OneHot(5, dtype=torch.float32),
    Categorical(7),
    Categorical(7, shape=(2,), dtype=torch.int32),
    MultiOneHot((2, 3)),
    MultiCategorical((2, 3)),
    Composite(a=Unbounded(2), b=Composite(c=OneHot(3))),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_a_spec_comes_back_equal(spec):
    back = spec_from_json(json.loads(json.dumps(spec_to_json(spec))))
    assert back == spec and type(back) is type(spec) and back.dtype == spec.dtype and back.shape == spec.shape


def test_a_spec_that_cannot_be_saved_is_named(monkeypatch):
    with pytest.raises(TypeError, match="a spec of type NonTensor cannot be saved; use Bounded"):
        spec_to_json(NonTensor(()))
    monkeypatch.setattr(specs, "LARGEST_SPEC", 8)
    with pytest.raises(ValueError, match="a spec of 9 numbers cannot be saved; at most 8 can"):
        spec_to_json(Unbounded((3, 3)))


OBSERVATIONS = {
    "vector": Composite(observation=Unbounded(3)),
    "bounded": Composite(observation=Bounded(torch.tensor([0.0, -torch.inf]), torch.tensor([4.0, torch.inf]), (2,))),
    "image": Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8)),
    "planes": Composite(board=Binary(shape=(10, 10, 4), dtype=torch.bool)),
    "several": Composite(a=Categorical(3), b=Unbounded(2), c=Bounded(0, 5, (4, 4, 1), dtype=torch.uint8)),
}


@pytest.mark.parametrize("action", [OneHot(3), Categorical(3), Bounded(-2.0, 2.0, (2,)), MultiOneHot((2, 3))])
@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_a_model_comes_back_to_the_bit(tmp_path, kind, action):
    made = model(spec=OBSERVATIONS[kind], action=action).eval()
    back = load(made.save_pretrained(tmp_path / "model"))
    assert type(back) is DreamerV3 and back.config == made.config and same(made, back) and not back.training
    assert back.observation_spec == made.observation_spec and back.action_spec == made.action_spec
    state, taken = made.initial_state((4,)), action.expand(4, *action.shape).rand()
    noise = made.noise_source("imagine")((4,), torch.Generator().manual_seed(0))
    one, other = made.imagine(state, taken, noise), back.imagine(state, taken, noise)
    assert torch.equal(one.reward, other.reward) and torch.equal(one.cont, other.cont)
    assert all(torch.equal(value, back.decode(one.state)[key]) for key, value in made.decode(one.state).items())


@pytest.mark.parametrize("preset", presets("DreamerV3"))
def test_the_config_of_every_preset_comes_back_equal(preset):
    config = getattr(DreamerV3Config, preset)()
    assert decoded(json.loads(json.dumps(dataclasses.asdict(config))), DreamerV3Config, "config") == config


@pytest.mark.parametrize(
    "changes",
    [
        {"latent": "gaussian"},
        {"decoder": False},
        {"vectors": "symlog"},
        {"mults": (1, 2)},
        {"unimix": 0, "horizon": 10},
    ],
)
def test_every_variation_of_the_config_comes_back(tmp_path, changes):
    spec = OBSERVATIONS["image"] if "mults" in changes else SPEC
    made = model(spec=spec, **changes)
    back = load(made.save_pretrained(tmp_path / "model"))
    assert back.config == made.config and same(made, back)


def test_fitted_statistics_come_back(tmp_path):
    made = model()
    made.encoder.transform.fit(torch.randn(20, 3) * 3 + 1)
    assert torch.equal(load(made.save_pretrained(tmp_path / "m")).encoder.transform.loc, made.encoder.transform.loc)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_precision_comes_back_as_it_is(tmp_path, dtype):
    made = model().to(dtype)
    back = load(made.save_pretrained(tmp_path / "model"))
    assert same(made, back) and next(back.parameters()).dtype == dtype


def test_a_loaded_model_can_be_trained_on(saved):
    back = load(saved)
    assert all(p.requires_grad and p.is_leaf for p in back.parameters())


def test_loading_leaves_the_global_random_state_alone(saved):
    state = torch.get_rng_state()
    load(saved)
    assert torch.equal(state, torch.get_rng_state())


def test_starts_come_back(tmp_path):
    kept = starts()
    path = model().save_pretrained(tmp_path / "with", starts=kept)
    assert all(torch.equal(load_starts(path)[key], value) for key, value in kept.items())
    assert load_starts(model().save_pretrained(tmp_path / "without")) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"deter": torch.zeros(5, 16)}, "their keys are"),
        (
            {"deter": torch.zeros(5, 16), "stoch": torch.zeros(5, 2, 4)},
            r"'stoch' has the shape \[5, 2, 4\], not \[N, 2, 3\]",
        ),
        ({"deter": torch.zeros(16), "stoch": torch.zeros(2, 3)}, "'deter' has the shape"),
        ({"deter": np.zeros((5, 16)), "stoch": torch.zeros(5, 2, 3)}, "'deter' is a ndarray, not a tensor"),
        ({"deter": torch.zeros(5, 16), "stoch": torch.zeros(4, 2, 3)}, r"\[4, 5\] rows"),
        ({"deter": torch.zeros(0, 16), "stoch": torch.zeros(0, 2, 3)}, r"\[0\] rows"),
    ],
)
def test_starts_that_are_no_states_of_the_model_are_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        model().save_pretrained(tmp_path / "model", starts=wrong)
    assert not (tmp_path / "model").exists() and not list(tmp_path.iterdir())


def test_saving_again_replaces_the_model_and_its_starts(saved):
    other = model(seed=1)
    other.save_pretrained(saved)
    assert same(load(saved), other) and load_starts(saved) is None
    assert sorted(file.name for file in saved.iterdir()) == [CONFIG, WEIGHTS]
    assert [entry.name for entry in saved.parent.iterdir()] == ["model"]


def test_saving_through_a_link_replaces_what_it_points_to(saved, tmp_path):
    (tmp_path / "link").symlink_to(saved, target_is_directory=True)
    model(seed=1).save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and same(load(saved), model(seed=1))


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    assert load(model().save_pretrained(tmp_path / "empty")) and load(model().save_pretrained(str(tmp_path / "a/b/c")))


def test_a_folder_that_is_no_model_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and holds no saved model: choose another folder"):
        model().save_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match="exists and holds no saved model"):
        model().save_pretrained(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_other_files_beside_a_model_are_not_lost(saved):
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"would be lost \(notes.txt\): move it away"):
        model(seed=1).save_pretrained(saved)
    assert same(load(saved), model())


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_failed_write_leaves_the_old_model(saved, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)

    def failing(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="disk full"):
        model(seed=1).save_pretrained(saved)
    assert same(load(saved), model()) and [entry.name for entry in saved.parent.iterdir()] == ["model"]


def test_without_an_exchange_of_folders_saving_again_works_too(saved, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    model(seed=1).save_pretrained(saved)
    assert same(load(saved), model(seed=1)) and [entry.name for entry in saved.parent.iterdir()] == ["model"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts system calls by trace events of Python's os")
def test_a_process_killed_anywhere_while_saving_leaves_the_old_model_or_the_new(warm, tmp_path, request):
    # Forks; each child kills itself after its n-th line of folder.py during a save over an old model.
    stride = 1 if request.config.getoption("--weekly") else 3
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.support.small_dreamer import model, same
from wmcomponents.pretrained import files, folder
from wmcomponents.models.loading import load
path = {str(tmp_path)!r} + "/model"
old, new = model(seed=0), model(seed=1)
outcomes, ended, line = set(), False, 0
while not ended:
    line += {stride}
    old.save_pretrained(path)
    child = os.fork()
    if child == 0:
        left = [line]
        def count(frame, event, arg):
            if frame.f_code.co_filename in (folder.__file__, files.__file__) and event in ("line", "return"):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return count
        sys.settrace(count)
        new.save_pretrained(path)
        os._exit(0)
    ended = os.WIFEXITED(os.waitpid(child, 0)[1])
    found = load(path)
    outcomes.add("old" if same(found, old) else "new" if same(found, new) else "neither")
print(line, sorted(outcomes))
"""
    )
    done = warm.run(program)
    assert done.returncode == 0, done.stderr
    lines, outcomes = done.stdout.splitlines()[-1].split(" ", 1)
    assert int(lines) > 40 and outcomes == "['new', 'old']"


def assert_refused(path, match=None):
    with pytest.raises(BadModelError, match=match):
        load(path)
    with pytest.raises(BadModelError):
        DreamerV3.from_pretrained(path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STARTS])
def test_forty_cut_off_files_of_each_kind_are_refused(original, tmp_path, name):
    path = copied(original, tmp_path)
    data = (path / name).read_bytes()
    places = {0, 1, 8, len(data) - 1, *(random.Random(name).randrange(len(data)) for _ in range(36))}
    for place in sorted(places):
        (path / name).write_bytes(data[:place])
        assert_refused(path)
    (path / name).write_bytes(data)
    assert load(path)


@pytest.mark.parametrize("name", [WEIGHTS, STARTS])
def test_a_hundred_flipped_bits_of_each_tensor_file_are_refused(original, tmp_path, name):
    path = copied(original, tmp_path)
    data, chance = (path / name).read_bytes(), random.Random(name)
    for _ in range(100):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (path / name).write_bytes(flipped)
        assert_refused(path, "damaged or was replaced|fits its weights")


@pytest.mark.slow
def test_every_flipped_bit_of_the_config_is_refused(original, tmp_path):
    path = copied(original, tmp_path)
    data = (path / CONFIG).read_bytes()
    for place in range(len(data)):
        for bit in range(8):  # bit 5 turns 1e-05 into 1E-05, which means the same
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            (path / CONFIG).write_bytes(flipped)
            with pytest.raises(BadModelError):
                read_config(path)
    (path / CONFIG).write_bytes(data)
    assert load(path)


@pytest.mark.parametrize("tail", [b"\n", b" ", b"{}", b"\0" * 9])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STARTS])
def test_bytes_after_the_end_are_refused(original, tmp_path, name, tail):
    path = copied(original, tmp_path)
    with open(path / name, "ab") as file:
        file.write(tail)
    assert_refused(path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STARTS])
def test_a_missing_file_is_named(original, tmp_path, name):
    path = copied(original, tmp_path)
    (path / name).unlink()
    assert_refused(path, f"holds no file {name}")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STARTS])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(original, tmp_path, name):
    path = copied(original, tmp_path)
    (path / name).unlink()
    (path / name).mkdir()
    assert_refused(path, f"holds no file {name}")
    (path / name).rmdir()
    os.mkfifo(path / name)
    assert_refused(path, f"holds no file {name}")


def test_a_path_that_is_no_folder_of_a_model_is_refused(original, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent", original / CONFIG, Path("/dev/null")):
        assert_refused(path, "is not a saved model, or is incomplete")


def test_extra_files_do_no_harm(saved):
    (saved / "README.md").write_text("# a card")
    (saved / "model.pkl").write_bytes(b"\x80\x04N.")
    assert same(load(saved), model())


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"1", b'"text"', b"{}", b"\xff\xfe", b"[" * 100_000, b"NaN", b"{]"]
)
def test_a_config_that_is_no_config_is_refused(original, tmp_path, content):
    path = copied(original, tmp_path)
    (path / CONFIG).write_bytes(content)
    assert_refused(path)


def test_a_huge_config_is_refused_unread(original, tmp_path):
    path = copied(original, tmp_path)
    os.truncate(path / CONFIG, 2**40)
    assert_refused(path, "at most 16,777,216")


HUGE = 10**12
FIELDS = [(path, value) for path in DreamerV3Config.entries() for value in ("text", None, [1], {}, 1.5e400, -1, HUGE)]


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_a_forged_config_field_is_refused(original, tmp_path, field, value):
    path = copied(original, tmp_path)
    content = json.loads((path / CONFIG).read_bytes())
    part, name = field.split(".")
    content["config"][part][name] = value
    content["sha256"] = hashlib.sha256(
        json.dumps({k: v for k, v in content.items() if k != "sha256"}, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
    (path / CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    # These say nothing about the shape of a weight: whoever forges the hash can change them, to another valid model.
    free = {"unimix": (), "horizon": (-1, HUGE), "depth": (-1, HUGE), "mults": ([1],)}
    if value in ((-1, HUGE) if part != "network" else free.get(name, ())):
        return
    assert_refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(model="Mystery"),
        lambda c: c.update(model=["DreamerV3"]),
        lambda c: c.update(model=None),
        lambda c: c.update(format=3),
        lambda c: c.update(format="1"),
        lambda c: c.update(config=[]),
        lambda c: c.update(config={}),
        lambda c: c["config"].update(extra=1),
        lambda c: c["config"].update(network="text"),
        lambda c: c["config"]["network"].update(extra=1),
        lambda c: c["config"]["network"].pop("deter"),
        lambda c: c.update(observation_spec=None),
        lambda c: c.update(observation_spec={}),
        lambda c: c.update(observation_spec={"kind": "Composite", "entries": []}),
        lambda c: c.update(observation_spec={"kind": "Composite", "entries": {}}),
        lambda c: c.update(observation_spec={"kind": "Unbounded", "shape": [3], "dtype": "float32"}),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape=[4]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape=[HUGE]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape=[HUGE, HUGE, HUGE]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape=[-3]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape="3"),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape=[3.0]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(shape=[True]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(dtype="complex64"),
        lambda c: c["observation_spec"]["entries"]["observation"].update(dtype="os"),
        lambda c: c["observation_spec"]["entries"]["observation"].update(dtype=["float32"]),
        lambda c: c["observation_spec"]["entries"]["observation"].update(kind="Executable"),
        lambda c: c["observation_spec"]["entries"]["observation"].update(kind=None),
        lambda c: c["observation_spec"]["entries"].update(
            observation={"kind": "Bounded", "shape": [2**13, 2**13, 3], "dtype": "float32", "low": 0, "high": 1}
        ),
        lambda c: c["observation_spec"]["entries"].update(
            observation={"kind": "Bounded", "shape": [3], "dtype": "float32", "low": [0, 0], "high": 1}
        ),
        lambda c: c["observation_spec"]["entries"].update(
            observation={"kind": "Bounded", "shape": [3], "dtype": "float32", "low": "low", "high": 1}
        ),
        lambda c: c["observation_spec"]["entries"].update(
            observation={"kind": "Categorical", "shape": [], "dtype": "int64", "n": HUGE}
        ),
        lambda c: c["observation_spec"]["entries"].update(
            extra={"kind": "Unbounded", "shape": [1], "dtype": "float32"}
        ),
        lambda c: c["action_spec"].update(n=3),
        lambda c: c["action_spec"].update(n=-1),
        lambda c: c["action_spec"].update(n=HUGE, shape=[HUGE]),
        lambda c: c["action_spec"].update(kind="Categorical", shape=[], n=HUGE),
        lambda c: c.update(action_spec=c["observation_spec"]),
        lambda c: c.update(weights_sha256="0" * 64),
        lambda c: c.update(weights_sha256=1),
        lambda c: c.update(starts_sha256=1),
        lambda c: c.update(starts_sha256=c["weights_sha256"]),
        lambda c: c.pop("weights_sha256"),
        lambda c: c.pop("observation_spec"),
        lambda c: c.pop("model"),
    ],
)
def test_a_forged_config_with_a_right_hash_is_refused(original, tmp_path, change):
    path = copied(original, tmp_path)
    resealed(path, change)
    assert_refused(path)


def replaced_weights(path, data, name=WEIGHTS):
    """Other weights, and the config that vouches for them."""
    (path / name).write_bytes(data)
    key = {WEIGHTS: "weights_sha256", STARTS: "starts_sha256"}[name]
    resealed(path, lambda content: content.update({key: hashlib.sha256(data).hexdigest()}))


def first(tensors, change):
    key = next(iter(tensors))
    return {**tensors, key: change(tensors[key])}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {},
        lambda t: dict(list(t.items())[1:]),
        lambda t: {**t, "extra": torch.zeros(1)},
        lambda t: first(t, lambda value: value[:-1].clone()),
        lambda t: first(t, lambda value: value.unsqueeze(0)),
        lambda t: first(t, lambda value: value.to(torch.int64)),
        lambda t: first(t, lambda value: value > 0),
        lambda t: first(t, lambda value: value.to(torch.complex64)),
        lambda t: {f"module.{key}": value for key, value in t.items()},
    ],
)
def test_weights_of_another_model_are_refused_though_their_hash_is_right(original, tmp_path, change):
    path = copied(original, tmp_path)
    replaced_weights(path, save(change(load_file(path / WEIGHTS))))
    assert_refused(path, "fits its weights")


def header(content, data=b""):
    encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**30),
        header(b"[" * 5000),
        header([]),
        header({"a": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 4),
        header({"a": {"dtype": "X99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"\0" * 4),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"\0" * 4),
    ],
)
@pytest.mark.parametrize("name", [WEIGHTS, STARTS])
def test_a_malformed_tensor_file_is_refused_though_its_hash_is_right(original, tmp_path, name, data):
    path = copied(original, tmp_path)
    replaced_weights(path, data, name)
    assert_refused(path)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("name", [WEIGHTS, STARTS, CONFIG])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_never_executed(original, tmp_path, name, kind):
    path, target = copied(original, tmp_path), tmp_path / "executed"
    if kind == "pickle":
        data = pickle.dumps(Bomb(str(target)))
    else:
        torch.save(Bomb(str(target)), tmp_path / "bomb.pt")
        data = (tmp_path / "bomb.pt").read_bytes()
    pickle.loads(pickle.dumps(Bomb(str(target))))
    assert target.is_dir(), "the pickle would have worked"
    target.rmdir()
    if name == CONFIG:
        (path / CONFIG).write_bytes(data)
    else:
        replaced_weights(path, data, name)
    assert_refused(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "change", [lambda t: {}, lambda t: {"deter": t["deter"]}, lambda t: {**t, "stoch": t["deter"].clone()}]
)
def test_starts_of_another_model_are_refused_though_their_hash_is_right(original, tmp_path, change):
    path = copied(original, tmp_path)
    replaced_weights(path, save(change(load_file(path / STARTS))), STARTS)
    assert_refused(path, "does not hold states of this model")


@pytest.mark.parametrize("field", ["deter", "hidden", "units", "classes", "groups", "bins", "layers"])
def test_sizes_beyond_any_memory_are_refused_at_once(original, tmp_path, field):
    # 2**20 layers would take hours to build, 2**33 units tens of gigabytes a layer: neither may be begun.
    path = copied(original, tmp_path)
    resealed(path, lambda content: content["config"]["network"].update({field: 2**20 if field == "layers" else 2**33}))
    before = peak()
    assert_refused(path, "far more memory")
    assert peak() - before < 100


def peak():
    """Most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def test_the_class_must_be_the_one_that_was_saved(original):
    class Other(DreamerV3):
        pass

    with pytest.raises(BadModelError, match="holds a 'DreamerV3', not a Other: use wmcomponents.load"):
        Other.from_pretrained(original)


def test_an_unknown_family_names_the_known_ones(original, tmp_path):
    path = copied(original, tmp_path)
    resealed(path, lambda content: content.update(model="Mystery"))
    with pytest.raises(BadModelError, match="holds a 'Mystery'; the families known here are .*DreamerV3"):
        load(path)


def test_the_starts_alone_are_checked_too(original, tmp_path):
    path = copied(original, tmp_path)
    (path / STARTS).write_bytes(b"")
    with pytest.raises(BadModelError, match="is damaged or was replaced"):
        load_starts(path)


@dataclasses.dataclass(frozen=True)
class PartConfig:
    width: int = 3
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class NestedConfig:
    part: PartConfig = PartConfig()
    rate: float = 0.5
    pair: tuple[int, str] = (1, "a")
    parts: tuple[PartConfig, ...] = (PartConfig(1), PartConfig(2, "b"))
    kind: Literal["a", "b"] = "a"
    flag: bool = True


class Nested(PretrainedModel):
    """A user's family with a nested config."""

    config_class = NestedConfig

    def __init__(self, config, observation_spec, action_spec):
        super().__init__(
            observation_spec=observation_spec, action_spec=action_spec, state_spec=Composite(s=Unbounded(3))
        )
        self.config = config
        self.weight = torch.nn.Parameter(torch.zeros(config.part.width))

    def observe(self, state, action, observation, is_init, noise):
        return {"s": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        return Prediction({"s": state["s"] + self.weight}, state["s"][..., :1], None)


def test_a_user_s_family_with_a_nested_config_comes_back(tmp_path):
    made = Nested(NestedConfig(PartConfig(3, "x"), rate=1, pair=(2, "z"), kind="b", flag=False), SPEC, ACTION)
    back = Nested.from_pretrained(made.save_pretrained(tmp_path / "nested"))
    assert back.config == made.config and isinstance(back.config.parts[1], PartConfig)
    with pytest.raises(BadModelError, match="the families known here are"):
        load(tmp_path / "nested")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": float("nan")}, "NestedConfig cannot be saved"),
        ({"rate": torch.zeros(1)}, "NestedConfig cannot be saved"),
        ({"pair": (1, 2)}, r"config.pair\[1\] must be a string; got 2"),
        ({"kind": "c"}, "config.kind must be"),
        ({"flag": 1}, "config.flag must be True or False; got 1"),
    ],
)
def test_a_config_that_would_not_come_back_is_not_saved(tmp_path, changes, message):
    made = Nested(NestedConfig(), SPEC, ACTION)
    made.config = dataclasses.replace(made.config, **changes)
    with pytest.raises(TypeError, match=message):
        made.save_pretrained(tmp_path / "nested")
    assert not list(tmp_path.iterdir())


# -- what else may stand where a file should ----


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STARTS])
@pytest.mark.parametrize("target", ["itself", "/dev/zero", "/dev/null", "/nowhere"])
def test_a_link_in_place_of_a_file_is_not_followed(original, tmp_path, name, target):
    path = copied(original, tmp_path)
    shutil.copy(path / name, tmp_path / "elsewhere")
    (path / name).unlink()
    (path / name).symlink_to(tmp_path / "elsewhere" if target == "itself" else target)
    assert_refused(path, "is a link, which is not followed")


def test_a_path_that_is_a_link_to_a_folder_is_fine(original, tmp_path):
    (tmp_path / "link").symlink_to(original, target_is_directory=True)
    assert same(load(tmp_path / "link"), load(original))


def test_names_of_files_stay_inside_their_folder(original):
    with StrictFolder(original, BadModelError, "a saved model") as found:
        for name in ("", ".", "..", "../model/config.json", "/etc/passwd", "a\0b"):
            with pytest.raises(BadModelError, match="is no name of a file inside"):
                found.open(name)
        with pytest.raises(BadModelError, match="holds no folder inner"):
            found.folder("inner")


def test_a_sparse_file_costs_no_memory(original, tmp_path):
    path, before = copied(original, tmp_path), peak()
    for name in (WEIGHTS, STARTS):
        os.truncate(path / name, 2**40)
        assert_refused(path, "is not a safetensors file")
        shutil.copy(original / name, path / name)
    huge = header({"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}})
    (path / WEIGHTS).write_bytes(huge)
    os.truncate(path / WEIGHTS, len(huge) + 2**40)
    assert_refused(path, "the keys of the weights are others")
    assert peak() - before < 100


def test_a_config_as_large_as_a_sparse_file_is_refused_by_what_the_machine_has(original, tmp_path):
    # Config, header and size agree on matrices of 2**40 numbers; only the disk does not hold them.
    path, before = copied(original, tmp_path), peak()
    units = 2**20
    resealed(path, lambda content: content["config"]["network"].update(deter=units, hidden=units, units=units))
    with contextlib.suppress(BadModelError):
        load(path)
    huge = {"a": {"dtype": "F32", "shape": [units, units], "data_offsets": [0, 4 * units**2]}}
    (path / WEIGHTS).write_bytes(header(huge))
    os.truncate(path / WEIGHTS, len(header(huge)) + 4 * units**2)
    assert_refused(path)
    with open(path / WEIGHTS, "rb") as file, pytest.raises(BadModelError, match="more than is free on this machine"):
        TensorFile(file, "model.safetensors", BadModelError).read()
    assert peak() - before < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits what a process may take")
def test_a_count_of_layers_that_would_fill_the_memory_with_a_list_is_refused(original, tmp_path):
    path, before = copied(original, tmp_path), peak()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    for layers in (2**31, 2**40):
        resealed(path, lambda content, layers=layers: content["config"]["network"].update(layers=layers))
        assert_refused(path)
    assert peak() - before < 200 and resource.getrlimit(resource.RLIMIT_AS) == limits


def test_a_large_file_is_not_read_for_a_config_that_is_wrong_in_itself(original, tmp_path):
    path, before = copied(original, tmp_path), peak()
    resealed(path, lambda content: content["config"]["network"].update(deter=2**16 + 1, blocks=2, units=2**16))
    huge = header({"a": {"dtype": "F32", "shape": [2**16, 2**14], "data_offsets": [0, 2**32]}})
    (path / WEIGHTS).write_bytes(huge)
    os.truncate(path / WEIGHTS, len(huge) + 2**32)
    assert_refused(path, "blocks")
    assert peak() - before < 100


# -- numbers that are none ----


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["reward_head.out.weight", "encoder.transform.loc"])
def test_weights_and_buffers_that_are_not_finite_are_named_when_saved_and_when_loaded(tmp_path, key, number):
    made = model()
    made.state_dict()[key].reshape(-1)[1] = number
    with pytest.raises(ValueError, match=rf"holds NaN or infinity: {re.escape(key)} \(1 of .* allow_nonfinite=True"):
        made.save_pretrained(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    path = made.save_pretrained(tmp_path / "model", allow_nonfinite=True)
    assert_refused(path, rf"holds NaN or infinity: .*{re.escape(key)} \(1 of .* load it with allow_nonfinite=True")
    for back in (load(path, allow_nonfinite=True), DreamerV3.from_pretrained(path, allow_nonfinite=True)):
        assert torch.equal(back.state_dict()[key].nan_to_num(), made.state_dict()[key].nan_to_num())


def test_starts_that_are_not_finite_are_named_when_saved_and_when_loaded(original, tmp_path):
    odd = starts()
    odd["deter"][2, 3] = float("nan")
    with pytest.raises(ValueError, match=r"holds NaN or infinity: deter \(1 of 80 numbers\)"):
        model().save_pretrained(tmp_path / "model", starts=odd)
    path = copied(original, tmp_path)
    replaced_weights(path, save(odd), STARTS)
    assert_refused(path, r"starts.safetensors holds NaN or infinity: deter \(1 of 80 numbers\)")
    with pytest.raises(BadModelError, match="holds NaN or infinity"):
        load_starts(path)
    assert load_with_starts(path, allow_nonfinite=True).starts["deter"].isnan().sum() == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool])
def test_starts_of_another_dtype_are_refused_when_saved_and_when_loaded(original, tmp_path, dtype):
    odd = {key: value.to(dtype) for key, value in starts().items()}
    with pytest.raises(ValueError, match=f"'deter' has the dtype {dtype}, not torch.float32"):
        model().save_pretrained(tmp_path / "model", starts=odd)
    path = copied(original, tmp_path)
    replaced_weights(path, save(odd), STARTS)
    assert_refused(path, f"does not hold states of this model: 'deter' has the dtype {dtype}, not torch.float32")


def test_starts_in_the_precision_of_the_model_are_fine(tmp_path):
    kept = {key: value.double() for key, value in starts().items()}
    path = model().double().save_pretrained(tmp_path / "model", starts=kept)
    assert all(torch.equal(value, kept[key]) for key, value in load_with_starts(path).starts.items())


# -- loading leaves the caller's process alone, and gives the model that was saved ----


@pytest.mark.parametrize("name", [name for name, _ in contract.MODELS])
def test_every_family_comes_back_to_the_bit_in_the_same_layout_and_no_generator_moves(tmp_path, name):
    made = dict(contract.MODELS)[name]()
    if not isinstance(made, PretrainedModel):
        return
    path = made.eval().save_pretrained(tmp_path / "model")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    back = load(path)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()
    tensors = [dict(one.named_parameters()) | dict(one.named_buffers()) for one in (made, back)]
    assert tensors[0].keys() == tensors[1].keys()
    for key, value in tensors[0].items():
        twin = tensors[1][key]
        assert value.dtype == twin.dtype and value.stride() == twin.stride(), key
        assert value.requires_grad == twin.requires_grad and torch.equal(value, twin), key


class Drawing(Nested):
    """A user's family that draws from every generator as it is built, computes with what it drew, and keeps tables."""

    def __init__(self, config, observation_spec, action_spec):
        super().__init__(config, observation_spec, action_spec)
        drawn = torch.rand(3).sum().item() + np.random.rand() + random.random()
        self.weight = torch.nn.Parameter(torch.full((config.part.width,), drawn))
        self.register_buffer("own", torch.randn(4, generator=torch.Generator().manual_seed(3)), persistent=False)
        torch.manual_seed(5)
        self.register_buffer("seeded", torch.randn(4), persistent=False)


def test_a_users_family_may_draw_and_compute_as_it_is_built_and_keep_tables_of_its_own_seed(tmp_path):
    made = Drawing(NestedConfig(), SPEC, ACTION)
    path = made.save_pretrained(tmp_path / "drawing")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    back = Drawing.from_pretrained(path)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()
    assert torch.equal(back.weight, made.weight)
    assert torch.equal(back.own, made.own) and torch.equal(back.seeded, made.seeded)


def test_the_callers_default_precision_and_device_are_not_the_models(saved):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            back = load(saved)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    bins = back.reward_head.distribution.bins
    assert same(back, model()) and bins.dtype == torch.float32 and not bins.is_meta


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tables_that_are_no_weights_have_the_models_precision(tmp_path, dtype):
    made = model().to(dtype)
    back = load(made.save_pretrained(tmp_path / "m"))
    assert torch.equal(back.reward_head.distribution.bins, made.reward_head.distribution.bins)


def test_precisions_that_differ_within_a_model_come_back(tmp_path):
    made = model()
    made.encoder.to(torch.bfloat16)
    back = load(made.save_pretrained(tmp_path / "m"))
    assert {key: value.dtype for key, value in back.state_dict().items()} == {
        key: value.dtype for key, value in made.state_dict().items()
    }
    assert same(made, back)


def test_what_a_model_holds_once_is_held_once_when_it_comes_back(tmp_path):
    back = load(model().save_pretrained(tmp_path / "m"))
    assert back.encoder.transform.loc.data_ptr() == back.decoder.transform.loc.data_ptr()


def test_what_a_model_holds_once_cannot_have_two_values(original, tmp_path):
    path = copied(original, tmp_path)
    tensors = load_file(path / WEIGHTS)
    tensors["decoder.transform.loc"] = tensors["encoder.transform.loc"] + 1
    replaced_weights(path, save(tensors))
    assert_refused(path, "encoder.transform.loc and decoder.transform.loc are one and the same in the model")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: dict(list(t.items())[1:]),
        lambda t: {**t, "extra": torch.zeros(1)},
        lambda t: {**t, list(t)[-1]: torch.zeros(2, 2, 2)},
        lambda t: {**t, list(t)[-1]: t[list(t)[-1]].bool()},
    ],
)
def test_weights_that_do_not_fit_change_nothing_in_a_model_that_is_there(change):
    made, other = model(), model(seed=1).state_dict()
    with pytest.raises(RuntimeError, match="nothing was loaded into this DreamerV3"):
        made.load_state_dict(change(other))
    assert same(made, model())
    made.load_state_dict(other)
    assert same(made, model(seed=1))
    assert made.load_state_dict({}, strict=False).missing_keys


def test_a_model_without_numbers_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="is no tensor with numbers, and cannot be saved"):
        model().to("meta").save_pretrained(tmp_path / "model")
    assert not list(tmp_path.iterdir())


# -- readers and writers at the same time ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a second process on the same folder")
def test_a_reader_beside_a_writer_sees_one_save(tmp_path):
    path, pair = tmp_path / "model", [model(seed=0), model(seed=1)]
    kept = [{key: torch.full_like(value, number) for key, value in starts().items()} for number in (0.0, 1.0)]
    pair[0].save_pretrained(path, starts=kept[0])
    child = os.fork()
    if child == 0:
        for turn in itertools.cycle((1, 0)):
            pair[turn].save_pretrained(path, starts=kept[turn])
    seen = set()
    try:
        for number in range(80):
            if number % 6:
                found, dreamt = load_with_starts(path)
            else:
                simulator = make_simulator(path, seed=0)
                simulator.reset()
                found, dreamt = simulator.model, simulator.state
            turn = int(dreamt["deter"].flatten()[0])
            assert same(found, pair[turn]) and bool((dreamt["deter"] == turn).all())
            seen.add(turn)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert seen == {0, 1}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a kill leaves is told by locks")
def test_what_killed_writers_leave_is_removed_by_the_next_save_and_not_what_living_ones_write(tmp_path):
    path = model().save_pretrained(tmp_path / "model")
    with files.replacing(path, (CONFIG, WEIGHTS, STARTS), "saved model") as living:
        (living / WEIGHTS).write_bytes(b"half")
        for _ in range(3):
            child = os.fork()
            if child == 0:
                with files.replacing(path, (CONFIG, WEIGHTS, STARTS), "saved model") as fresh:
                    (fresh / WEIGHTS).write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
        assert len(list(tmp_path.iterdir())) == 3  # each removes what the one before it left
        model(seed=1).save_pretrained(path)
        assert (living / WEIGHTS).read_bytes() == b"half"
        assert {entry.name for entry in tmp_path.iterdir()} == {"model", living.name}
        (living / CONFIG).write_bytes((path / CONFIG).read_bytes())
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert (path / WEIGHTS).read_bytes() == b"half", "who ends last stays"


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o775])
def test_a_new_save_has_the_mode_of_the_old_and_files_that_of_their_folder(tmp_path, mode):
    path = model().save_pretrained(tmp_path / "model", starts=starts())
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~umask}
    path.chmod(mode)
    model(seed=1).save_pretrained(path, starts=starts())
    assert path.stat().st_mode & 0o777 == mode
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {mode & 0o666}


# -- other versions ----


def test_the_version_that_wrote_a_model_is_kept(saved):
    assert json.loads((saved / CONFIG).read_text())["wmcomponents"] == wmcomponents.__version__
    with SavedModel.open(saved) as opened:
        assert opened.written_by == f"wmcomponents {wmcomponents.__version__}"


@dataclasses.dataclass(frozen=True)
class NewerPartConfig(PartConfig):
    depth: int = 7


@dataclasses.dataclass(frozen=True)
class NewerConfig(NestedConfig):
    part: NewerPartConfig = NewerPartConfig()
    twist: float = 0.25


def test_a_model_that_was_saved_before_a_field_existed_takes_its_default_and_says_so(tmp_path, monkeypatch):
    path = Nested(NestedConfig(PartConfig(3, "x")), SPEC, ACTION).save_pretrained(tmp_path / "nested")
    monkeypatch.setattr(Nested, "config_class", NewerConfig)
    with pytest.warns(
        UserWarning, match=r"was written by wmcomponents .* did not know config.twist, config.part.depth"
    ):
        back = Nested.from_pretrained(path)
    assert (back.config.twist, back.config.part.depth, back.config.part.name) == (0.25, 7, "x")
    assert Nested.from_pretrained(back.save_pretrained(path)).config == back.config  # and no warning


def test_a_field_of_a_newer_version_is_refused_with_both_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(Nested, "config_class", NewerConfig)
    path = Nested(NewerConfig(NewerPartConfig(3)), SPEC, ACTION).save_pretrained(tmp_path / "nested")
    resealed(path, lambda content: content.update(wmcomponents="99.0"))
    monkeypatch.setattr(Nested, "config_class", NestedConfig)
    message = rf"written by wmcomponents 99.0 and read by {wmcomponents.__version__}.* unknown fields \['twist'\]"
    with pytest.raises(BadModelError, match=message):
        Nested.from_pretrained(path)


# -- paths that are something else ----


def test_a_wrong_path_is_told_what_it_is_and_which_is_right(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/replay.json").write_text("{}")
    (tmp_path / "theirs.pt").write_bytes(b"")
    for given, message in [
        ("someone/cartpole-dream", r"Hugging Face Hub.*HubModel.from_pretrained\('someone/cartpole-dream'\).*\[hub\]"),
        ("modle", r"there is no such folder. Did you mean model\?"),
        (saved / WEIGHTS, f"it is a file of one. Give the folder, {saved}"),
        ("theirs.pt", "read by wmcomponents.load_official"),
        ("run", "folder of a training run that has saved no model yet"),
        ("data", "folder of data, which a model is trained on: wmc train --data data"),
        (tmp_path, f"saved models do lie in it: {tmp_path / 'model'}"),
        ("/dev/null", "it is no folder"),
        ("a\0b", "there is no such folder"),
    ]:
        with pytest.raises(BadModelError, match=message):
            load(given)
    shutil.copytree(saved, tmp_path / "run/model")
    with pytest.raises(BadModelError, match="folder of a training run, whose model is run/model"):
        load("run")


def test_a_mistyped_family_or_preset_is_asked_about():
    with pytest.raises(ValueError, match="Did you mean 'DreamerV3'"):
        make_model("dreamerv3", "tiny", SPEC, ACTION)
    with pytest.raises(ValueError, match="Did you mean 'size12m'"):
        make_model("DreamerV3", "12m", SPEC, ACTION)


@pytest.mark.gpu
def test_a_model_goes_to_the_device_and_comes_from_it(tmp_path):
    made = model().to("cuda")
    back = load(made.save_pretrained(tmp_path / "model"), device="cuda")
    assert next(back.parameters()).device.type == "cuda" and same(made, back)
    assert same(made.cpu(), load(tmp_path / "model"))
