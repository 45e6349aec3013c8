"""Codes in place of actions: what they do, which stands for which action, and dreams that are played through them."""

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.models import FILM, GENIE, SMALL, film_world
from tests.support.small_films import film
from wmcomponents.dream import CodeTable, MappedActions, ReplayStarts, code_effects, code_table, last_states
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.models import Genie, GenieConfig
from wmcomponents.testing import check_world_model
from wmcomponents.testing.toy import ToyWorldModel


@pytest.fixture(scope="module")
def genie():
    torch.manual_seed(0)
    return film_world(Genie(GenieConfig.tiny(**FILM, **GENIE), SMALL)).eval()


def test_the_effects_of_codes_are_what_imagining_each_shows(genie):
    state = last_states(genie, film(2, 2))
    effects = code_effects(genie, state)
    for code in range(3):
        action = torch.eye(3, dtype=torch.bool)[code].expand(2, 3)
        after = genie.imagine(state, action, None).state
        shown = genie.decode(after)["pixels"]
        assert torch.equal(effects.after[:, code], shown)
        change = (shown.float() - effects.before.float()).abs().flatten(1).mean(1) / 255
        torch.testing.assert_close(effects.change[:, code], change)
    apart = (effects.after[0, 0].float() - effects.after[0, 2].float()).abs().mean() / 255
    torch.testing.assert_close(effects.apart[0, 0, 2], apart)
    assert len(effects.table().splitlines()) == 4 and "to 2" in effects.table()
    picture = effects.picture(row=1, gap=2)
    assert picture.shape == (2 * 16 + 2, 4 * 16 + 3 * 2, 3)
    assert torch.equal(picture[:16, 18:34], effects.after[1, 0]) and bool((picture[16:18] == 255).all())


def test_codes_of_actions_are_those_told_of_them_and_of_no_other():
    # Code 0 is told of everything; 1 and 2 of one action each; the fourth action was never taken.
    table = CodeTable(torch.tensor([[6.0, 5.0, 0.0], [6.0, 0.0, 4.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert table.codes.tolist() == [1, 2, 0, 0]


def test_a_table_counts_the_codes_of_the_steps_in_which_actions_were_taken(genie):
    data = film(2, 7)
    counts = code_table(genie, data, OneHot(3)).counts
    codes = genie.relabelled(data)["action"].long().argmax(-1)
    taken = data["action"].long().argmax(-1)
    assert int(counts.sum()) == 14
    assert all(counts[a, k] == int(((taken == a) & (codes == k)).sum()) for a in range(3) for k in range(3))
    with pytest.raises(ValueError, match="infers no actions"):
        code_table(ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2)), data, OneHot(3))


def test_a_world_of_mapped_actions_is_the_world_under_their_codes(genie):
    played = MappedActions(genie, torch.tensor([2, 0, 2, 1]), Categorical(4))
    state = last_states(genie, film(4, 2))
    noise = genie.noise_source("imagine")((4,), torch.Generator().manual_seed(0))
    one = played.imagine(state, torch.arange(4), noise).state
    other = genie.imagine(state, torch.eye(3, dtype=torch.bool)[[2, 0, 2, 1]], noise).state
    assert all(torch.equal(one[key], other[key]) for key in one)
    check_world_model(played, batch_sizes=((2,),))


def test_real_recordings_begin_dreams_that_a_real_agent_steps(genie):
    data = film(4, 3)
    played = MappedActions(genie, code_table(genie, data, OneHot(3)).codes, OneHot(3))
    starts = ReplayStarts(played, lambda: data, pool_size=4, seed=0)
    lit = lambda state, action, after: played.decode(after)["pixels"].float().mean((1, 2, 3)).unsqueeze(1)  # noqa: E731
    env = DreamVecEnv(played, 2, starts=starts, reward=lit, termination="off", horizon=5, seed=0)
    seen = env.reset()
    after, reward, _, _ = env.step([0, 2])
    assert seen.shape == after.shape and reward.shape == (2,) and (reward > 0).all()


def test_actions_that_are_no_choice_are_refused(genie):
    with pytest.raises(ValueError, match="single choices"):
        MappedActions(genie, torch.tensor([0]), Bounded(-1, 1, (2,)))
    with pytest.raises(ValueError, match="at least one step; got steps=0"):
        code_effects(genie, genie.initial_state((1,)), steps=0)
