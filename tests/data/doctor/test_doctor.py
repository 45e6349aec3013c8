"""The doctor on small data sets of which everything is known; twenty kinds of data are in benchmarks/doctor.py."""

import pytest
import torch

from benchmarks.doctor import FAULTS, WORLDS, found_in, layout, linear
from wmcomponents.data.doctor import CHECKS, UnusableDataError, examine

CHEAP = "linear, 2 numbers"
STEPS = 800


def steps_of(seed=0, count=STEPS):
    return layout(linear(2, 1, 0.0, seed, count))


def faults(*streams):
    return [one.fault for one in examine(list(streams)).findings]


def test_nothing_is_invented_in_clean_steps():
    assert found_in(CHEAP, None, steps=STEPS) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault):
    assert FAULTS[fault][0] in found_in(CHEAP, fault, steps=STEPS)


@pytest.mark.parametrize("fault", [None, "actions one step late"])
def test_pictures_are_examined_too(fault):
    found = found_in("cursor, images and position", fault, steps=500)
    assert found == [] if fault is None else FAULTS[fault][0] in found


@pytest.mark.weekly
@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_twenty_kinds_of_data_are_clean_as_they_come(world):
    assert found_in(world, None, seed=1) == []


def test_every_fault_that_is_looked_for_is_planted():
    assert {name for name, _ in FAULTS.values()} | {"flags", "frozen"} == set(CHECKS)


def test_the_inverse_model_tells_which_action_moved_the_world():
    steps = steps_of()
    gains = examine([steps]).inverse_model
    assert gains[0] > 0.5 > abs(gains[1]) + abs(gains[-1])
    steps["action"] = steps["action"].roll(-1, 0)
    found = examine([steps])
    assert max(found.inverse_model, key=found.inverse_model.get) == -1
    assert "stored one step earlier" in found.findings[0].says and "one step forward" in found.findings[0].remedy


def test_a_policy_that_looks_ahead_is_no_shift():
    # The next action is a function of what comes next: easier to tell than the one that was drawn.
    steps = steps_of()
    steps["action"] = (0.4 * steps["observation"][:, :1]).clamp(-1, 1)
    assert "shifted actions" not in faults(steps)


def test_flags_that_contradict_each_other_are_counted():
    steps = steps_of()
    steps["next", "done"][10] = True
    findings = [one for one in examine([steps]).findings if one.fault == "flags"]
    assert findings[0].numbers == {"steps": 1}
    steps = steps_of()
    steps["is_init"][25] = True
    steps["is_init"][50] = False
    says = " ".join(one.says for one in examine([steps]).findings if one.fault == "flags")
    assert "1 episodes begin though" in says and "1 episodes end and" in says


def test_a_stream_that_begins_in_the_middle_is_told_apart_from_one_that_goes_on():
    steps = steps_of()
    assert faults(steps[:400], steps[400:]) == []
    cut = steps[410:].clone()
    (found,) = examine([steps[:400], cut]).findings
    assert found.fault == "flags" and "1 streams begin in the middle" in found.says


def test_a_sensor_slower_than_the_steps_is_told():
    steps = steps_of()
    held = steps["observation"][::2].repeat_interleave(2, 0)
    steps["observation"], steps["next", "observation"][:-1] = held, held[1:]
    assert "frozen" in faults(steps)


def test_lone_marks_among_rewards_are_told_and_goals_are_not():
    steps = steps_of()
    steps["next", "reward"] = torch.full((STEPS, 1), -0.1)
    steps["next", "reward"][77] = 100.0
    assert faults(steps) == []
    steps["next", "reward"][77] = -9999.0
    assert faults(steps) == ["reward scale"]
    steps["next", "reward"] = torch.zeros(STEPS, 1)
    assert faults(steps) == ["reward scale"]


def test_numbers_within_their_box_are_no_finding():
    recorded = linear(2, 1, 0.0, 0, STEPS)
    assert examine([layout(recorded)], recorded.spec).findings == []


def test_nothing_is_changed():
    steps = steps_of()
    before = steps.clone()
    examine([steps])
    assert bool((steps == before).all())


def test_what_cannot_be_examined_is_refused():
    steps = steps_of()
    with pytest.raises(UnusableDataError, match="10 steps, too few"):
        examine([steps[:10]])
    with pytest.raises(UnusableDataError, match="lack"):
        examine([steps.exclude("action")])
