import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrl.data import Bounded, MultiOneHot, OneHot

from tests.support.recorded import check, cut_short, read, vectors
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source, rows
from wmcomponents.data.datasets.npz import NpzFile

EPISODES = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5)


def flat(known, *, whole=True, following=False):
    """Episodes one behind the other, as people keep them."""
    seen = [each.observations["observation"] for each in known]
    ends = [np.arange(len(each.actions)) == len(each.actions) - 1 for each in known]
    arrays = {
        "observations": np.concatenate(seen if whole else [each[:-1] for each in seen]),
        "actions": np.concatenate([each.actions for each in known]),
        "rewards": np.concatenate([each.rewards for each in known]),
        "terminated": np.concatenate([end & each.terminated for end, each in zip(ends, known, strict=True)]),
        "truncated": np.concatenate([end & (not each.terminated) for end, each in zip(ends, known, strict=True)]),
    }
    if following:
        arrays["next_observations"] = np.concatenate([each[1:] for each in seen])
    return arrays


@settings(max_examples=25, deadline=None)
@given(EPISODES, st.sampled_from(["whole", "following", "short"]), st.integers(1, 4))
def test_boundaries_and_shifts_come_back_exactly_whatever_the_form_and_the_size_of_a_piece(
    tmp_path_factory, shape, form, piece
):
    known = vectors(*zip(*shape, strict=True))
    path = tmp_path_factory.mktemp("npz") / "logs.npz"
    np.savez_compressed(path, **flat(known, whole=form == "whole", following=form == "following"))
    wanted = [cut_short(each) for each in known] if form == "short" else known
    wanted = [each for each in wanted if len(each.actions)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "MOST_ROWS", piece)
        if wanted:
            check(open_source("arrays", path), wanted)
        else:
            with pytest.raises(BadDataError, match="no episode of at least one step"):
                open_source("arrays", path)


def test_a_folder_of_files_is_read_in_the_order_of_their_names(tmp_path):
    known = vectors([4, 6, 3], [False, True, False])
    for number, each in enumerate(known):
        np.savez(
            tmp_path / f"{number}.npz",
            obs=each.observations["observation"],
            action=each.actions,
            done=flat([each])["terminated"],
            reward=each.rewards,
        )  # noqa: E501
    check(open_source("arrays", tmp_path), known)


def test_choices_flags_one_hot_rows_and_bounded_numbers_are_told_apart(tmp_path):
    def spec(actions):
        np.savez(
            tmp_path / "a.npz",
            obs=np.zeros((len(actions) + 1, 2)),
            actions=actions,
            truncated=np.arange(len(actions)) == len(actions) - 1,
        )  # noqa: E501
        recording = open_source("arrays", tmp_path / "a.npz")
        return recording.action_spec, read(recording)["action"]

    choice, taken = spec(np.array([0, 3, 1]))
    assert choice == OneHot(4, dtype=torch.int64) and taken.argmax(-1).tolist() == [0, 3, 1]
    several, taken = spec(np.array([[0, 1], [2, 0], [1, 1]]))
    assert several == MultiOneHot([3, 2], dtype=torch.int64) and taken[1].tolist() == [0, 0, 1, 1, 0]
    hot, taken = spec(np.eye(3, dtype=np.float32)[[2, 0]])
    assert hot == OneHot(3, dtype=torch.int64) and taken.argmax(-1).tolist() == [2, 0]
    assert spec(np.array([[0.5], [-0.1]]))[0] == Bounded(-1.0, 1.0, (1,))
    assert spec(np.array([[0.5, 2.0], [-3.0, 2.0]]))[0] == Bounded(
        torch.tensor([-3.0, 1.0]), torch.tensor([0.5, 3.0]), (2,)
    )
    assert spec(np.array([[True, False]]))[1].tolist() == [[1, 0]]


def test_several_observations_keep_their_names_and_a_colour_image_is_pixels(tmp_path):
    arrays = {"camera": np.zeros((4, 16, 16, 3), np.uint8), "arm": np.ones((4, 2)), "actions": np.zeros((3, 1))}
    np.savez(tmp_path / "a.npz", **arrays, truncated=np.array([0, 0, 1]))
    both = open_source("arrays", tmp_path / "a.npz", observations="camera, arm")
    assert {key: list(spec.shape) for key, spec in both.observation_spec.items()} == {"camera": [16, 16, 3], "arm": [2]}
    assert list(open_source("arrays", tmp_path / "a.npz", observations="camera").observation_spec.keys()) == ["pixels"]
    with pytest.raises(BadDataError, match="name them, --options observations=NAME"):
        open_source("arrays", tmp_path / "a.npz")
    with pytest.raises(BadDataError, match="holds no legs"):
        open_source("arrays", tmp_path / "a.npz", observations="legs")


@pytest.mark.parametrize("compressed", [True, False])
def test_an_array_in_a_file_is_read_forwards_backwards_and_again(tmp_path, compressed):
    values = np.arange(40).reshape(20, 2)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", values=values)
    with NpzFile(tmp_path / "a.npz") as file:
        for start, stop in ((0, 5), (4, 9), (4, 6), (15, 20), (0, 20), (19, 20), (3, 3)):
            assert np.array_equal(file["values"][start:stop], values[start:stop])


def test_nothing_is_unpickled_and_no_promise_of_a_header_is_believed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, observations=np.array([{}, {}]), actions=np.zeros(2))
    with pytest.raises(BadDataError, match="nothing is unpickled"):
        open_source("arrays", path)
    np.savez(path, observations=np.zeros((3, 2)), actions=np.zeros((2, 1)), truncated=np.array([0, 1]))
    data = bytearray(path.read_bytes())
    data[data.index(b"(2, 1)") : data.index(b"(2, 1)") + 6] = b"(9**9)"
    path.write_bytes(data)
    with pytest.raises(BadDataError):
        open_source("arrays", path)
