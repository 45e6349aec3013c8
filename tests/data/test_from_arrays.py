import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import Known, expected, same, vectors
from wmcomponents.data import BadDataError, from_arrays, load_replay, save_replay

QUIET = {"sequence_length": 2, "batch_size": 2, "print_fn": None}


def lists(known: list[Known]) -> dict:
    return {
        "observations": [each.observations["observation"] for each in known],
        "actions": [each.actions for each in known],
        "rewards": [each.rewards for each in known],
        "terminated": [each.terminated for each in known],
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 9), st.booleans()), min_size=1, max_size=5))
def test_lists_of_episodes_become_steps_exactly(shape):
    known = vectors(*zip(*shape, strict=True))
    replay = from_arrays(**lists(known), **QUIET)
    same(replay[:].exclude("index"), expected(known))


def test_tensors_mappings_and_spaces_are_taken_and_the_folder_is_a_data_folder(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 16, 16, 3)).astype(np.uint8)
    replay = from_arrays(
        {"camera": torch.from_numpy(images), "gear": np.arange(12) % 3 + 1},
        torch.zeros(10, 1),
        torch.ones(10, 1),
        torch.tensor([0] * 4 + [1] + [0] * 5),
        observation_space=Dict(camera=Box(0, 255, (16, 16, 3), np.uint8), gear=Discrete(3, start=1)),
        action_space=Box(-2, 2, (1,)),
        **QUIET,
    )
    steps = replay[:]
    assert torch.equal(steps["next", "camera"][4], torch.from_numpy(images[5]))
    assert steps["gear"].argmax(-1).tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1]
    assert steps["is_init"].flatten().nonzero().flatten().tolist() == [0, 5]
    save_replay(replay, tmp_path / "data")
    again = from_arrays([images], [np.zeros((11, 1))], **QUIET)
    with pytest.raises(BadDataError):
        load_replay(again, tmp_path / "data")


def test_data_of_as_many_observations_lose_a_cut_episodes_last_action_and_keep_a_terminated_ones():
    seen, actions = np.arange(8.0)[:, None], np.zeros((8, 1))
    ends = {"terminated": np.arange(8) == 3, "truncated": np.arange(8) == 7}
    steps = from_arrays(seen, actions, np.arange(8.0), **ends, **QUIET)[:]
    assert steps["observation"].flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert steps["next", "observation"].flatten().tolist() == [1, 2, 3, 3, 5, 6, 7]
    assert steps["next", "reward"].flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert steps["next", "terminated"].flatten().nonzero().flatten().tolist() == [3]


KNOWN = vectors([6, 4], [True, False])
FLAT = {
    "observations": np.arange(10.0)[:, None],
    "actions": np.zeros((10, 1)),
    "rewards": np.zeros(10),
    "truncated": np.arange(10) % 5 == 4,
}


def changed(**entries):
    return {**lists(KNOWN), **entries}


def put(array, value):
    array = array.copy()
    array[2] = value
    return array


MISTAKES = {
    "an observation too few": (changed(observations=[np.zeros((5, 3)), np.zeros((5, 3))]), r"episode 0 has 6 actions and 5 observations: expected 7 .* or 6"),  # noqa: E501
    "an observation too many": (changed(observations=[np.zeros((8, 3)), np.zeros((5, 3))]), r"6 actions and 8 observations"),  # noqa: E501
    "rewards off by one": (changed(rewards=[np.zeros(7), np.zeros(4)]), r"episode 0 has rewards of shape \[7\] and 6 actions: expected one number"),  # noqa: E501
    "two rewards a step": (changed(rewards=[np.zeros((6, 2)), np.zeros(4)]), r"\[6\] or \[6, 1\]"),
    "an entry missing": (changed(rewards=[np.zeros(6)]), r"rewards has 1 entries"),
    "an end in the middle": (changed(terminated=[np.arange(6) == 2, False]), r"at step 2 of 6.*split it"),
    "NaN in an observation": (changed(observations=[put(KNOWN[0].observations["observation"], np.nan), KNOWN[1].observations["observation"]]), r"episode 0 has an entry 'observation' that is NaN.*step 2"),  # noqa: E501
    "NaN in an action": (changed(actions=[put(KNOWN[0].actions, np.nan), KNOWN[1].actions]), r"episode 0 at step 2"),
    "NaN in a reward": (changed(rewards=[put(KNOWN[0].rewards, np.inf), KNOWN[1].rewards]), r"'reward' that is NaN.*step 2"),  # noqa: E501
    "an action out of its box": (changed(action_space=Box(-0.1, 0.1, (2,))), r"lies outside of its box: clip it"),
    "an action of another kind": (changed(action_space=Discrete(3)), r"'action' of shape \[2\]; expected \[3\]"),
    "a choice that is none": ({**FLAT, "actions": put(np.zeros(10, int), 7), "action_space": Discrete(3)}, r"is no choice.*step 2"),  # noqa: E501
    "a choice below zero": ({**FLAT, "actions": np.full(10, -1)}, r"from 0 to at most"),
    "starts missing": ({**FLAT, "truncated": None}, r"marks no end: its 10 steps would be one episode"),
    "an end not marked": ({**FLAT, "next_observations": np.array([1.0, 2, 3, 4, 55, 6, 7, 77, 9, 10])[:, None]}, r"episode 1, shows after step 2 something else than before step 3"),  # noqa: E501
    "one row too many": ({**FLAT, "observations": np.zeros((11, 1))}, r"expected 10 .* or 12"),
    "flags too short": ({**FLAT, "truncated": np.ones(9)}, r"truncated of shape \[9\] and 10 actions"),
    "flags that are none": ({**FLAT, "truncated": np.arange(10)}, r"values other than 0 and 1"),
    "ragged rows": ({**FLAT, "observations": [[1, 2], [3]]}, r"give lists of both"),
    "words": ({**FLAT, "observations": np.array(["a"] * 10)}, r"expected numbers"),
    "too few": (changed(sequence_length=11), r"hold 10 steps, fewer than one sequence of 11"),
    "nothing": (changed(observations=[], actions=[], rewards=[], terminated=[]), r"empty list"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_of_layout_is_named(mistake):
    arrays, said = MISTAKES[mistake]
    with pytest.raises(BadDataError, match=said):
        from_arrays(**{**QUIET, **arrays})


def test_arrays_that_are_whole_in_every_form_are_taken():
    assert len(from_arrays(**FLAT, **QUIET)) == 8
    assert len(from_arrays(**lists(KNOWN), **QUIET)) == 10
