"""check_dream catches each fault under the id of its own clause."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.testing import ConformanceError, check_dream
from wmcomponents.testing.toy import ToyWorldModel

HORIZON = 7


def toy() -> ToyWorldModel:
    return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(3))


class Single(DreamEnv):
    def __init__(self) -> None:
        super().__init__(toy(), horizon=HORIZON)


class Rows(DreamVectorEnv):
    def __init__(self, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> None:
        super().__init__(toy(), 3, horizon=HORIZON, autoreset_mode=mode)


class SB3(DreamVecEnv):
    def __init__(self) -> None:
        super().__init__(toy(), 3, horizon=HORIZON)


class Base(TorchRLDreamEnv):
    def __init__(self, **options) -> None:
        super().__init__(toy(), [3], horizon=HORIZON, **options)


# -- gymnasium.Env -------------------------------------------------------------------------------------------------


class RewardsInFloat32(Single):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return (observation, np.float32(reward), *rest)


class FlagsInNumpy(Single):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, np.bool_(truncated), info


class ShowsDoubles(Single):
    def step(self, action):
        observation, *rest = super().step(action)
        return (observation.astype(np.float64), *rest)


class LeavesItsSpace(DreamEnv):
    def __init__(self) -> None:
        super().__init__(ToyWorldModel(Composite(observation=Bounded(-1, 1, (3,))), OneHot(3)), horizon=HORIZON)

    def step(self, action):
        observation, *rest = super().step(action)
        return (observation * 10, *rest)


class IsNotANumber(Single):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float("nan") if truncated else reward, terminated, truncated, info


class ReusesItsBuffer(Single):
    buffer = np.zeros(3, np.float32)

    def step(self, action):
        observation, *rest = super().step(action)
        self.buffer[:] = observation
        return (self.buffer, *rest)


class DrawsGlobally(Single):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return (observation, reward + float(np.random.rand()), *rest)


class IgnoresItsSeed(Single):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=0 if seed is not None else None, options=options)


class ForgetsToSeed(Single):
    def reset(self, *, seed=None, options=None):
        self.count = getattr(self, "count", 0) + 1
        return super().reset(seed=self.count, options=options)


class ShowsOneObservation(Single):
    def reset(self, *, seed=None, options=None):
        self.shown, info = super().reset(seed=seed, options=options)
        return self.shown.copy(), info

    def step(self, action):
        return (self.shown.copy(), *super().step(action)[1:])


class CannotStep(Single):
    def step(self, action):
        raise ValueError("no")


# -- gymnasium.vector ------------------------------------------------------------------------------------------------


class RewardsTheReset(Rows):
    def step(self, actions):
        observation, reward, *rest = super().step(actions)
        return (observation, reward + 1.0, *rest)


class ActsAfterTheEnd(Rows):
    def step(self, actions):
        observation, *rest = super().step(actions)
        return (observation + 0.01 * np.asarray(actions, np.float32)[:, None], *rest)


class RewardsInAColumn(Rows):
    def step(self, actions):
        observation, reward, *rest = super().step(actions)
        return (observation, reward[:, None], *rest)


class MixesRows(Rows):
    def step(self, actions):
        observation, *rest = super().step(actions)
        return (observation - observation.mean(0), *rest)


class HasNoFinalObservation(Rows):
    def __init__(self) -> None:
        super().__init__(AutoresetMode.SAME_STEP)

    def step(self, actions):
        *rest, _ = super().step(actions)
        return (*rest, {})


class TakesTheFirstForTheFinal(Rows):
    def __init__(self) -> None:
        super().__init__(AutoresetMode.SAME_STEP)

    def step(self, actions):
        observation, *rest, infos = super().step(actions)
        for i in np.flatnonzero(infos.get("_final_obs", [])):
            infos["final_obs"][i] = observation[i].copy()
        return (observation, *rest, infos)


class ResetsEveryRow(Rows):
    def __init__(self) -> None:
        super().__init__(AutoresetMode.DISABLED)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)


# -- stable-baselines3 -----------------------------------------------------------------------------------------------


class ForgetsTheTerminalObservation(SB3):
    def step_wait(self):
        *rest, infos = super().step_wait()
        for info in infos:
            info.pop("terminal_observation", None)
        return (*rest, infos)


class TakesTheFirstForTheTerminal(SB3):
    def step_wait(self):
        observation, *rest, infos = super().step_wait()
        for i, info in enumerate(infos):
            if "terminal_observation" in info:
                info["terminal_observation"] = observation[i].copy()
        return (observation, *rest, infos)


class ForgetsTheTimeLimit(SB3):
    def step_wait(self):
        *rest, infos = super().step_wait()
        for info in infos:
            info.pop("TimeLimit.truncated", None)
        return (*rest, infos)


class SharesOneInfo(SB3):
    def step_wait(self):
        *rest, infos = super().step_wait()
        return (*rest, [infos[0]] * len(infos))


class RewardsInDoubles(SB3):
    def step_wait(self):
        observation, rewards, *rest = super().step_wait()
        return (observation, rewards.astype(np.float64), *rest)


# -- torchrl -------------------------------------------------------------------------------------------------------


class NeverSaysDone(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        return after.set("done", torch.zeros_like(after["done"]))


class IsDoneOnlyWhenTerminated(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        return after.set("done", after["terminated"].clone())


class RewardsWithoutTrailingDimension(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        return after.set("reward", after["reward"].squeeze(-1))


class ChangesItsInput(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        tensordict["observation"] += 1
        return after


class PassesItsInputOn(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        return after.set("observation", tensordict["observation"])


class BeginsDone(Base):
    def _reset(self, tensordict=None, **kwargs):
        first = super()._reset(tensordict, **kwargs)
        return first.set("done", torch.ones_like(first["done"])).set("truncated", torch.ones_like(first["done"]))


class RestartsEveryRow(Base):
    def _reset(self, tensordict=None, **kwargs):
        first = super()._reset(None, **kwargs)
        if tensordict is not None and "_reset" in tensordict.keys():
            tensordict.set("_reset", torch.ones_like(tensordict["_reset"]))
        return first


class LosesItsState(TorchRLStatelessDreamEnv):
    def __init__(self) -> None:
        super().__init__(toy(), view="decoded", horizon=HORIZON)
        self.set_spec_lock_(False)
        del self.observation_spec["memory"]
        self.set_spec_lock_(True)


class IsInfinite(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        return after.set("observation", after["observation"] / 0.0)


class DrawsFromTorch(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        return after.set("reward", torch.rand_like(after["reward"]))


class WritesIntoWhatItHandedOut(Base):
    def _step(self, tensordict):
        after = super()._step(tensordict)
        kept = self.__dict__.get("kept")
        if kept is None:
            self.__dict__["kept"] = after["observation"]
            return after
        return after.set("observation", kept.copy_(after["observation"]))


BROKEN = {
    RewardsInFloat32: "reward/layout",
    FlagsInNumpy: "flags/layout",
    ShowsDoubles: "spaces/observation",
    LeavesItsSpace: "spaces/observation",
    IsNotANumber: "values/finite",
    ReusesItsBuffer: "values/no-alias",
    DrawsGlobally: "randomness/no-global-rng",
    IgnoresItsSeed: "seeds/other-seed",
    ForgetsToSeed: "seeds/same-seed",
    ShowsOneObservation: "time/not-frozen",
    CannotStep: "dream/runs",
    RewardsTheReset: "autoreset/next-step",
    ActsAfterTheEnd: "autoreset/next-step",
    RewardsInAColumn: "reward/layout",
    MixesRows: "rows/independent",
    HasNoFinalObservation: "autoreset/same-step",
    TakesTheFirstForTheFinal: "autoreset/same-step",
    ResetsEveryRow: "autoreset/disabled",
    ForgetsTheTerminalObservation: "sb3/terminal-observation",
    TakesTheFirstForTheTerminal: "sb3/terminal-observation",
    ForgetsTheTimeLimit: "sb3/time-limit",
    SharesOneInfo: "sb3/infos",
    RewardsInDoubles: "reward/layout",
    NeverSaysDone: "flags/done-is-or",
    IsDoneOnlyWhenTerminated: "flags/done-is-or",
    RewardsWithoutTrailingDimension: "torchrl/raw-reward",
    ChangesItsInput: "step/no-mutation",
    PassesItsInputOn: "step/no-alias",
    BeginsDone: "flags/none-at-reset",
    RestartsEveryRow: "torchrl/partial-reset",
    LosesItsState: "torchrl/state-carried",
    IsInfinite: "values/finite",
    DrawsFromTorch: "randomness/no-global-rng",
    WritesIntoWhatItHandedOut: "values/no-alias",
}


@pytest.mark.parametrize(("broken", "clause"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_under_its_own_clause(broken, clause):
    with pytest.raises(ConformanceError) as caught:
        check_dream(broken())
    assert clause in caught.value.clauses
    failure = next(failure for failure in caught.value.failures if failure.clause == clause)
    for part in (broken.__name__, clause, failure.expected, failure.got, failure.remedy):
        assert part and part in str(caught.value)


def test_every_clause_is_in_the_table_of_the_docstring():
    from wmcomponents.testing.dream import CLAUSES, player_of

    envs = [Single(), *(Rows(mode) for mode in AutoresetMode), SB3(), Base()]
    clauses = [*CLAUSES, *(clause for env in envs for clause in player_of(env).clauses())]
    ids = {clause_id for clause in clauses for clause_id in clause.ids}
    lines = [line.split() for line in str(check_dream.__doc__).splitlines()]
    assert {line[0] for line in lines if line and "/" in line[0] and "." not in line[0]} == ids
