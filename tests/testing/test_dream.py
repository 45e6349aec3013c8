"""check_dream lets every kind of dream pass, and other people's environments too."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from torchrl.data import Bounded, Composite, OneHot, Unbounded
from torchrl.envs import GymEnv, SerialEnv, StepCounter, TransformedEnv

from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv, GymnasiumVecEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.testing import check_dream
from wmcomponents.testing.toy import ToyWorldModel

ROOT = Path(__file__).resolve().parents[2]
HORIZON = 7


def vectors(**options) -> ToyWorldModel:
    return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(3), **options)


def mixed() -> ToyWorldModel:
    camera = Bounded(0, 255, (4, 4, 3), dtype=torch.uint8)
    return ToyWorldModel(Composite(position=Unbounded(3), camera=camera), Bounded(-1, 1, (2,)))


MODELS = {"vectors": vectors, "mixed": mixed, "deterministic": lambda: vectors(noise="none")}
KINDS = {
    "Env": lambda model, **options: DreamEnv(model, **options),
    "NEXT_STEP": lambda model, **options: DreamVectorEnv(model, 3, autoreset_mode="NextStep", **options),
    "SAME_STEP": lambda model, **options: DreamVectorEnv(model, 3, autoreset_mode="SameStep", **options),
    "DISABLED": lambda model, **options: DreamVectorEnv(model, 3, autoreset_mode="Disabled", **options),
    "tensors out": lambda model, **options: DreamVectorEnv(
        model, 3, autoreset_mode="SameStep", output="torch", **options
    ),
    "VecEnv": lambda model, **options: DreamVecEnv(model, 3, **options),
    "VectorEnv as VecEnv": lambda model, **options: GymnasiumVecEnv(
        DreamVectorEnv(model, 3, autoreset_mode="SameStep", **options)
    ),
    "EnvBase": lambda model, **options: TorchRLDreamEnv(model, [3], **options),
    "EnvBase of one row": lambda model, **options: TorchRLDreamEnv(model, [], **options),
    "EnvBase of a grid": lambda model, **options: TorchRLDreamEnv(model, [2, 2], **options),
    "stateless EnvBase": lambda model, **options: TorchRLStatelessDreamEnv(model, **options),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_dream_passes(kind, model):
    result = check_dream(KINDS[kind](MODELS[model](), horizon=HORIZON))
    assert {"values/no-alias", "seeds/same-seed", "time/not-frozen"} <= set(result.held)
    assert "rows/independent" in (
        result.skipped if "Env" == kind or "one row" in kind or "less" in kind else result.held
    )


@pytest.mark.parametrize("view", ["latent", "both"])
@pytest.mark.parametrize("kind", ["Env", "SAME_STEP", "VecEnv", "EnvBase"])
def test_every_view_passes(kind, view):
    check_dream(KINDS[kind](mixed(), horizon=HORIZON, view=view))


def cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1")


FOREIGN = {
    "CartPole": cartpole,
    "Pendulum": lambda: gymnasium.make("Pendulum-v1"),
    **{mode.name: lambda mode=mode: SyncVectorEnv([cartpole] * 3, autoreset_mode=mode) for mode in AutoresetMode},
    "DummyVecEnv": lambda: DummyVecEnv([cartpole] * 3),
    "VecMonitor": lambda: VecMonitor(DummyVecEnv([cartpole] * 3)),
    "GymEnv": lambda: GymEnv("CartPole-v1"),
    "SerialEnv": lambda: SerialEnv(2, lambda: GymEnv("CartPole-v1")),
    "TransformedEnv": lambda: TransformedEnv(GymEnv("CartPole-v1"), StepCounter(20)),
}


@pytest.mark.parametrize("env", FOREIGN)
def test_environments_of_others_pass(env):
    check_dream(FOREIGN[env]())


def test_a_deterministic_dream_skips_other_seeds_and_says_why():
    result = check_dream(DreamEnv(vectors(noise="none"), horizon=HORIZON, termination="off"))
    assert "deterministic" in result.skipped["seeds/other-seed"]


def test_without_an_end_the_clauses_on_ends_are_skipped_and_say_why():
    with pytest.warns(UserWarning, match="no episode of this dream ever ends"):
        env = DreamVecEnv(vectors(), 2, termination="off")
    result = check_dream(env, steps=30)
    assert "no episode ended in 30 steps" in result.skipped["sb3/terminal-observation"]


def test_the_check_leaves_the_global_generators_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for kind in ("Env", "EnvBase"):
        check_dream(KINDS[kind](vectors(), horizon=HORIZON))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_what_is_no_environment_is_refused():
    with pytest.raises(TypeError, match="check_world_model"):
        check_dream(vectors())


def test_checking_one_librarys_dream_imports_no_other():
    code = (
        "import sys, torch\n"
        "from torchrl.data import Composite, OneHot, Unbounded\n"
        "from wmcomponents.integrations.torchrl import TorchRLDreamEnv\n"
        "from wmcomponents.testing import check_dream\n"
        "from wmcomponents.testing.toy import ToyWorldModel\n"
        "before = set(sys.modules)\n"
        "model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(3))\n"
        "check_dream(TorchRLDreamEnv(model, [2], horizon=5), steps=20)\n"
        "print(*({'stable_baselines3', 'gymnasium', 'hypothesis'} & set(sys.modules) - before))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "stable_baselines3" not in run.stdout and "hypothesis" not in run.stdout and "gymnasium" not in run.stdout
