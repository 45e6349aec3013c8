"""check_world_model catches each fault under the id of its own clause."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.testing import ConformanceError, check_world_model
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import Prediction, WorldModel


class Toy(ToyWorldModel):
    """What the broken models spoil."""

    def __init__(self, **options) -> None:
        super().__init__(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), **options)

    @property
    def capabilities(self):
        inplace = type(self).imagine_inplace is not WorldModel.imagine_inplace
        return super().capabilities | ({"inplace"} if inplace else set())


class MutatesItsState(Toy):
    def imagine(self, state, action, noise):
        answer = super().imagine(state, action, noise)
        state["memory"] += 0.1
        return answer


class MutatesItsObservation(Toy):
    def observe(self, state, action, observation, is_init, noise):
        observation["observation"].clamp_(-0.1, 0.1)
        return super().observe(state, action, observation, is_init, noise)


class AddsToTheDictItWasGiven(Toy):
    def features(self, state):
        state["cache"] = super().features(state)
        return state["cache"].clone()


class ReturnsItsInput(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction({**after, "memory": state["memory"]}, reward, cont)


class DecodesAViewOfItsState(Toy):
    def decode(self, state):
        return {"observation": state["memory"][..., :3]}


class HandsOutItsParameter(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(self.size))

    def initial_state(self, batch_size=(), device=None):
        state = super().initial_state(batch_size, device)
        return {**state, "memory": self.first.detach().expand(*batch_size, -1)}


class WritesDoubles(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction({**after, "z": after["z"].double()}, reward, cont)


class RewardsInIntegers(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward.long(), cont)


class AnswersOnAnotherDevice(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward.to("meta"), cont)


class DecodesOnAnotherDevice(Toy):
    def decode(self, state):
        return {key: torch.zeros_like(value, device="meta") for key, value in super().decode(state).items()}


class IsNotANumber(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, torch.where(state["memory"][..., :1] > 0.5, torch.nan, reward), cont)


class IsInfiniteAtTheEdgeOfTheNoise(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward if noise is None else reward + 1e-3 * noise["base"][..., :1].log(), cont)


class DrawsFromTorch(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward + torch.rand_like(reward), cont)


class DrawsFromNumpy(Toy):
    def features(self, state):
        return super().features(state) + float(np.random.rand())


class DrawsFromPython(Toy):
    def decode(self, state):
        return {key: value + random.random() for key, value in super().decode(state).items()}


class DrawsBehindAFork(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        with torch.random.fork_rng():
            return Prediction(after, reward + torch.rand_like(reward), cont)


class DrawsFromItsOwnGenerator(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward + torch.rand(reward.shape, generator=self.generator), cont)


class DrawsItsMode(Toy):
    def imagine(self, state, action, noise):
        drawn = {"base": torch.rand_like(state["memory"])} if noise is None else noise
        return super().imagine(state, action, drawn)


class IgnoresItsNoise(Toy):
    def imagine(self, state, action, noise):
        return super().imagine(state, action, None)

    def observe(self, state, action, observation, is_init, noise):
        return super().observe(state, action, observation, is_init, None)


class RewardsWithoutTrailingDimension(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward.squeeze(-1), cont)


class ValuesWithoutTrailingDimension(Toy):
    def value(self, state):
        return super().value(state).squeeze(-1)


class ContinuesInLogits(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction(after, reward, torch.logit(cont))


class DecodesOutsideItsSpace(ToyWorldModel):
    def __init__(self) -> None:
        super().__init__(Composite(observation=Bounded(-1, 1, (3,))), OneHot(3))

    def decode(self, state):
        return {key: 3 * value for key, value in super().decode(state).items()}


class LosesAKey(Toy):
    def observe(self, state, action, observation, is_init, noise):
        after = super().observe(state, action, observation, is_init, noise)
        return {"memory": after["memory"]}


class AddsAKey(Toy):
    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction({**after, "steps": torch.ones_like(reward)}, reward, cont)


class WantsOneBatchDimension(Toy):
    def features(self, state):
        return state["memory"].reshape(-1, self.size).clone()


class DeclaresWhatItLacks(Toy):
    def __init__(self) -> None:
        super().__init__(parts=("decode", "features", "continue"))

    @property
    def capabilities(self):
        return super().capabilities | {"reward"}


class HidesItsDecoder(Toy):
    @property
    def capabilities(self):
        return super().capabilities - {"decode"}


class RefusesWithTheWrongError(Toy):
    def __init__(self) -> None:
        super().__init__(parts=("decode", "reward", "continue"))

    def features(self, state):
        raise NotImplementedError


class NamesTheStateLikeTheObservation(WorldModel):
    def __init__(self) -> None:
        super().__init__(
            observation_spec=Composite(observation=Unbounded(2)),
            action_spec=Bounded(-1, 1, (2,)),
            state_spec=Composite(place=Unbounded(2)),
        )
        # The constructor refuses it; a model that exchanges its spec afterwards escapes the constructor.
        self.state_spec = Composite(observation=Unbounded(2))

    def observe(self, state, action, observation, is_init, noise):
        return {"observation": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        after = state["observation"] + action
        return Prediction({"observation": after}, after[..., :1].clone(), torch.ones_like(after[..., :1]))


class KeepsRunningStatistics(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def observe(self, state, action, observation, is_init, noise):
        self.seen += 1
        return super().observe(state, action, observation, is_init, noise)


class SwitchesItsMode(Toy):
    def imagine(self, state, action, noise):
        self.train()
        return super().imagine(state, action, noise)


class BranchesOnGradients(Toy):
    def features(self, state):
        return super().features(state) * (2.0 if torch.is_grad_enabled() else 1.0)


class ReturnsABareTuple(Toy):
    def imagine(self, state, action, noise):
        return super().imagine(state, action, noise).state


class StepsElsewhereInPlace(Toy):
    def imagine_inplace(self, state, action, noise):
        after, reward, cont = self.imagine(state, action, noise)
        return Prediction(after, reward + 1e-6, cont)


class ReadsWhatItHasWrittenOver(Toy):
    def imagine_inplace(self, state, action, noise):
        state["memory"].mul_(0.5)
        after, reward, cont = self.imagine(state, action, noise)
        return Prediction({**after, "memory": state["memory"].copy_(after["memory"])}, reward, cont)


class SpoilsTheStateBesideTheDonatedStep(Toy):
    def imagine(self, state, action, noise):
        return self.imagine_inplace(state, action, noise)

    def imagine_inplace(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction({**after, "memory": state["memory"].copy_(after["memory"])}, reward, cont)


class DonatesItsParameter(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.Parameter(torch.zeros(8, self.size))

    def imagine(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        return Prediction({**after, "memory": torch.zeros_like(after["memory"])}, reward, cont)

    def imagine_inplace(self, state, action, noise):
        after, reward, cont = super().imagine(state, action, noise)
        kept = self.kept.data if after["memory"].shape == self.kept.shape else torch.zeros_like(after["memory"])
        return Prediction({**after, "memory": kept}, reward, cont)


class ScalesTheActionInPlace(Toy):
    def imagine_inplace(self, state, action, noise):
        answer = self.imagine(state, action, noise)
        action.mul_(0.5)
        return answer


BROKEN = {
    StepsElsewhereInPlace: "inplace/as-pure",
    ReadsWhatItHasWrittenOver: "inplace/as-pure",
    SpoilsTheStateBesideTheDonatedStep: "inplace/as-pure",
    DonatesItsParameter: "inplace/alone",
    ScalesTheActionInPlace: "inplace/alone",
    MutatesItsState: "state-is-a-value/no-mutation",
    MutatesItsObservation: "state-is-a-value/no-mutation",
    AddsToTheDictItWasGiven: "state-is-a-value/no-mutation",
    ReturnsItsInput: "state-is-a-value/no-alias",
    DecodesAViewOfItsState: "state-is-a-value/no-alias",
    HandsOutItsParameter: "state-is-a-value/no-alias",
    WritesDoubles: "layout/dtype",
    RewardsInIntegers: "layout/dtype",
    AnswersOnAnotherDevice: "layout/device",
    DecodesOnAnotherDevice: "layout/device",
    IsNotANumber: "values/finite",
    IsInfiniteAtTheEdgeOfTheNoise: "values/finite",
    DrawsFromTorch: "randomness/no-global-rng",
    DrawsFromNumpy: "randomness/no-global-rng",
    DrawsFromPython: "randomness/no-global-rng",
    DrawsBehindAFork: "randomness/repeatable",
    DrawsFromItsOwnGenerator: "randomness/repeatable",
    DrawsItsMode: "randomness/mode",
    IgnoresItsNoise: "randomness/noise-matters",
    RewardsWithoutTrailingDimension: "layout/trailing-one",
    ValuesWithoutTrailingDimension: "layout/trailing-one",
    ContinuesInLogits: "values/continue",
    DecodesOutsideItsSpace: "values/in-space",
    LosesAKey: "layout/keys",
    AddsAKey: "layout/keys",
    WantsOneBatchDimension: "layout/shape",
    DeclaresWhatItLacks: "capabilities/honest",
    HidesItsDecoder: "capabilities/honest",
    RefusesWithTheWrongError: "capabilities/honest",
    NamesTheStateLikeTheObservation: "specs/names",
    KeepsRunningStatistics: "state-is-a-value/model-unchanged",
    SwitchesItsMode: "state-is-a-value/model-unchanged",
    BranchesOnGradients: "modes/grad",
    ReturnsABareTuple: "verbs/run",
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


def test_independent_faults_are_reported_together():
    class Broken(MutatesItsState, DrawsFromNumpy, WritesDoubles, ContinuesInLogits):
        pass

    with pytest.raises(ConformanceError) as caught:
        check_world_model(Broken())
    assert caught.value.clauses >= {
        "state-is-a-value/no-mutation",
        "randomness/no-global-rng",
        "layout/dtype",
        "values/continue",
    }


def test_a_broken_foundation_leaves_the_rest_unchecked_and_says_so():
    with pytest.raises(ConformanceError) as caught:
        check_world_model(LosesAKey())
    assert caught.value.clauses == {"layout/keys"}
    assert "rows/alone" in caught.value.skipped
    assert "until layout/keys is mended" in str(caught.value)


def test_the_failure_is_an_assertion():
    with pytest.raises(AssertionError):
        check_world_model(MutatesItsState())
