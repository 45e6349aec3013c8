"""What a newcomer does wrong in Python, and what each mistake answers: what was expected, what came, what to do."""

import re
from functools import cached_property

import gymnasium
import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

import wmcomponents
from wmcomponents.data import action_spec, collect, load_replay, make_env, make_replay, observation_spec, save_replay
from wmcomponents.dream import PriorStarts, ReplayStarts, imagine
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv, LatentObservation
from wmcomponents.integrations.sb3 import DreamVecEnv, GymnasiumVecEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv
from wmcomponents.models import IRIS, DreamerV3, DreamerV3Config, IRISConfig, make_model, presets
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import Trainer


class World:
    """What the mistakes are made with, each part made when it is first asked for."""

    @cached_property
    def env(self):
        return make_env("CartPole-v1", seed=0)

    @cached_property
    def gym_env(self):
        return gymnasium.make("CartPole-v1")

    @cached_property
    def pendulum(self):
        return make_env("Pendulum-v1", seed=0)

    def buffer(self, env, frames):
        replay = make_replay(100, env, sequence_length=8, batch_size=2, seed=0, print_fn=None)
        if frames:
            collect(env, replay, frames, seed=0)
        return replay

    @cached_property
    def replay(self):
        return self.buffer(self.env, 60)

    @cached_property
    def empty(self):
        return self.buffer(self.env, 0)

    @cached_property
    def pendulum_replay(self):
        return self.buffer(self.pendulum, 60)

    @cached_property
    def specs(self):
        return observation_spec(self.env), action_spec(self.env)

    @cached_property
    def model(self):
        return DreamerV3(DreamerV3Config.tiny(deter=16, hidden=8, units=8), *self.specs)

    @cached_property
    def bare(self):
        return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), parts=())

    @property
    def states(self):
        return PriorStarts(self.model).sample(2, torch.Generator())

    def dream(self):
        dream = DreamEnv(self.model, horizon=5)
        dream.reset(seed=0)
        return dream

    def pushed(self):
        dream = DreamEnv(ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (1,))), horizon=5)
        dream.reset(seed=0)
        return dream

    def rows(self):
        rows = DreamVectorEnv(self.model, 3, horizon=5)
        rows.reset(seed=0)
        return rows

    def train(self, **changes):
        return Trainer(self.model, self.replay, progress=False, **changes)


@pytest.fixture(scope="module")
def world():
    return World()


IMAGES = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))

# What is done, the class of the error, and what its words must hold: what was expected, what came, what to do.
MISTAKES = {
    # environments
    "a mistyped id": (lambda w: make_env("CartPol-v1"), ValueError, ["'CartPol-v1'", "Did you mean 'CartPole-v1'"]),
    "an id without its version": (lambda w: make_env("CartPole"), ValueError, ["Did you mean 'CartPole-v1'"]),
    "a mistyped Atari game": (lambda w: make_env("ALE/Pongg-v5"), ValueError, ["Did you mean 'ALE/Pong-v5'"]),
    "no environment": (lambda w: make_env(None), TypeError, ["make_env takes an id", "NoneType"]),
    "a number for an id": (lambda w: make_env(3), TypeError, ["make_env takes an id", "got int"]),
    "no copies": (lambda w: make_env("CartPole-v1", num_envs=0), ValueError, ["num_envs", "at least 1", "got 0"]),
    "half a copy": (lambda w: make_env("CartPole-v1", num_envs=2.5), TypeError, ["num_envs", "2.5", "whole number"]),
    "a seed in words": (lambda w: make_env("CartPole-v1", seed="a"), TypeError, ["seed", "whole number", "'a'"]),
    "an unknown device": (lambda w: make_env("CartPole-v1", device="gpu0"), ValueError, ["'cuda'", "'gpu0'"]),
    "an environment's own argument": (
        lambda w: make_env("CartPole-v1", sutton_barto_reward=True),
        TypeError,
        ["no arguments sutton_barto_reward", "env_kwargs="],
    ),
    "sticky actions of CartPole": (
        lambda w: make_env("CartPole-v1", sticky_actions=0.2),
        ValueError,
        ["sticky_actions", "Atari and MinAtar", "Leave it None"],
    ),
    # buffers
    "a buffer of a Gymnasium environment": (
        lambda w: make_replay(100, w.gym_env, sequence_length=4, batch_size=2),
        TypeError,
        ["make_replay", "make_env", "TimeLimit"],
    ),
    "a buffer of an id": (
        lambda w: make_replay(100, "CartPole-v1", sequence_length=4, batch_size=2),
        TypeError,
        ["make_env", "got a str"],
    ),
    "a buffer of nothing": (
        lambda w: make_replay(0, w.env, sequence_length=4, batch_size=2),
        ValueError,
        ["capacity", "at least 1", "got 0"],
    ),
    "a capacity of 1e4": (
        lambda w: make_replay(1e4, w.env, sequence_length=4, batch_size=2),
        TypeError,
        ["capacity", "10000.0", "whole number"],
    ),
    "sequences of nothing": (
        lambda w: make_replay(100, w.env, sequence_length=0, batch_size=2),
        ValueError,
        ["sequence_length", "at least 1"],
    ),
    "sequences longer than the buffer": (
        lambda w: make_replay(10, w.env, sequence_length=40, batch_size=2),
        ValueError,
        ["capacity of 10", "sequence_length of 40", "at least 40"],
    ),
    "another kind of storage": (
        lambda w: make_replay(100, w.env, sequence_length=4, batch_size=2, storage="disk"),
        ValueError,
        ["'memory' or 'memmap'", "'disk'"],
    ),
    # collecting
    "collecting from a Gymnasium environment": (
        lambda w: collect(w.gym_env, w.replay, 10),
        TypeError,
        ["env is an environment as make_env gives it", "TimeLimit"],
    ),
    "the buffer before the environment": (lambda w: collect(w.replay, w.env, 10), TypeError, ["make_env", "Buffer"]),
    "no frames": (lambda w: collect(w.env, w.replay, 0), ValueError, ["frames", "at least 1", "got 0"]),
    "half a frame": (lambda w: collect(w.env, w.replay, 10.5), TypeError, ["frames", "10.5", "whole number"]),
    "another environment's buffer": (
        lambda w: collect(w.pendulum, w.replay, 10),
        ValueError,
        ["observation", "[3]", "[4]", "make_replay"],
    ),
    "a policy by its name": (
        lambda w: collect(w.env, w.replay, 10, policy="random"),
        TypeError,
        ["callable from TensorDict to TensorDict", "'random'"],
    ),
    "a policy that returns the action": (
        lambda w: collect(w.env, w.replay, 10, policy=lambda tensordict: 1),
        TypeError,
        ["returns the TensorDict", "returned a", "SB3Policy"],
    ),
    # models
    "specs in the wrong order": (
        lambda w: DreamerV3(DreamerV3Config.tiny(), *reversed(w.specs)),
        TypeError,
        ["observation_spec of DreamerV3 is a Composite", "OneHot", "observations come before actions"],
    ),
    "a bare spec": (
        lambda w: DreamerV3(DreamerV3Config.tiny(), Unbounded(3), OneHot(2)),
        TypeError,
        ["Composite", "observation_spec(env)"],
    ),
    "a config that was not called": (
        lambda w: DreamerV3(DreamerV3Config, *w.specs),
        TypeError,
        ["DreamerV3Config.tiny()", "the class DreamerV3Config"],
    ),
    "another family's config": (
        lambda w: DreamerV3(IRISConfig.tiny(), *w.specs),
        TypeError,
        ["built from a DreamerV3Config", "IRISConfig"],
    ),
    "a mistyped preset": (lambda w: DreamerV3("tinny", w.env), ValueError, ["tiny, size1m", "Did you mean 'tiny'"]),
    "an environment and an action": (lambda w: DreamerV3("tiny", w.env, w.specs[1]), TypeError, ["leave the third"]),
    "a size in words": (
        lambda w: DreamerV3(DreamerV3Config.tiny(units="abc"), *w.specs),
        ValueError,
        ["DreamerV3Config.network.units", "whole number", "'abc'"],
    ),
    "a size below zero": (
        lambda w: DreamerV3(DreamerV3Config.tiny(units=-2), *w.specs),
        ValueError,
        ["DreamerV3Config.network.units=-2", "at least 0"],
    ),
    "a choice that is none": (
        lambda w: DreamerV3(DreamerV3Config.tiny(latent="normal"), *w.specs),
        ValueError,
        ["'categorical', 'gaussian'", "'normal'"],
    ),
    "a mistyped family": (
        lambda w: make_model("Dreamer V3", "tiny", *w.specs),
        ValueError,
        ["Did you mean 'DreamerV3'"],
    ),
    "a family in small letters": (lambda w: presets("td-mpc2"), ValueError, ["Did you mean 'TDMPC2'"]),
    "a model of images on vectors": (
        lambda w: IRIS(IRISConfig.tiny(), *w.specs),
        ValueError,
        ["one square uint8 image", "observation", "from_pixels=True"],
    ),
    "a model of choices on continuous actions": (
        lambda w: IRIS(IRISConfig.tiny(), IMAGES, Bounded(-1, 1, (2,))),
        ValueError,
        ["one choice", "Bounded"],
    ),
    # training
    "training on nothing": (
        lambda w: Trainer(w.model, w.empty, progress=False).train(2),
        RuntimeError,
        ["buffer is empty", "collect"],
    ),
    "training on another environment": (
        lambda w: Trainer(w.model, w.pendulum_replay, progress=False).train(2),
        ValueError,
        ["another environment", "[3]", "[4]", "observation_spec(env)"],
    ),
    "training on an environment": (
        lambda w: Trainer(w.model, w.env, progress=False),
        TypeError,
        ["a replay buffer", "make_replay"],
    ),
    "the buffer before the model": (
        lambda w: Trainer(w.replay, w.model, progress=False),
        TypeError,
        ["Trainer(model, replay)", "Buffer"],
    ),
    "half an update": (lambda w: w.train().train(2.5), TypeError, ["steps", "2.5", "whole number"]),
    "a rate below zero": (lambda w: w.train(lr=-1), ValueError, ["lr", "at least 0", "-1"]),
    "a rate in words": (lambda w: w.train(lr="1e-3"), ValueError, ["lr is a number", "'1e-3'"]),
    "an optimiser that was not made": (
        lambda w: w.train(optimizer=torch.optim.Adam),
        TypeError,
        ["optimizer is an optimiser with", "the class Adam"],
    ),
    "an unknown logger": (
        lambda w: w.train(logger="wandb", out="runs"),
        ValueError,
        ["'csv', 'tensorboard'", "'wandb'"],
    ),
    "a logger without a place": (lambda w: w.train(logger="csv"), ValueError, ["pass out=FOLDER"]),
    # dreams
    "starts from a buffer": (
        lambda w: ReplayStarts(w.model, w.replay),
        TypeError,
        ["such as replay.sample", "ReplayBuffer"],
    ),
    "starts of another environment": (
        lambda w: DreamEnv(w.model, starts=ReplayStarts(w.model, w.pendulum_replay.sample)).reset(),
        ValueError,
        ["another environment", "[3]", "[4]"],
    ),
    "a function as starts": (
        lambda w: DreamEnv(w.model, starts=w.replay.sample),
        TypeError,
        ["starts= takes a Starts", "ReplayStarts(model, replay.sample)"],
    ),
    "half a step of horizon": (lambda w: DreamEnv(w.model, horizon=2.5), TypeError, ["horizon", "2.5", "whole number"]),
    "no horizon at all": (lambda w: DreamEnv(w.model, horizon=0), ValueError, ["horizon", "at least 1", "None"]),
    "a mistyped view": (lambda w: DreamEnv(w.model, view="latnt"), ValueError, ["'latent'", "'latnt'"]),
    "an end by True and False": (lambda w: DreamEnv(w.model, termination=False), ValueError, ["'off'", "got False"]),
    "a window": (lambda w: DreamEnv(w.model, render_mode="human"), ValueError, ["'rgb_array'", "'human'"]),
    "a dream of an environment": (
        lambda w: DreamEnv(w.env),
        TypeError,
        ["a dream is of a WorldModel", "TransformedEnv"],
    ),
    "a dream of nowhere": (lambda w: DreamEnv("runs/nowhere"), ValueError, ["runs/nowhere", "no such folder"]),
    "a dream of a blind model": (lambda w: DreamEnv(w.bare), Exception, ["decode", "view='latent'"]),
    "a step before a reset": (lambda w: DreamEnv(w.model).step(0), RuntimeError, ["call reset()"]),
    "an action that there is not": (lambda w: w.dream().step(5), ValueError, ["Discrete(2)", "no action 5"]),
    "an action as a score": (lambda w: w.dream().step(0.5), ValueError, ["integer actions", "float"]),
    "an action in a list": (lambda w: w.dream().step([0]), ValueError, ["shape", "without the row dimension"]),
    "no action": (lambda w: w.dream().step(None), ValueError, ["numbers", "object"]),
    "an action in words": (lambda w: w.dream().step("left"), ValueError, ["numbers", "<U4"]),
    "an action that is not a number": (
        lambda w: w.pushed().step(np.array([np.nan], np.float32)),
        ValueError,
        ["not", "nan"],
    ),
    "one action for three rows": (lambda w: w.rows().step(0), ValueError, ["(3,)", "got ()"]),
    "two actions for three rows": (lambda w: w.rows().step(np.array([0, 1])), ValueError, ["(3,)", "got (2,)"]),
    "no rows": (lambda w: DreamVectorEnv(w.model, 0), ValueError, ["at least one row", "got 0"]),
    "an unknown way to reset": (
        lambda w: DreamVectorEnv(w.model, 2, autoreset_mode="never"),
        ValueError,
        ["AutoresetMode.SAME_STEP", "'never'"],
    ),
    "a mask of numbers": (
        lambda w: w.rows().reset(options={"reset_mask": [1, 0, 0]}),
        ValueError,
        ["bool array of shape (3,)", "int64"],
    ),
    "two seeds for three rows": (lambda w: w.rows().reset(seed=[1, 2]), ValueError, ["each of the 3 rows", "got 2"]),
    "a single environment as a vector": (
        lambda w: GymnasiumVecEnv(w.gym_env),
        TypeError,
        ["gymnasium.make_vec", "DummyVecEnv", "TimeLimit"],
    ),
    "half a row for SB3": (lambda w: DreamVecEnv(w.model, 2.5), TypeError, ["number of rows", "2.5"]),
    "a batch as a number": (lambda w: TorchRLDreamEnv(w.model, 4), TypeError, ["[64] for 64 rows", "got an int"]),
    "the filter before another environment": (
        lambda w: LatentObservation(gymnasium.make("Pendulum-v1"), w.model),
        ValueError,
        ["was trained on", "use the environment that the model was trained on"],
    ),
    "the filter before an id": (
        lambda w: LatentObservation("CartPole-v1", w.model),
        TypeError,
        ["gymnasium.make", "str"],
    ),
    "no imagined step": (
        lambda w: imagine(w.model, lambda state: state, w.states, 0),
        ValueError,
        ["horizon", "at least 1", "got 0"],
    ),
    "imagining from other states": (
        lambda w: imagine(w.model, lambda state: state, {"x": torch.zeros(2)}, 3),
        KeyError,
        ["lacks ['deter', 'stoch']"],
    ),
    "imagining with a policy's name": (
        lambda w: imagine(w.model, "random", w.states, 3),
        TypeError,
        ["latent_policy(model, net)", "'random'"],
    ),
    # disk
    "loading from nowhere": (
        lambda w: wmcomponents.load("runs/nowhere"),
        ValueError,
        ["runs/nowhere", "no such folder"],
    ),
    "loading from the Hub": (
        lambda w: wmcomponents.load("someone/dreamer"),
        ValueError,
        ["HubModel.from_pretrained('someone/dreamer')", "wmcomponents[hub]"],
    ),
    "loading a file": (lambda w: wmcomponents.load(__file__), ValueError, ["it is no folder", "save_pretrained"]),
    "loading nothing": (lambda w: wmcomponents.load(None), TypeError, ["the path of a folder", "NoneType"]),
    "saving over a file": (lambda w: w.model.save_pretrained(__file__), OSError, ["exists and holds no saved model"]),
    "saving nowhere": (lambda w: w.model.save_pretrained(None), TypeError, ["the path of a folder", "NoneType"]),
    "saving an empty buffer": (lambda w: save_replay(w.empty, "data"), RuntimeError, ["empty", "Collect"]),
    "data from nowhere": (
        lambda w: load_replay(w.empty, "runs/no-data"),
        ValueError,
        ["no data folder", "save_replay"],
    ),
    "another code's checkpoint": (
        lambda w: wmcomponents.load_official("tdmpc3", "x.pt"),
        ValueError,
        ["delta-iris, diamond", "Did you mean 'tdmpc2'"],
    ),
    "a checkpoint from nowhere": (
        lambda w: wmcomponents.load_official("tdmpc2", "x.pt"),
        ValueError,
        ["x.pt does not exist", "Download"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_what_was_expected_what_came_and_what_to_do(world, mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, kind, words = MISTAKES[mistake]
    with pytest.raises(kind) as caught:
        make(world)
    said = " ".join(str(caught.value).split())
    for word in words:
        assert word in said
    assert not re.search(r"has no attribute|not subscriptable|not iterable|not callable", said)
    assert not list(tmp_path.iterdir())
