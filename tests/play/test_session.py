"""A played dream: the way back, branches, luck, and what is kept of it."""

import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.worlds import Counter
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import FixedStarts
from wmcomponents.models import Ensemble
from wmcomponents.play import PlayError, Session, StartMenu
from wmcomponents.play.kept_states import KeptStates
from wmcomponents.testing.toy import ToyWorldModel

PIXELS = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))


def toy(spec=PIXELS, action=None, **options):
    return ToyWorldModel(spec, OneHot(3) if action is None else action, **{"noise": "normal", **options})


def played(session, values):
    return [session.step(value) for value in values]


def seen(moments):
    return [(moment.observation["pixels"].tobytes(), moment.total, moment.chance) for moment in moments]


def test_a_session_dreams_what_a_simulator_dreams():
    model = toy()
    session = Session(model, seed=3)
    start = session.branch.start
    simulator = Simulator(model, FixedStarts(start.state), seed=start.seed)
    first = simulator.reset()
    assert (session.moment.observation["pixels"] == first["pixels"][0].numpy()).all()
    total = 0.0
    for value in (2, 0, 1, 1):
        observation, reward, terminated, _ = simulator.step(torch.eye(3, dtype=torch.bool)[[value]].to(torch.int64))
        moment = session.step(value)
        total += float(reward)
        assert (moment.observation["pixels"] == observation["pixels"][0].numpy()).all()
        assert moment.total == pytest.approx(total) and moment.ended == bool(terminated)
        assert moment.chance == pytest.approx(1 - float(simulator.continuation))


def test_the_same_actions_from_an_earlier_moment_go_along_what_was_played():
    session = Session(toy(), seed=0)
    once = played(session, [0, 1, 2, 1])
    session.go(1)
    assert played(session, [1, 2, 1]) == once[1:] and len(session.branches) == 1


def test_another_action_leaves_the_future_that_was_there_on_its_branch():
    session = Session(toy(), seed=0)
    once = played(session, [0, 1, 2, 1])
    session.go(2)
    session.step(0)
    assert session.cursor == 3 and session.branch.parent == (1, 2) and len(session.branches) == 2
    assert session.branch.moments[:3] == session.branches[1].moments[:3]
    session.switch(1)
    assert session.cursor == 4 and session.moment == once[-1]


def test_a_branch_with_the_same_luck_repeats_and_with_another_does_not():
    session = Session(toy(), seed=0)
    once = played(session, [0, 1, 2])
    session.go(1)
    session.fork()
    assert seen(played(session, [1, 2])) == seen(once[1:])
    session.switch(1)
    session.go(1)
    lucky = session.step(1, luck=True)
    assert seen([lucky]) != seen([once[1]]) and session.branch.number == 3
    after = session.step(2)
    session.go(1)
    session.fork()
    assert seen([session.step(1)]) == seen([once[1]])  # without it, as it was
    session.switch(3)
    assert session.moment == after


@pytest.mark.parametrize("budget", [1, 2000, 10**9])
def test_states_that_were_let_go_are_computed_again_to_the_bit(budget):
    endless = {"parts": ("decode", "reward")}
    wanted, session = Session(toy(**endless), seed=0), Session(toy(**endless), seed=0, memory=budget)
    actions = [0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1]
    for one in (wanted, session):
        played(one, actions)
        one.go(3)
        one.step(0, luck=True)
        one.step(2)
    for branch, step in ((1, 9), (2, 5), (1, 4), (1, 1)):
        for one in (wanted, session):
            one.switch(branch)
            one.go(step)
            one.fork()
        assert seen(played(session, [2, 1])) == seen(played(wanted, [2, 1]))


def test_the_older_states_are_thinned_and_roots_are_kept():
    state = Simulator(toy(), seed=0)
    state.reset()
    saved = state.get_state()
    kept = KeptStates(10 * sum(v.numel() * v.element_size() for v in saved.values(True, True)))
    kept.keep(0, saved, root=True)
    for number in range(1, 40):
        kept.keep(number, saved)
    assert len(kept) <= 10 and 0 in kept and 39 in kept and 38 in kept
    kept.forget(range(40))
    assert len(kept) == 0 and kept.bytes == 0


def test_nothing_follows_an_end_but_what_was_before_it():
    session = Session(Counter(cont=0.0), seed=0)
    assert session.step(0).ended
    with pytest.raises(PlayError, match="over"):
        session.step(1)
    assert session.saliency() is None
    session.go(0)
    assert session.step(1).ended and len(session.branches) == 2


def test_a_refused_action_changes_nothing():
    session = Session(toy(), seed=0)
    session.step(1)
    with pytest.raises(PlayError):
        session.step(9)
    with pytest.raises(PlayError, match="0 to 1"):
        session.go(2)
    with pytest.raises(PlayError, match="no branch 7"):
        session.switch(7)
    with pytest.raises(PlayError, match="being played"):
        session.remove(1)
    assert session.cursor == 1 and len(session.branches) == 1


def test_a_removed_branch_takes_only_what_is_its_own():
    session = Session(toy(), seed=0)
    played(session, [0, 1, 2])
    session.go(1)
    session.step(0)
    session.remove(1)
    session.go(1)
    session.step(2)  # from a moment that both branches had
    assert list(session.branches) == [2, 3]


def test_features_are_drawn_where_there_is_no_decoder_and_rewards_told_where_there_are():
    session = Session(toy(parts=("features", "continue")), seed=0)
    session.step(0)
    assert session.picture().shape == (256, 256, 3) and not session.has_reward and session.moment.reward == 0.0


def test_vectors_are_drawn_as_bars():
    session = Session(toy(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,))), seed=0)
    session.step([0.5, -1])
    assert session.picture().shape == (256, 256, 3) and session.saliency().shape == (256, 256)


def test_the_action_matters_where_the_next_frames_differ():
    session = Session(toy(), seed=0)
    session.step(0)
    before = session.simulator.get_state()
    heat = session.saliency()
    assert heat.shape == (16, 16) and heat.max() == 1.0 and heat.min() >= 0.0
    assert np.array_equal(heat, session.saliency())
    after = session.simulator.get_state()
    assert (before["generator"] == after["generator"]).all() and (before["state"] == after["state"]).all()


def test_without_noise_the_frames_that_differ_are_those_of_the_steps_themselves():
    session, pictures = Session(toy(noise="none"), seed=0), []
    heat = session.saliency()
    for value in range(3):
        session.go(0)
        session.step(value)
        pictures.append(session.picture().astype(int))
    apart = (np.max(pictures, 0) - np.min(pictures, 0)).max(-1)
    assert np.allclose(heat, apart / apart.max())


def test_members_of_an_ensemble_tell_how_far_they_disagree():
    numbers = iter(range(3))
    model = Ensemble.of(lambda: toy(Composite(observation=Unbounded(3)), noise="none", seed=next(numbers)), members=3)
    session = Session(model, seed=0)
    assert session.step(0).uncertainty > 0
    assert Session(toy(), seed=0).step(0).uncertainty is None


def test_a_session_starts_in_what_was_saved_where_something_was():
    model = toy()
    pool = {key: torch.rand(5, 8) for key in ("memory", "z")}
    session = Session(model, StartMenu(model, pool=pool), seed=0)
    assert session.branch.start.words.startswith("saved start")
    session.begin("saved", 3)
    assert torch.equal(session.branch.start.state["memory"], pool["memory"][3:4])
    with pytest.raises(PlayError, match="5 starts"):
        session.begin("saved", 5)
    with pytest.raises(PlayError, match="no start"):
        session.begin("data", 0)


def test_a_step_that_fails_leaves_the_dream_where_it_was(monkeypatch):
    wanted, session = Session(toy(), seed=0), Session(toy(), seed=0)
    for one in (wanted, session):
        one.step(1)
    look = session.simulator.rules.look
    monkeypatch.setattr(session.simulator.rules, "look", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        session.step(2)  # after the state has moved on and noise was drawn
    monkeypatch.setattr(session.simulator.rules, "look", look)
    assert session.cursor == 1 and seen([session.step(2)]) == seen([wanted.step(2)])


def test_without_a_reward_the_action_s_influence_is_told_all_the_same():
    session = Session(toy(parts=("decode",)), seed=0)
    session.step(0)
    assert session.saliency().max() == 1.0 and session.moment.chance is None


def test_a_branch_that_is_too_long_goes_no_further(monkeypatch):
    from wmcomponents.play import session as module

    monkeypatch.setattr(module, "MOST_STEPS", 2)
    session = Session(toy(parts=("decode",)), seed=0)
    played(session, [0, 1])
    with pytest.raises(PlayError, match="at most 2 steps"):
        session.step(0)
