"""The simulator gives its state away where nobody needs it any more, and keeps it where somebody does."""

import copy
import pickle

import pytest
import torch
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents.dream import PoolStarts, ReplayStarts, Simulator, announce_states, last_states
from wmcomponents.dream.announce import LARGE
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import Prediction

ACTION = torch.full((3, 2), 0.3)


class InPlace(ToyWorldModel):
    """Writes the memory into the state that it is given; counts its steps of either kind."""

    def __init__(self, size=8):
        super().__init__(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), size=size)
        self.steps = {"pure": 0, "inplace": 0}

    @property
    def capabilities(self):
        return super().capabilities | {"inplace"}

    def imagine(self, state, action, noise):
        self.steps["pure"] += 1
        return super().imagine(state, action, noise)

    def imagine_inplace(self, state, action, noise):
        self.steps["inplace"] += 1
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction({**after, "memory": state["memory"].copy_(after["memory"])}, reward, cont)


def dream(model=None, **options):
    model = InPlace() if model is None else model
    pool = {key: torch.rand(4, *leaf.shape) for key, leaf in model.state_spec.items()}
    simulator = Simulator(model, PoolStarts(pool), batch_size=3, termination="off", **options)
    simulator.reset()
    return simulator


def test_steps_are_taken_in_place_and_lead_where_pure_ones_lead():
    torch.manual_seed(0)
    simulator = dream()
    pure = copy.deepcopy(simulator)
    pure.rules.imagine = pure.rules.imagine_pure
    for _ in range(4):
        one, other = simulator.step(ACTION), pure.step(ACTION)
        assert torch.equal(one.observation["observation"], other.observation["observation"])
        assert torch.equal(one.reward, other.reward)
    assert simulator.model.steps == {"pure": 0, "inplace": 4}
    assert pure.model.steps == {"pure": 4, "inplace": 0}


def test_what_was_handed_out_before_is_untouched():
    simulator = dream()
    saved, twin = simulator.get_state(), simulator.fork()
    before = {key: value.clone() for key, value in saved["state"].items()}
    pool = {key: value.clone() for key, value in simulator.starts.pool.items()}
    first = simulator.step(ACTION)
    seen = {key: value.clone() for key, value in first.observation.items()}
    simulator.step(ACTION)
    for key, value in before.items():
        assert torch.equal(saved["state"][key], value) and torch.equal(twin.state[key], value)
        assert torch.equal(simulator.starts.pool[key], pool[key])
    assert all(torch.equal(first.observation[key], value) for key, value in seen.items())
    simulator.set_state(saved)
    assert torch.equal(simulator.step(ACTION).reward, first.reward)
    assert torch.equal(twin.step(ACTION).reward, first.reward)


@pytest.mark.parametrize(
    "options", [{"reward": lambda s, a, n: s["memory"][:, :1]}, {"penalty": lambda s, a, n: 0 * a[:, :1]}]
)
def test_a_function_of_the_state_before_gets_it(options):
    simulator = dream(**options)
    before = simulator.state["memory"][:, :1].clone()
    reward = simulator.step(ACTION).reward
    assert simulator.model.steps["inplace"] == 0
    assert "penalty" in options or torch.equal(reward, before)


def test_held_rows_keep_their_state():
    simulator = dream()
    before = {key: value.clone() for key, value in simulator.state.items()}
    simulator.step(ACTION, hold=torch.tensor([[True], [False], [True]]))
    assert simulator.model.steps == {"pure": 1, "inplace": 0}
    for key, value in simulator.state.items():
        assert torch.equal(value[[0, 2]], before[key][[0, 2]]) and not torch.equal(value[1], before[key][1])


def test_a_prediction_leaves_any_state_as_it_is():
    simulator = dream()
    state = {key: value.clone() for key, value in simulator.state.items()}
    simulator.predict(simulator.state, ACTION, (3,))
    assert all(torch.equal(simulator.state[key], value) for key, value in state.items())


def test_a_dream_in_place_survives_pickling():
    simulator = dream()
    twin = pickle.loads(pickle.dumps(simulator))
    assert torch.equal(twin.step(ACTION).reward, simulator.step(ACTION).reward)
    assert twin.model.steps["inplace"] == 1


def test_memory_is_told_before_it_is_taken_and_only_where_it_is_large():
    told = []
    model = InPlace()
    assert announce_states(model, 3, told.append) == model.state_bytes(3) == 3 * 16 * 4 and not told
    rows = LARGE // model.state_bytes() + 1
    announce_states(model, rows, told.append)
    assert len(told) == 1 and f"{rows} states of InPlace take 1.0 GiB" in told[0]


def test_a_simulator_tells_before_it_takes():
    class Heavy(InPlace):
        def state_bytes(self, rows=1):
            return rows * 2**29

    told = []
    Simulator(Heavy(), batch_size=2, print_fn=told.append)
    assert told and "2 states of Heavy take 1.0 GiB, 512.0 MiB each" in told[0]


def test_starts_from_replay_keep_the_last_states_alone():
    from tests.support.drive import sequences

    torch.manual_seed(0)
    model = InPlace()
    data = sequences(model)
    starts = ReplayStarts(model, lambda: data, pool_size=3, seed=0)
    whole = model.observe_sequence
    expected = last_states(model, data, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(value, expected[key]) for key, value in starts.pool.items())
    calls = []
    model.observe_sequence = lambda *a: calls.append(1) or whole(*a)
    model.observe_last = lambda *a: calls.append(2) or {k: v[:, -1] for k, v in whole(*a).items()}
    starts.refresh()
    assert calls == [2]
    with pytest.raises(ValueError, match="at least one real step"):
        last_states(model, data[:, :0])
