"""A policy acts where its weights are, and its answer comes back to where the environment is."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import nn

from tests.support.online_runs import run, weights
from wmcomponents.data import RealCollector, make_env
from wmcomponents.data.acting import acted


class Spy(TensorDictModuleBase):
    """Notes where it was asked; answers on the CPU."""

    in_keys, out_keys = ["seen"], ["action"]

    def __init__(self, device):
        super().__init__()
        self.asked = None
        self.weight = nn.Parameter(torch.zeros(1, device=device))

    def forward(self, tensordict):
        self.asked = tensordict["seen"].device.type
        return tensordict.set("beside", tensordict["seen"]).set("action", torch.ones(2, 1))


def shown():
    return TensorDict({"seen": torch.zeros(2, 3)}, [2])


def test_on_one_device_it_is_a_plain_call():
    policy, asked = Spy("cpu"), shown()
    assert acted(policy, asked) is asked
    assert policy.asked == "cpu" and asked["action"].tolist() == [[1.0], [1.0]]


def test_weights_elsewhere_are_shown_what_is_there_and_only_what_they_write_comes_back():
    policy, asked = Spy("meta"), shown()
    policy.forward = lambda there: Spy.forward(policy, TensorDict(dict(there.items()), [2]))
    found = acted(policy, asked)
    assert policy.asked == "meta"
    assert set(found.keys()) == {"seen", "action"} and {value.device.type for value in found.values()} == {"cpu"}
    assert found["action"].tolist() == [[1.0], [1.0]]


def test_a_collector_s_policy_may_lie_elsewhere_too():
    policy, asked = Spy("meta"), []

    def answers(there):
        asked.append(there["observation"].device.type)
        return TensorDict(action=torch.tensor([0, 1]))

    policy.forward = answers
    collector = RealCollector(make_env("CartPole-v1"), None, policy=policy, seed=0)
    assert collector.collect(2).frames == 2 and asked == ["meta", "meta"]
    collector.close()


def test_what_has_no_weights_acts_where_it_is_asked():
    asked = shown()
    assert acted(lambda now: now.set("action", now["seen"]), asked)["action"] is asked["seen"]


@pytest.mark.gpu
def test_a_model_on_a_gpu_is_trained_online_in_environments_on_the_cpu():
    trainer = run(streams=2, device="cuda")
    trainer.train(48)
    assert weights(trainer).device.type == "cuda" and bool(weights(trainer).isfinite().all())
    assert len(trainer.evaluations) == 2 and trainer.replay.sample()["action"].device.type == "cpu"
