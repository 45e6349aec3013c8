"""Timetables in epochs: what is due when, worked out by hand from the papers' own numbers."""

import pytest

from wmcomponents.agents import Epochs, EpochSchedule, Schedule
from wmcomponents.agents.delta_iris import DeltaIRISAgent
from wmcomponents.agents.diamond import DiamondAgent
from wmcomponents.agents.iris import IRISAgent

SHORT = EpochSchedule(
    prefill=10, epochs=(Epochs(begin=20, steps=10, updates=4), Epochs(begin=50, steps=5, updates=6, agent_updates=3))
)


def test_updates_are_due_behind_each_epoch_and_not_within_it():
    assert [SHORT.updates_due(steps) for steps in (0, 29, 30, 49, 50, 54, 55, 60)] == [0, 0, 4, 8, 12, 12, 18, 24]


def test_an_epoch_that_the_next_kind_cuts_short_brings_no_updates():
    plan = EpochSchedule(prefill=0, epochs=(Epochs(0, 10, 4), Epochs(25, 10, 6)))
    assert [plan.updates_due(steps) for steps in (20, 25, 30, 35)] == [8, 8, 8, 14]


def test_the_behaviour_s_updates_are_spread_among_the_model_s_of_its_epochs():
    assert [SHORT.agent_updates_due(updates) for updates in (12, 13, 14, 16, 18, 24)] == [0, 0, 1, 2, 3, 6]


@pytest.mark.parametrize("plan", [SHORT, Schedule(prefill=3, updates_per_step=0.5, agent_every=3)])
def test_what_is_due_never_falls_and_is_looked_at_in_time(plan):
    due = [plan.updates_due(steps) for steps in range(100)]
    learned = [plan.agent_updates_due(updates) for updates in range(due[-1] + 1)]
    assert due == sorted(due) and learned == sorted(learned)
    for steps in range(98):
        look = plan.next_look(steps)
        assert look > steps
        if isinstance(plan, EpochSchedule):
            assert all(plan.updates_due(between) == due[steps] for between in range(steps, min(look, 100)))


def test_epochs_without_real_steps_follow_the_last_one():
    plan = EpochSchedule(prefill=0, epochs=(Epochs(0, 10, 4, 2),), last_step=100, epochs_after=5)
    assert [plan.updates_due(steps) for steps in (99, 100, 200)] == [36, 60, 100]
    assert plan.next_look(95) == 100 and plan.agent_updates_due(60) == 30


def test_iris_trains_one_part_after_the_other_as_its_paper_does():
    config = IRISAgent.atari_config()
    plan, first = config.schedule, config.model.loss.tokenizer_steps
    # Epochs of 200 steps: the tokenizer from the 6th on, the transformer from the 26th, the behaviour from the 51st.
    assert [plan.updates_due(200 * epoch) for epoch in (5, 6, 25, 26, 50)] == [0, 200, first, first + 400, 14_000]
    assert plan.agent_updates_due(14_000) == 0 and plan.agent_updates_due(plan.updates_due(200 * 51)) == 200
    # 500 epochs with collection, 100 without: 200 updates of each part in each.
    total = plan.updates_due(100_000)
    assert total == 200 * (595 + 575) and plan.agent_updates_due(total) == 200 * 550


def test_delta_iris_trains_one_part_after_the_other_as_its_paper_does():
    config = DeltaIRISAgent.atari_config()
    plan, first = config.schedule, config.model.loss.tokenizer_steps

    def after(epoch: int) -> int:
        return 2000 + 200 * (epoch - 1)

    assert [plan.updates_due(after(epoch)) for epoch in (5, 6, 50, 51, 75)] == [0, 120, first, first + 240, 11_400]
    assert plan.agent_updates_due(11_400) == 0 and plan.agent_updates_due(plan.updates_due(after(76))) == 200
    total = plan.updates_due(after(491))
    assert after(491) == 100_000 and total == 120 * (595 + 550) and plan.agent_updates_due(total) == 200 * 525


def test_diamond_learns_long_behind_its_random_steps_and_then_in_short_epochs():
    plan = DiamondAgent.atari_config().schedule
    assert [plan.updates_due(steps) for steps in (4999, 5000, 5100)] == [0, 10_000, 10_400]
    assert [plan.agent_updates_due(updates) for updates in (10_000, 10_400)] == [5000, 5400]
    assert plan.updates_due(100_000) == 10_000 + 400 * (950 + 50)


def test_epochs_may_be_given_as_bare_numbers():
    assert EpochSchedule(prefill=10, epochs=((20, 10, 4), (50, 5, 6, 3))) == SHORT


def test_epochs_that_cannot_be_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="none in an epoch with agent_updates=2"):
        Epochs(0, 10, updates=0, agent_updates=2)
    with pytest.raises(ValueError, match="steps"):
        Epochs(0, 0, updates=1)
    with pytest.raises(ValueError, match="in the order in which they begin"):
        EpochSchedule(prefill=0, epochs=(Epochs(10, 10, 1), Epochs(5, 10, 1)))
    with pytest.raises(ValueError, match="one kind at least"):
        EpochSchedule()
    with pytest.raises(ValueError, match="before the end of the random actions at 50"):
        EpochSchedule(prefill=50, epochs=(Epochs(0, 10, 1),))
