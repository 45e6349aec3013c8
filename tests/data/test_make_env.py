"""Environments by id, object, class, function and module; their arguments; and every mistake among them in words."""

import sys
import types

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.data import Bounded, Composite, OneHot
from torchrl.envs import GymWrapper, InitTracker, TransformedEnv

from wmcomponents.codecs import SpaceError, space_from_spec
from wmcomponents.data import UnknownEnvironmentError, action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.integrations.torchrl import TorchRLDreamEnv
from wmcomponents.models import MODELS, DreamerV3, DreamerV3Config, make_model
from wmcomponents.testing.toy import ToyWorldModel

VECTOR = spaces.Box(-1, 1, (3,), np.float32)


class Counter(gymnasium.Env):
    """Shows how many steps were taken, and remembers how it was built."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, length=5, space=None, render_mode=None):
        self.length, self.render_mode = length, render_mode
        self.observation_space = spaces.Box(0, 100, (1,), np.float32) if space is None else space
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        return self._look(), 1.0, self.t == self.length, False, {}

    def render(self):
        return np.full((48, 96, 3), 200, np.uint8)

    def _look(self):
        if self.observation_space.dtype == np.float32:
            return np.float32([self.t])
        return self.observation_space.sample()


def length(env, most=20):
    return env.rollout(most).shape[-1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_env(Counter(7)),
        lambda: make_env(Counter, env_kwargs={"length": 7}),
        lambda: make_env(lambda: Counter(7)),
        lambda: make_env(lambda length: Counter(length), env_kwargs={"length": 7}),
        lambda: make_env(GymWrapper(Counter(7))),
        lambda: make_env(lambda: GymWrapper(Counter(7))),
        lambda: make_env(TransformedEnv(GymWrapper(Counter(7)), InitTracker())),
    ],
    ids=["object", "class", "function", "function with arguments", "TorchRL", "function of TorchRL", "marked already"],
)
def test_an_environment_is_made_from_whatever_makes_it(make):
    env = make()
    assert length(env) == 7
    assert env.rollout(3)["is_init"].flatten().tolist() == [True, False, False]
    assert list(observation_spec(env).keys()) == ["observation"]


def test_copies_of_a_class_are_separate_environments():
    env = make_env(Counter, num_envs=3, env_kwargs={"length": 4}, seed=0)
    assert env.batch_size == (3,) and env.rollout(9).shape == (3, 4)
    replay = make_replay(100, env, sequence_length=4, batch_size=2, seed=0, print_fn=None)
    assert collect(env, replay, 30, seed=0).episodes == 6


def test_an_object_stays_as_it_is():
    counter = Counter(7)
    env = make_env(counter, from_pixels=False, max_episode_steps=3)
    assert length(env) == 3 and counter.t == 3 and counter.length == 7


def test_an_id_may_name_the_module_that_registers_it(monkeypatch):
    module = types.ModuleType("a_module_of_counters")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    if "ModuleCounter-v0" not in gymnasium.registry:
        gymnasium.register("ModuleCounter-v0", entry_point=Counter)
    assert length(make_env("a_module_of_counters:ModuleCounter-v0", env_kwargs={"length": 6})) == 6
    with pytest.raises(UnknownEnvironmentError, match="'no_such_module' to import"):
        make_env("no_such_module:ModuleCounter-v0")


@pytest.mark.parametrize(
    ("name", "kwargs", "check"),
    [
        (
            "FrozenLake-v1",
            {"is_slippery": False, "map_name": "8x8"},
            lambda env: env.observation_spec["observation"].shape == (64,),
        ),
        ("ALE/Breakout-v5", {"full_action_space": True}, lambda env: env.action_spec.shape == (18,)),
        ("dm_control/cartpole-swingup", {"task_kwargs": {"time_limit": 0.1}}, lambda env: length(env, 50) < 20),
    ],
)
def test_arguments_reach_the_environment(name, kwargs, check):
    env = make_env(name, env_kwargs=kwargs, seed=0)
    assert check(env)
    env.close()


def test_rendered_pixels_of_a_class():
    env = make_env(Counter, from_pixels=True, env_kwargs={"length": 3})
    assert env.rollout(2)["pixels"].shape == (2, 64, 64, 3)


WRONG = {
    "argument of the environment": (
        lambda: make_env("FrozenLake-v1", is_slippery=False),
        TypeError,
        "env_kwargs={'is_slippery': False}",
    ),
    "number": (lambda: make_env(3), TypeError, "takes an id.*got int"),
    "none": (lambda: make_env(None), TypeError, "got NoneType"),
    "object twice": (lambda: make_env(Counter(), num_envs=2), ValueError, "already built"),
    "object with arguments": (lambda: make_env(Counter(), env_kwargs={"length": 3}), ValueError, "already built"),
    "function of nothing": (lambda: make_env(lambda: 3), TypeError, "made int"),
    "vector": (lambda: make_env(gymnasium.make_vec("CartPole-v1", 2)), TypeError, "vector environment.*num_envs"),
    "sticky object": (lambda: make_env(Counter(), sticky_actions=0.1), ValueError, "Atari and MinAtar"),
    "pixels without rendering": (lambda: make_env(Counter(), from_pixels=True), ValueError, "render_mode='rgb_array'"),
    "pixels of TorchRL": (lambda: make_env(GymWrapper(Counter()), from_pixels=True), ValueError, "TorchRL environment"),
    "buffer of Gymnasium": (
        lambda: make_replay(100, Counter(), sequence_length=4, batch_size=2, print_fn=None),
        TypeError,
        r"make_env\(env\)",
    ),
    "collecting from Gymnasium": (lambda: collect(Counter(), None, 10), TypeError, r"make_env\(env\)"),
    "model of an id": (lambda: DreamerV3("tiny", "CartPole-v1"), TypeError, r"make_env\('CartPole-v1'\)"),
    "model of an environment and more": (lambda: DreamerV3("tiny", Counter(), OneHot(2)), TypeError, "third argument"),
    "preset": (lambda: DreamerV3("tyny", Counter()), ValueError, "Did you mean 'tiny'"),
    "model without actions": (lambda: DreamerV3("tiny", VECTOR), TypeError, "action"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_answered_in_words(name):
    make, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("family", MODELS)
def test_every_family_is_built_from_a_preset_and_an_environment(family):
    image = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    env = Counter(space=image)
    model = MODELS[family]("tiny", env)
    assert model.config == MODELS[family].config_class.tiny()
    assert space_from_spec(model.observation_spec) == image
    acted = space_from_spec(model.action_spec)
    assert isinstance(acted, spaces.Discrete) if model.infers_actions else acted == spaces.Discrete(2)


@pytest.mark.parametrize("source", ["Gymnasium", "vector", "TorchRL", "spaces", "dream"])
def test_specs_come_from_environments_and_spaces_of_every_library(source):
    cartpole = gymnasium.make("CartPole-v1")
    observed, acted = cartpole.observation_space, cartpole.action_space
    toy = ToyWorldModel(observation_spec=observed, action_spec=acted)
    arguments = {
        "Gymnasium": (cartpole,),
        "vector": (gymnasium.make_vec("CartPole-v1", 2),),
        "TorchRL": (make_env("CartPole-v1", num_envs=2),),
        "spaces": (observed, acted),
        "dream": (TorchRLDreamEnv(toy),),
    }[source]
    for model in (
        DreamerV3("tiny", *arguments),
        DreamerV3(DreamerV3Config.tiny(), *arguments),
        make_model("DreamerV3", "tiny", *arguments),
        ToyWorldModel(*arguments),
    ):
        assert space_from_spec(model.observation_spec) == observed and space_from_spec(model.action_spec) == acted


def test_specs_are_left_alone():
    shown, taken = Composite(observation=Bounded(-1, 1, (3,))), OneHot(2)
    model = DreamerV3("tiny", shown, taken)
    assert model.observation_spec is shown and model.action_spec is taken


def test_several_actions_are_refused():
    with pytest.raises(SpaceError, match="TransformAction"):
        action_spec(GymWrapper(Several()))


class Several(Counter):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Dict(a=spaces.Discrete(2), b=VECTOR)


def test_an_environment_that_reuses_its_array_is_read_into_memory_of_ones_own():
    class Reuses(Counter):
        def _look(self):
            self.array = getattr(self, "array", np.zeros(1, np.float32))
            self.array[:] = self.t
            return self.array

    assert make_env(Reuses()).rollout(4)["observation"].flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert torch.is_tensor(make_env(Reuses()).reset()["observation"])


@pytest.mark.parametrize(
    ("space", "shown", "words"),
    [
        (spaces.Discrete(3), 3, "shows 'observation' as 3, which is not in Discrete"),
        (spaces.Discrete(3), -1, "shows 'observation' as -1"),
        (spaces.Box(-1, 1, (2,), np.float64), np.zeros(3), r"shape \(3,\), and its observation space says"),
    ],
)
def test_what_is_no_member_of_the_space_is_refused(space, shown, words):
    class Lies(Counter):
        def _look(self):
            return shown

    with pytest.raises(SpaceError, match=words):
        make_env(Lies(space=space)).reset()
