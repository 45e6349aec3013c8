import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import Known, check, read, vectors
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source, rows


def shifted(known):
    """Each row beside the action that led to it."""
    first = np.zeros((1, 2), np.float32)
    count = len(known.actions) + 1
    return {
        "vector": known.observations["observation"],
        "action": np.concatenate([first, known.actions]),
        "reward": np.concatenate([[0], known.rewards]).astype(np.float32),
        "is_first": np.arange(count) == 0,
        "is_terminal": (np.arange(count) == count - 1) & known.terminated,
        "log_speed": np.zeros(count),
    }


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=4), st.booleans(), st.integers(1, 4))
def test_actions_that_led_to_a_row_become_those_taken_before_it(tmp_path_factory, shape, one_file, piece):
    known = vectors(*zip(*shape, strict=True))
    folder = tmp_path_factory.mktemp("dreamer")
    tables = [shifted(each) for each in known]
    if one_file:
        tables = [{key: np.concatenate([table[key] for table in tables]) for key in tables[0]}]
    for number, table in enumerate(tables):
        np.savez(folder / f"{number}.npz", **table)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "MOST_ROWS", piece)
        check(open_source("dreamer", folder), known)


def test_crafters_recorder_saves_images_choices_and_a_discount_of_zero_on_death(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    episode = {
        "image": images,
        "action": np.array([0, 3, 0, 16, 5]),
        "reward": np.array([0, 0, 1, -0.1, 0], np.float32),
        "done": np.array([0, 0, 0, 0, 1], bool),
        "discount": np.array([0, 1, 1, 1, 0], np.float32),  # the first row is filled with zeros
        "semantic": np.zeros((5, 64, 64), np.uint8),
    }
    np.savez_compressed(tmp_path / "1.npz", **episode)
    hot = np.eye(17, dtype=np.int64)[[3, 0, 16, 5]]
    check(open_source("crafter", tmp_path), [Known({"pixels": images}, hot, episode["reward"][1:], True)])
    np.savez_compressed(tmp_path / "1.npz", **{**episode, "discount": np.array([0, 1, 1, 1, 1])})
    assert not read(open_source("crafter", tmp_path))["next", "terminated"].any()
    small = open_source("crafter", tmp_path, image_size=16)
    assert list(small.observation_spec["pixels"].shape) == [16, 16, 3]


def test_rows_of_unequal_length_and_missing_arrays_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", action=np.zeros((3, 1)), reward=np.zeros(2), image=np.zeros((3, 2)))
    with pytest.raises(BadDataError, match="unequal length"):
        open_source("dreamer", tmp_path)
    np.savez(tmp_path / "a.npz", action=np.zeros((3, 1)))
    with pytest.raises(BadDataError, match="holds no reward"):
        open_source("dreamer", tmp_path)
