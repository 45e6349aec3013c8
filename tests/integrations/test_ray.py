import importlib.util

import pytest
import torch

from wmcomponents._extras import MissingExtraError
from wmcomponents.data import RealCollector, make_env, make_replay
from wmcomponents.integrations.ray import RayRealCollector

HERE = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 2**27, "log_to_driver": False}


def cartpole():
    return make_env("CartPole-v1")


def buffer(streams):
    return make_replay(400, make_env("CartPole-v1", num_envs=streams), sequence_length=8, batch_size=4, print_fn=None)


def test_as_many_streams_as_workers_are_asked_for():
    with pytest.raises(ValueError, match="num_streams=2"):
        RayRealCollector(cartpole, buffer(1), workers=2)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_a_missing_ray_names_the_extra():
    with pytest.raises(MissingExtraError, match=r"wmcomponents\[ray\]"):
        RayRealCollector(cartpole, buffer(2), workers=2)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install wmcomponents[ray]"
)
@pytest.mark.filterwarnings("ignore")  # Ray's and its dependencies' own
def test_workers_fill_the_buffer_that_a_collector_of_this_process_fills():
    local = buffer(2)
    RealCollector(make_env("CartPole-v1", num_envs=2), local, seed=0).collect(8)
    replay = buffer(2)
    collector = RayRealCollector(cartpole, replay, workers=2, steps_at_once=20, seed=0, ray_init=HERE)
    try:
        assert collector.collect(40) == 40
        assert collector.collect(60) == 80
    finally:
        collector.close()
    kept, theirs = replay[:].transpose(0, 1), local[:]
    assert kept.batch_size == torch.Size([60, 2])
    assert set(kept.keys(True, True)) == set(theirs.keys(True, True))
    assert all(kept[key].dtype == theirs[key].dtype for key in theirs.keys(True, True))
    # Episodes go on from batch to batch and from call to call.
    going_on = ~kept["next", "done"][:-1, :, 0]
    assert torch.equal(kept["next", "observation"][:-1][going_on], kept["observation"][1:][going_on])
    assert torch.equal(kept["is_init"][1:, :, 0], ~going_on)
    assert not torch.equal(kept["action"][:, 0], kept["action"][:, 1])
    assert not torch.equal(kept["observation"][0, 0], kept["observation"][0, 1])
    assert replay.sample().batch_size == torch.Size([4, 8])
