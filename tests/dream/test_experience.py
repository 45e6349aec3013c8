"""What an agent may learn from: states of the filter at every arrival, and what is known of each."""

import pytest
import torch
from torchrl.data import Composite, OneHot, Unbounded

from tests.support.worlds import transitions
from wmcomponents.dream.experience import Experience, NoExperienceError, arrival_states
from wmcomponents.testing.toy import ToyWorldModel


@pytest.fixture
def model():
    return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), noise="normal")


@pytest.fixture
def data():
    """Two rows of four steps: an episode that terminates with the second and another, and the middle of one."""
    torch.manual_seed(0)
    here, after, reward = torch.randn(2, 4, 3), torch.randn(2, 4, 3), torch.randn(2, 4, 1)
    terminated = torch.zeros(2, 4, 1, dtype=torch.bool)
    terminated[0, 1] = True
    is_init = torch.zeros(2, 4, 1, dtype=torch.bool)
    is_init[0, 0] = is_init[0, 2] = True
    action = torch.nn.functional.one_hot(torch.randint(2, (2, 4)), 2)
    return transitions({"observation": here}, {"observation": after}, action, reward, terminated, None, is_init)


def by_hand(data):
    """What led to each arrival, which observation it is, and whether an episode begins there."""
    here, after, action = data["observation"], data["next", "observation"], data["action"]
    none = torch.zeros(2, dtype=action.dtype)
    first = [
        (none, here[0, 0], True),
        (action[0, 0], here[0, 1], False),
        (action[0, 1], after[0, 1], False),  # the observation in which the episode ended
        (none, here[0, 2], True),
        (action[0, 2], here[0, 3], False),
    ]
    second = [(none, here[1, 0], True)]
    second += [(action[1, t], (here[1, t + 1] if t < 3 else after[1, 3]), False) for t in range(4)]
    return first, second


@torch.no_grad()
def test_the_states_are_those_of_the_filter_stepped_by_hand_also_where_an_episode_ended(model, data):
    found = arrival_states(model, data)
    assert found.batch_size == (2, 5)
    for row, arrivals in enumerate(by_hand(data)):
        state = model.initial_state((1,))
        for t, (action, observation, begins) in enumerate(arrivals):
            shown = {"observation": observation[None]}
            state = model.observe(state, action[None], shown, torch.tensor([[begins]]), None)
            for key in state:
                torch.testing.assert_close(found[key][row, t], state[key][0])


def test_reward_and_ends_are_those_received_on_arriving(model, data):
    found, reward = arrival_states(model, data), data["next", "reward"]
    none = torch.zeros(1)
    expected = [[none, reward[0, 0], reward[0, 1], none, reward[0, 2]], [none, *reward[1]]]
    torch.testing.assert_close(found["reward"], torch.stack([torch.stack(row) for row in expected]))
    assert found["terminated"].squeeze(-1).int().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert found["ended"].squeeze(-1).int().tolist() == [[0, 0, 1, 0, 1], [0, 0, 0, 0, 1]]


def test_a_generator_draws_the_filters_noise_and_the_same_again_from_the_same_seed(model, data):
    one, same, other, mode = (
        arrival_states(model, data, generator=None if seed is None else torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1, None)
    )
    assert torch.equal(one["z"], same["z"])
    assert not torch.equal(one["z"], other["z"]) and not torch.equal(one["z"], mode["z"])


def test_a_batch_on_offer_answers_the_next_question_and_no_other(model, data):
    drawn = data.clone()
    experience = Experience(model, lambda: drawn)
    experience.offer(data)
    assert experience.sequences() is data
    assert experience.sequences() is drawn


def test_without_data_there_are_starts_but_no_sequences(model):
    experience = Experience(model)
    assert not experience.with_data
    states = experience.states(7)
    assert states.batch_size == (7,) and set(states.keys()) == {"memory", "z"}
    with pytest.raises(NoExperienceError, match="pass the data that the model was trained on"):
        experience.sequences()
