"""check_world_model catches what goes wrong in time and between rows: frozen, shifted, remembered, leaking."""

import pytest
import torch
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents.testing import ConformanceError, check_world_model
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import Prediction, WorldModel


class Toy(ToyWorldModel):
    """What the broken models spoil."""

    def __init__(self, **options) -> None:
        super().__init__(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), **options)


class IsFrozen(Toy):
    def imagine(self, state, action, noise):
        _, reward, cont = super().imagine(state, action, noise)
        return Prediction({key: value.clone() for key, value in state.items()}, reward, cont)


class OnlyItsClockMoves(WorldModel):
    def __init__(self) -> None:
        super().__init__(
            observation_spec=Composite(observation=Unbounded(2)),
            action_spec=Bounded(-1, 1, (2,)),
            state_spec=Composite(seen=Unbounded(2), clock=Unbounded(1, dtype=torch.int64)),
        )

    def observe(self, state, action, observation, is_init, noise):
        return {"seen": observation["observation"].clone(), "clock": (state["clock"] + 1).masked_fill(is_init, 0)}

    def imagine(self, state, action, noise):
        reward = action.sum(-1, keepdim=True)
        return Prediction({"seen": state["seen"].clone(), "clock": state["clock"] + 1}, reward, torch.ones_like(reward))

    def decode(self, state):
        return {"observation": state["seen"].clone()}


class RemembersAnAction(Toy):
    pending = None

    def late(self, action):
        before, self.pending = self.pending, action.clone()
        return before if before is not None and before.shape == action.shape else torch.zeros_like(action)


class ActsOneStepLateByAttribute(RemembersAnAction):
    def imagine(self, state, action, noise):
        return super().imagine(state, self.late(action), noise)


class FiltersOneStepLateByAttribute(RemembersAnAction):
    def observe(self, state, action, observation, is_init, noise):
        return super().observe(state, self.late(action), observation, is_init, noise)


class CarriesPending(Toy):
    """Healthy: its state also records the action that led to it."""

    def __init__(self) -> None:
        super().__init__()
        self.state_spec["pending"] = Bounded(-1, 1, (2,))

    def split(self, state):
        return {key: state[key] for key in ("memory", "z")}, state["pending"]

    def observe(self, state, action, observation, is_init, noise):
        rest, _ = self.split(state)
        kept = action.masked_fill(is_init, 0.0)
        return {**super().observe(rest, action, observation, is_init, noise), "pending": kept.clone()}

    def imagine(self, state, action, noise):
        rest, _ = self.split(state)
        after, reward, cont = super().imagine(rest, action, noise)
        return Prediction({**after, "pending": action.clone()}, reward, cont)


class ActsOneStepLateByState(CarriesPending):
    def imagine(self, state, action, noise):
        rest, pending = self.split(state)
        after, reward, cont = Toy.imagine(self, rest, pending, noise)
        return Prediction({**after, "pending": action.clone()}, reward, cont)


class FiltersOneStepLateByState(CarriesPending):
    def observe(self, state, action, observation, is_init, noise):
        rest, pending = self.split(state)
        after = Toy.observe(self, rest, pending, observation, is_init, noise)
        return {**after, "pending": action.masked_fill(is_init, 0.0).clone()}


class ShiftsActionsInSequences(Toy):
    def observe_sequence(self, state, action, observation, is_init, noise):
        time = is_init.ndim - 2
        first = torch.zeros_like(action.narrow(time, 0, 1))
        shifted = torch.cat([first, action.narrow(time, 0, action.shape[time] - 1)], time)
        return super().observe_sequence(state, shifted, observation, is_init, noise)


class IgnoresTheAction(Toy):
    def imagine(self, state, action, noise):
        return super().imagine(state, torch.zeros_like(action), noise)


class IgnoresIsInit(Toy):
    def observe(self, state, action, observation, is_init, noise):
        return super().observe(state, action, observation, torch.zeros_like(is_init), noise)


class KeepsTheActionAtIsInit(Toy):
    def observe(self, state, action, observation, is_init, noise):
        after = super().observe(state, action, observation, is_init, noise)
        return {**after, "z": torch.tanh(after["z"] + action.sum(-1, keepdim=True))}


class AppliesIsInitToTheWholeBatch(Toy):
    def observe(self, state, action, observation, is_init, noise):
        return super().observe(state, action, observation, is_init.any().expand_as(is_init), noise)


class IgnoresTheObservation(Toy):
    def observe(self, state, action, observation, is_init, noise):
        blank = {key: torch.zeros_like(value) for key, value in observation.items()}
        return super().observe(state, action, blank, is_init, noise)


class SubtractsTheBatchMean(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        memory = after["memory"]
        dims = tuple(range(memory.ndim - 1))
        centred = memory - memory.mean(dims, keepdim=True) if dims else memory
        return Prediction({**after, "memory": centred.clamp(-1, 1)}, reward, cont)


class LeaksAlongTime(Toy):
    def features(self, state):
        memory = state["memory"]
        return memory.cumsum(-2) if memory.ndim > 1 else memory.clone()


BROKEN = {
    IsFrozen: "time/not-frozen",
    OnlyItsClockMoves: "time/not-frozen",
    ActsOneStepLateByAttribute: "state-is-a-value/no-hidden-state",
    FiltersOneStepLateByAttribute: "state-is-a-value/no-hidden-state",
    ActsOneStepLateByState: "time/action-at-once",
    FiltersOneStepLateByState: "time/observe-action",
    ShiftsActionsInSequences: "time/sequence",
    IgnoresTheAction: "time/action-at-once",
    IgnoresIsInit: "time/is-init-erases",
    KeepsTheActionAtIsInit: "time/is-init-erases",
    AppliesIsInitToTheWholeBatch: "time/is-init-erases",
    IgnoresTheObservation: "time/observation-matters",
    SubtractsTheBatchMean: "rows/independent",
    LeaksAlongTime: "rows/alone",
}


@pytest.mark.parametrize(("broken", "clause"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_under_its_own_clause(broken, clause):
    with pytest.raises(ConformanceError) as caught:
        check_world_model(broken())
    assert clause in caught.value.clauses
    failure = next(failure for failure in caught.value.failures if failure.clause == clause)
    assert failure.expected and failure.got and failure.remedy
    for part in (broken.__name__, clause, failure.where, failure.expected, failure.got, failure.remedy):
        assert part in str(caught.value)


def test_a_healthy_model_that_records_its_actions_passes():
    check_world_model(CarriesPending())
