"""The options of a dream: one list, the same for everything that dreams, described and checked in one place."""

import inspect
from typing import get_type_hints

import gymnasium
import numpy as np
import pytest
import torch
from torchrl.data import Composite, OneHot, Unbounded
from typing_extensions import Unpack

from wmcomponents.dream import DreamOptions, PoolStarts, Simulator, StepOptions, draw_noise
from wmcomponents.dream.make import make_simulator
from wmcomponents.dream.options import StepChoices
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.testing.toy import ToyWorldModel

OF_STEPS = ("horizon", "view", "termination", "reward", "penalty", "noise", "uncertainty")


def toy():
    return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), noise="normal")


def dream_vec_env(*args, **kwargs):
    pytest.importorskip("stable_baselines3")
    from wmcomponents.integrations.sb3 import DreamVecEnv

    return DreamVecEnv(*args, **kwargs)


ADAPTERS = {
    "DreamEnv": DreamEnv,
    "DreamVectorEnv": DreamVectorEnv,
    "DreamVecEnv": dream_vec_env,
    "TorchRLDreamEnv": TorchRLDreamEnv,
    "TorchRLStatelessDreamEnv": TorchRLStatelessDreamEnv,
}


def test_a_dream_has_eight_options_each_with_a_default_and_a_description():
    assert tuple(get_type_hints(StepOptions)) == OF_STEPS == tuple(StepChoices.__dataclass_fields__)
    assert set(get_type_hints(DreamOptions)) == {"starts", *OF_STEPS}
    assert all(f"        {name}: " in inspect.getdoc(StepOptions).replace("\n    ", "\n        ") for name in OF_STEPS)
    assert StepChoices.read(toy(), {}, Simulator) == StepChoices()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_takes_the_same_options(adapter):
    def reward(state, action, after):
        return action.sum(-1, keepdim=True)

    model = toy()
    starts = PoolStarts(model.initial_state((2,)))
    given = {"horizon": 4, "view": "both", "termination": "off", "reward": reward, "penalty": reward, "noise": "mode"}
    simulator = ADAPTERS[adapter](model, starts=starts, **given).simulator
    assert simulator.starts is starts
    assert StepChoices(**{name: getattr(simulator.rules.choices, name) for name in given}) == StepChoices(**given)
    assert (simulator.horizon, simulator.view, simulator.termination, simulator.noise) == (4, "both", "off", "mode")


@pytest.mark.parametrize("make", [*ADAPTERS.values(), Simulator, make_simulator], ids=[*ADAPTERS, "Simulator", "make"])
def test_an_option_that_there_is_not_is_refused_with_the_one_that_was_meant(make):
    with pytest.raises(TypeError, match=r"has no option 'veiw'; it has model, .*termination.* Did you mean 'view'\?"):
        make(toy(), veiw="latent")


@pytest.mark.parametrize("adapter", ["DreamVectorEnv", "DreamVecEnv"])
def test_an_argument_of_the_adapter_itself_may_have_been_meant(adapter):
    with pytest.raises(TypeError, match=rf"{adapter} has no option 'numenvs'.* Did you mean 'num_envs'\?"):
        ADAPTERS[adapter](toy(), numenvs=3)


def test_an_id_of_gymnasium_passes_the_options_on_and_refuses_others():
    name = "wmcomponents.integrations.gymnasium_registration:wmcomponents/Dream-v0"
    env = gymnasium.make(name, model=toy(), horizon=3, view="latent", disable_env_checker=True)
    assert (env.unwrapped.simulator.horizon, env.unwrapped.simulator.view) == (3, "latent")
    with pytest.raises(TypeError, match=r"DreamEnv has no option 'horizn'.* Did you mean 'horizon'\?"):
        gymnasium.make(name, model=toy(), horizn=3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"horizon": 0}, ValueError, "horizon is a number of steps, at least 1, or None"),
        ({"horizon": 2.5}, TypeError, "horizon is a number of steps"),
        ({"view": "pixels"}, ValueError, r"view is one of \('decoded', 'latent', 'both', 'goal'\); got 'pixels'"),
        ({"termination": "never"}, ValueError, "termination is one of"),
        ({"reward": 1.0}, TypeError, r"reward= is a function of \(state, action, next state\); got 1.0"),
        ({"penalty": "much"}, TypeError, "penalty= is a function"),
        ({"noise": "some"}, ValueError, "noise is 'sample', 'mode' or a StepNoise"),
        ({"noise": 3}, TypeError, "draw_noise"),
    ],
)
def test_an_option_that_is_out_of_range_is_refused_in_words(options, error, words):
    with pytest.raises(error, match=words):
        StepChoices.read(toy(), options, Simulator)


def test_a_horizon_of_numpy_is_a_whole_number_and_given_noise_is_kept():
    model = toy()
    noise = draw_noise(model, 4, 2, torch.Generator().manual_seed(0))
    choices = StepChoices.read(model, {"horizon": np.int64(5), "noise": noise}, Simulator)
    assert type(choices.horizon) is int and choices.horizon == 5 and choices.noise is noise


def test_adapters_share_one_annotation():
    for adapter in (DreamEnv, DreamVectorEnv, TorchRLDreamEnv, TorchRLStatelessDreamEnv):
        parameter = inspect.signature(adapter.__init__).parameters["options"]
        assert parameter.annotation == Unpack[DreamOptions]


def test_compiling_the_model_is_no_option_of_torchrl_s_own():
    # EnvBase takes every ``compile=`` for itself before a constructor sees it.
    pure = TorchRLDreamEnv(toy(), [2], seed=0)
    compiled = TorchRLDreamEnv(toy(), [2], seed=0, compile_model=True)
    assert not pure.simulator.rules.compiles and compiled.simulator.rules.compiles
    assert "_compiled_step_and_maybe_reset" not in compiled.__dict__
