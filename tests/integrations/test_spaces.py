"""Between torchrl specs and Gymnasium spaces."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, Unbounded

from tests.support.models import PointMass
from wmcomponents.codecs import action_spec_from_space
from wmcomponents.dream import Simulator
from wmcomponents.integrations.spaces import (
    ActionReader,
    HostWriter,
    ObservationReader,
    ObservationWriter,
    SpaceError,
    outline,
    space_from_spec,
)

CPU = torch.device("cpu")
SPECS = {
    "vector": (Unbounded(3), spaces.Box(-np.inf, np.inf, (3,), np.float32)),
    "double": (Unbounded(3, dtype=torch.float64), spaces.Box(-np.inf, np.inf, (3,), np.float64)),
    "bounded": (Bounded(-2, 2, (2,)), spaces.Box(-2, 2, (2,), np.float32)),
    "image": (Bounded(0, 255, (4, 4, 3), dtype=torch.uint8), spaces.Box(0, 255, (4, 4, 3), np.uint8)),
    "planes": (Binary(shape=(4, 4, 2), dtype=torch.bool), spaces.Box(0, 1, (4, 4, 2), np.bool_)),
    "bits": (Binary(4, dtype=torch.int8), spaces.MultiBinary(4)),
    "matrix of one-hots": (OneHot(3, shape=(2, 3)), spaces.MultiDiscrete([3, 3])),
    "integers": (Unbounded(2, dtype=torch.int16), spaces.Box(-(2**15), 2**15 - 1, (2,), np.int16)),
    "one-hot": (OneHot(3), spaces.Discrete(3)),
    "categorical": (Categorical(4), spaces.Discrete(4)),
    "categoricals": (Categorical(4, shape=(2,)), spaces.MultiDiscrete([4, 4])),
    "multi-one-hot": (MultiOneHot([2, 3]), spaces.MultiDiscrete([2, 3])),
    "multi-categorical": (MultiCategorical([2, 3]), spaces.MultiDiscrete([2, 3])),
}


@pytest.mark.parametrize("name", SPECS)
def test_every_spec_has_its_space(name):
    spec, space = SPECS[name]
    made = space_from_spec(spec)
    assert made == space and made.dtype == space.dtype


def test_only_usual_names_are_shown_bare():
    assert isinstance(space_from_spec(Composite(observation=Unbounded(3))), spaces.Box)
    assert isinstance(space_from_spec(Composite(speed=Unbounded(3))), spaces.Dict)
    assert isinstance(space_from_spec(Composite(observation=Unbounded(3), pixels=Unbounded(2))), spaces.Dict)


@pytest.mark.parametrize("name", SPECS)
def test_actions_of_the_space_become_values_of_the_spec(name):
    spec, space = SPECS[name]
    read = ActionReader(spec, CPU)
    space.seed(0)
    batch = np.stack([np.asarray(space.sample()) for _ in range(5)])
    action = read(batch, 5)
    assert spec.expand(5, *spec.shape).is_in(action) and action.dtype is spec.dtype
    torch.testing.assert_close(read(torch.from_numpy(batch), 5), action)


@pytest.mark.parametrize("name", SPECS)
def test_observations_make_the_round_trip(name):
    spec, space = SPECS[name]
    composite = Composite(observation=spec)
    torch.manual_seed(0)
    value = composite.expand(5).rand()["observation"]
    write, read = ObservationWriter(composite), ObservationReader(composite, CPU)
    shown = write({"observation": value.numpy()})
    assert write.space == space
    for i in range(5):
        assert space.contains(shown[i])
    back = read(shown, 5)["observation"]
    assert torch.equal(back, value) and back.dtype is value.dtype
    as_tensors = write({"observation": value})
    np.testing.assert_array_equal(np.asarray(as_tensors), np.asarray(shown))


@pytest.mark.parametrize(
    "actions, words",
    [
        (np.zeros(3), "got torch.float64.*argmax"),
        (np.array([True, False, True]), "integer"),
        (np.array([0, 1]), r"shape \(3,\).*got \(2,\)"),
        (np.array([0, 1, 3]), "no action 3"),
        (np.array([0, -1, 1]), "no action -1"),
    ],
)
@pytest.mark.parametrize("spec", [OneHot(3), Categorical(3)], ids=["one-hot", "categorical"])
def test_actions_that_do_not_fit_are_refused(spec, actions, words):
    with pytest.raises(SpaceError, match=words):
        ActionReader(spec, CPU)(actions, 3)


def test_one_row_too_many_is_told_from_a_missing_row_dimension():
    with pytest.raises(SpaceError, match="without the row dimension"):
        ActionReader(Bounded(-1, 1, (2,)), CPU)(np.zeros(2), 1)


def test_read_only_and_reversed_arrays_are_read():
    read = ActionReader(Bounded(-9, 9, (2,)), CPU)
    frozen = np.ones((3, 2), np.float32)
    frozen.flags.writeable = False
    assert read(frozen, 3).sum() == 6
    assert read(np.arange(6.0).reshape(3, 2)[::-1], 3)[0].tolist() == [4.0, 5.0]
    assert read([[0.5, 0.5]], 1).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    "observation, words",
    [
        (np.zeros((2, 4), np.float32), r"shape \(2, 3\).*got \(2, 4\)"),
        (np.zeros((2, 3), np.int64), "must be torch.float32"),
        (np.array([[0, np.nan, 0], [0, 0, 0]], np.float32), r"not finite in rows \[0\]"),
        (np.array([[0, 0, 0], [0, np.inf, 0]], np.float32), r"not finite in rows \[1\]"),
        ({"speed": np.zeros((2, 3), np.float32)}, "observes.*observation.*shows.*speed"),
    ],
)
def test_observations_that_do_not_fit_are_refused(observation, words):
    with pytest.raises(SpaceError, match=words):
        ObservationReader(Composite(observation=Unbounded(3)), CPU)(observation, 2)


def test_doubles_are_read_as_the_floats_of_the_spec():
    read = ObservationReader(Composite(observation=Unbounded(3)), CPU)
    assert read(np.zeros((2, 3)), 2)["observation"].dtype is torch.float32


def test_actions_of_a_space_of_doubles_are_read_as_floats_too():
    spec = action_spec_from_space(spaces.Box(-1, 1, (2,), np.float64))
    read = ActionReader(spec, CPU)
    assert read.space.dtype == np.float64
    action = read(np.array([[0.5, 3.0]]), 1)
    assert action.dtype is torch.float32 and action.tolist() == [[0.5, 1.0]]


def test_outlines_tell_spaces_apart_by_what_a_policy_needs():
    same = [spaces.Box(-1, 1, (3,)), spaces.Box(-5, 5, (3,))]
    other = [spaces.Box(-1, 1, (4,)), spaces.Discrete(3), spaces.Discrete(4), spaces.MultiDiscrete([3]), spaces.Dict()]
    assert outline(same[0]) == outline(same[1])
    shapes = [str(outline(space)) for space in (same[0], *other)]
    assert len(set(shapes)) == len(shapes)


def test_one_packed_transfer_brings_tensors_of_any_dtype_to_the_host(monkeypatch):
    """The path of accelerators, with the two calls that need one replaced."""
    empty = torch.empty

    class Stream:
        def synchronize(self):
            pass

    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **options: empty(*size, **options))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    writer = HostWriter(Simulator(PointMass(), batch_size=3))
    tensors = [
        torch.randint(0, 255, (3, 5, 5, 3), dtype=torch.uint8),
        torch.randn(3, 4, dtype=torch.float64),
        torch.rand(3, 1) > 0.5,
        torch.randn(3, 1),
        torch.tensor([1, 2, 3]),
        torch.randn(4, 3).T,
    ]
    for _ in range(2):
        fetched = writer._fetched(tensors)
        for ours, theirs in zip(fetched, tensors, strict=True):
            assert torch.equal(ours, theirs) and ours.dtype is theirs.dtype
        before = [value.clone() for value in fetched]
        writer._fetched([value * 0 for value in tensors])
        assert all(torch.equal(value, kept) for value, kept in zip(fetched, before, strict=True))
