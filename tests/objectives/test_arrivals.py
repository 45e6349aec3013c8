"""Transitions to arrivals, against a reference that expands episodes one by one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from wmcomponents.objectives.arrivals import arrivals_from

FLAGS = ("none", "terminated", "truncated", "cut")


def numbered(flags, valid=None, first=True):
    """One sequence whose numbers say where they come from.

    The observation of step t is 10 t and the one after it 10 t + 5; its action is t + 1, its reward 100 + t. ``flags``
    say how each step ended: not, by termination, by truncation, or that the data were cut after it (the next step has
    ``is_init`` though this one is not done).
    """
    steps = torch.arange(len(flags)).float().unsqueeze(-1)
    is_init = torch.tensor([first, *(flag != "none" for flag in flags[:-1])]).unsqueeze(-1)
    kind = {name: torch.tensor([flag == name for flag in flags]).unsqueeze(-1) for name in FLAGS}
    data = {
        "observation": 10 * steps,
        "action": steps + 1,
        "is_init": is_init,
        "next": {
            "observation": 10 * steps + 5,
            "reward": 100 + steps,
            "terminated": kind["terminated"],
            "truncated": kind["truncated"],
            "done": kind["terminated"] | kind["truncated"],
        },
    }
    if valid is not None:
        data["collector"] = {"mask": torch.tensor(valid)}
    return TensorDict(data, [len(flags)])


def episodes(sequence):
    """The sequence cut into its episodes: lists of step numbers."""
    done, is_init = sequence["next", "done"].flatten().tolist(), sequence["is_init"].flatten().tolist()
    mask = sequence["collector", "mask"].tolist() if "collector" in sequence.keys() else [True] * len(done)
    parts, current = [], []
    for step in range(len(done)):
        if current and (is_init[step] or done[step - 1] or mask[step] != mask[step - 1]):
            parts.append(current)
            current = []
        current.append(step)
    return [*parts, current]


def expanded(sequence):
    """Arrivals of one sequence, episode by episode and one at a time: the slow way that is plainly right."""
    arrivals = []
    for number, steps in enumerate(episodes(sequence)):
        begins = bool(sequence["is_init"][steps[0]])
        masked = "collector" in sequence.keys() and not bool(sequence["collector", "mask"][steps[0]])
        last = {
            "observation": sequence["observation"][steps[0]].item(),
            "action": 0.0,
            "is_init": begins or number > 0,
            "reward": 0.0,
            "terminated": False,
            "reward_known": begins,
        }
        episode = [last]
        for step in steps:
            follow = sequence["next"][step]
            is_last = step == steps[-1]
            observation = follow["observation"] if is_last else sequence["observation"][step + 1]
            episode.append(
                {
                    "observation": observation.item(),
                    "action": sequence["action"][step].item(),
                    "is_init": False,
                    "reward": follow["reward"].item(),
                    "terminated": bool(follow["terminated"]),
                    "reward_known": True,
                }
            )
        if masked:
            episode = [{**one, "observation": 0.0, "action": 0.0, "reward": 0.0} for one in episode]
        arrivals += [{**one, "weight": float(not masked)} for one in episode]
    return arrivals[: len(sequence) + 1]


def as_rows(arrivals, row=0):
    fields = {key: getattr(arrivals, key) for key in ("action", "is_init", "reward", "terminated", "reward_known")}
    fields |= {"observation": arrivals.observation["observation"], "weight": arrivals.weight}
    lists = {key: value[row].flatten().tolist() for key, value in fields.items()}
    return [{key: values[number] for key, values in lists.items()} for number in range(arrivals.weight.shape[1])]


def assert_as_expanded(*sequences):
    arrivals = arrivals_from(torch.stack(sequences), ["observation"])
    for row, sequence in enumerate(sequences):
        assert as_rows(arrivals, row) == expanded(sequence)


def patterns(length):
    return st.lists(st.sampled_from(FLAGS), min_size=length, max_size=length)


@given(st.data(), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_arrivals_equal_episodes_expanded_one_by_one(data, length, rows, first):
    assert_as_expanded(*[numbered(data.draw(patterns(length)), first=first) for _ in range(rows)])


@given(st.data(), st.integers(1, 9))
def test_the_same_where_parts_are_padding(data, length):
    valid = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    assert_as_expanded(numbered(data.draw(patterns(length)), valid=valid))


@given(st.data(), st.integers(2, 9))
def test_done_without_is_init_after_it_begins_a_state_but_knows_no_reward(data, length):
    sequence = numbered(data.draw(patterns(length)))
    sequence["is_init"][1:] = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=length - 1, max_size=length - 1))
    )[:, None]
    assert_as_expanded(sequence)


def test_by_hand():
    rows = as_rows(arrivals_from(numbered(["none", "terminated", "none", "none"])[None], ["observation"]))
    assert [row["observation"] for row in rows] == [0, 10, 15, 20, 30]
    assert [row["action"] for row in rows] == [0, 1, 2, 0, 3]
    assert [row["reward"] for row in rows] == [0, 100, 101, 0, 102]
    assert [row["is_init"] for row in rows] == [True, False, False, True, False]
    assert [row["terminated"] for row in rows] == [False, False, True, False, False]


def test_a_truncated_episode_is_alive_at_its_end_and_keeps_its_last_reward():
    rows = as_rows(arrivals_from(numbered(["none", "truncated", "none"])[None], ["observation"]))
    assert rows[2] == {
        "observation": 15.0,
        "action": 2.0,
        "is_init": False,
        "reward": 101.0,
        "terminated": False,
        "reward_known": True,
        "weight": 1.0,
    }
    assert rows[3]["is_init"] and rows[3]["reward"] == 0.0 and rows[3]["reward_known"]


def test_where_a_collector_cut_the_data_the_last_observation_and_reward_are_kept():
    rows = as_rows(arrivals_from(numbered(["none", "cut", "none"])[None], ["observation"]))
    assert rows[2]["observation"] == 15.0 and rows[2]["reward"] == 101.0 and not rows[2]["terminated"]
    assert rows[3]["is_init"] and rows[3]["action"] == 0.0 and rows[3]["reward"] == 0.0


def test_only_a_first_step_that_begins_no_episode_has_an_unknown_reward():
    known = [
        arrivals_from(numbered(["none"] * 3, first=first)[None], ["observation"]).reward_known
        for first in (True, False)
    ]
    assert known[0].flatten().tolist() == [True] * 4 and known[1].flatten().tolist() == [False, True, True, True]


def test_a_sequence_of_one_step_gives_two_arrivals():
    rows = as_rows(arrivals_from(numbered(["terminated"])[None], ["observation"]))
    assert [row["observation"] for row in rows] == [0.0, 5.0] and rows[1]["terminated"]


def test_nan_in_padding_is_replaced():
    sequence = numbered(["none"] * 4, valid=[True, True, False, False])
    for key in ("observation", "action", ("next", "observation"), ("next", "reward")):
        sequence[key][2:] = torch.nan
    arrivals = arrivals_from(sequence[None], ["observation"])
    assert arrivals.weight.tolist() == [[1, 1, 1, 0, 0]]
    assert all(
        value.isfinite().all() for value in (arrivals.observation["observation"], arrivals.action, arrivals.reward)
    )
    assert arrivals.observation["observation"].flatten().tolist() == [0.0, 10.0, 15.0, 0.0, 0.0]


def test_a_priority_weight_of_each_transition_goes_to_what_it_shows():
    sequence = numbered(["none", "terminated", "none"])
    sequence["priority_weight"] = torch.tensor([1.0, 2.0, 3.0])
    assert arrivals_from(sequence[None], ["observation"]).weight.tolist() == [[1.0, 2.0, 2.0, 3.0]]


def test_a_flat_batch_and_a_missing_key_are_named():
    sequence = numbered(["none"] * 3)
    with pytest.raises(ValueError, match=r"sequences have the batch \[B, T\]; got \[3\]"):
        arrivals_from(sequence, ["observation"])
    with pytest.raises(KeyError, match="the sequences lack"):
        arrivals_from(sequence.exclude(("next", "reward"))[None], ["observation"])


def test_the_input_is_left_as_it_is():
    sequence = numbered(["none", "terminated", "cut", "none"], valid=[True, True, True, False])[None]
    before = sequence.clone()
    arrivals = arrivals_from(sequence, ["observation"])
    arrivals.reward.add_(1.0)
    assert (sequence == before).all()


def test_nested_keys_can_be_named():
    sequence = numbered(["none", "terminated"])
    renamed = sequence.clone()
    renamed.rename_key_("action", ("agent", "action"))
    renamed.rename_key_(("next", "reward"), ("next", "agent", "reward"))
    one = arrivals_from(renamed[None], ["observation"], action=("agent", "action"), reward=("agent", "reward"))
    assert as_rows(one) == as_rows(arrivals_from(sequence[None], ["observation"]))
