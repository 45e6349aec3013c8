"""What a spec remembers of the real entry it stands for."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents import BadModelError, load
from wmcomponents.codecs import (
    EntryCodec,
    Real,
    SpaceError,
    action_spec_from_space,
    check_real,
    marked,
    observation_spec_from_space,
    real_of,
    space_from_spec,
    space_of,
)
from wmcomponents.integrations.gymnasium import DreamEnv
from wmcomponents.models import DreamerV3
from wmcomponents.pretrained.folder import CONFIG
from wmcomponents.pretrained.specs import spec_from_json, spec_to_json

FROM_ONE = spaces.Discrete(3, start=1)


def test_copies_and_pickles_remember_and_torchrls_clone_forgets():
    spec = action_spec_from_space(FROM_ONE)
    for copied in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec)), spec_from_json(spec_to_json(spec))):
        assert space_of(copied) == FROM_ONE
    assert space_of(spec.clone()) == spaces.Discrete(3)


def test_what_a_spec_says_by_itself_is_not_written_beside_it():
    for space in (spaces.Discrete(3), spaces.Box(-1, 1, (2,)), spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])):
        spec = action_spec_from_space(space)
        assert real_of(spec) is None and "real" not in spec_to_json(spec)


def test_specs_are_equal_whatever_they_remember():
    assert action_spec_from_space(FROM_ONE) == OneHot(3, dtype=torch.int64)


def test_a_mark_that_does_not_fit_its_spec_is_refused():
    real = real_of(action_spec_from_space(FROM_ONE))
    with pytest.raises(SpaceError, match="does not stand for"):
        space_of(marked(OneHot(4), real))


def test_values_make_the_round_trip_with_any_leading_dims():
    codec = EntryCodec(action_spec_from_space(spaces.MultiDiscrete([[3, 4], [2, 5]], start=[[1, 0], [-1, 2]])))
    values = torch.as_tensor(np.stack([codec.space.sample() for _ in range(6)]))
    read = codec.read(values)
    assert torch.equal(codec.write(read), values)
    np.testing.assert_array_equal(codec.write(read.reshape(2, 3, -1).numpy()), values.reshape(2, 3, 2, 2).numpy())


GOOD = {"kind": "Discrete", "dtype": "int64", "n": 3, "start": 1}
HOSTILE = [
    {},
    {"kind": "Discrete"},
    {"kind": "Tuple", "n": 3},
    {**GOOD, "more": 1},
    {**GOOD, "n": 4},
    {**GOOD, "n": [3, 3]},
    {**GOOD, "dtype": "object"},
    {"kind": "MultiDiscrete", "dtype": "int64", "shape": [2], "n": [3, 3], "start": [0, 0]},
    {"kind": "MultiDiscrete", "dtype": "int64", "shape": [-1], "n": [3], "start": [0]},
    {"kind": "MultiDiscrete", "dtype": "int64", "shape": [1], "n": [3], "start": [0, 1]},
    {"kind": "Box", "dtype": "float64", "shape": [3], "low": 0, "high": 1},
    {"kind": "MultiBinary", "n": 2**40},
    3,
]


@pytest.mark.parametrize("content", HOSTILE, ids=str)
def test_what_a_file_claims_about_the_real_space_is_compared_with_the_spec(content):
    with pytest.raises(ValueError):
        check_real(Real(content), OneHot(3))


@pytest.mark.parametrize("name", [3, ["x"]])
def test_the_name_of_a_real_entry_is_a_string(name):
    with pytest.raises(ValueError, match="name"):
        check_real(Real(GOOD, name), OneHot(3))


def test_a_saved_model_keeps_its_spaces_and_a_forged_one_is_refused(tmp_path):
    space = spaces.Dict(y=FROM_ONE, x=spaces.Box(-1, 1, (), np.float64))
    path = DreamerV3("tiny", space, FROM_ONE).save_pretrained(tmp_path / "model")
    dream = DreamEnv(path, horizon=3)
    assert dream.observation_space == space and list(dream.observation_space) == ["y", "x"]
    assert dream.observation_space["x"].dtype == np.float64 and dream.action_space == FROM_ONE
    text = (path / CONFIG).read_text()
    assert '"start": 1' in text
    (path / CONFIG).write_text(text.replace('"start": 1', '"start": "1"'))
    with pytest.raises(BadModelError):
        load(path)


def test_specs_written_before_spaces_were_remembered_are_read():
    old = {"kind": "Composite", "entries": {"observation": {"kind": "Unbounded", "shape": [3], "dtype": "float32"}}}
    assert spec_from_json(old) == Composite(observation=Unbounded(3))
    assert space_from_spec(spec_from_json(old)) == spaces.Box(-np.inf, np.inf, (3,), np.float32)


def test_the_order_of_entries_survives():
    names = ["z", "b", "y", "a"]
    space = spaces.Dict([(name, spaces.Box(-1, 1, (1,))) for name in names])
    text = json.dumps(spec_to_json(observation_spec_from_space(space)), sort_keys=True)
    assert list(space_from_spec(spec_from_json(json.loads(text))).spaces) == names


@pytest.mark.parametrize("order", [["b"], ["a", "a"], ["a", "c"], 3, ["a", "b", "b"]])
def test_an_order_of_other_entries_is_refused(order):
    leaf = {"kind": "Unbounded", "shape": [3], "dtype": "float32"}
    with pytest.raises(ValueError, match="order"):
        spec_from_json({"kind": "Composite", "entries": {"a": leaf, "b": leaf}, "order": order})


def test_bounds_of_the_dtype_itself_say_nothing():
    assert isinstance(action_spec_from_space(spaces.Box(-128, 127, (2,), np.int8)), Unbounded)
    assert isinstance(action_spec_from_space(spaces.Box(-128, 126, (2,), np.int8)), Bounded)
