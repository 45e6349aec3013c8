"""A simulator that owns a cache writes into it: no step, no token copies it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchrl.data import Bounded, Composite, OneHot

from wmcomponents.dream import Simulator
from wmcomponents.models import make_model

IMAGE = Composite(pixels=Bounded(0, 255, torch.Size([16, 16, 3]), dtype=torch.uint8))
ROWS = 3


class Largest(TorchDispatchMode):
    """The largest tensor that an operation has made, in numbers; views of others are not made."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in given:
                self.numbers = max(self.numbers, made.numel())
        return out


def dream(family):
    torch.manual_seed(0)
    model = make_model(family, "tiny", IMAGE, OneHot(3)).eval()
    simulator = Simulator(model, batch_size=ROWS, termination="off", view="latent")
    simulator.reset()
    return model, simulator, model.null_action((ROWS,), "cpu")


@pytest.mark.parametrize("family", ["IRIS", "DeltaIRIS"])
def test_one_cache_serves_a_whole_dream_and_its_address_stays(family):
    model, simulator, action = dream(family)
    address, seen = simulator.state["kv_cache"].data_ptr(), set()
    for _ in range(20):  # the context is rebuilt on the way
        before = simulator.state["length"]
        simulator.step(action)
        seen.add(bool((simulator.state["length"] > before).all()))
        assert simulator.state["kv_cache"].data_ptr() == address
    assert seen == {True, False}


@pytest.mark.parametrize("family", ["IRIS", "DeltaIRIS"])
def test_no_operation_of_a_step_makes_anything_as_large_as_the_cache(family):
    model, simulator, action = dream(family)
    simulator.step(action)
    cache = simulator.state["kv_cache"].numel()
    with Largest() as inplace:
        simulator.step(action)
    with torch.no_grad(), Largest() as pure:
        model.imagine(simulator.state, action, None)
    assert inplace.numbers < cache <= pure.numbers


@pytest.mark.parametrize("family", ["IRIS", "DeltaIRIS"])
def test_a_twin_has_a_cache_of_its_own(family):
    _, simulator, action = dream(family)
    twin = simulator.fork()
    kept = simulator.state["kv_cache"].clone()
    twin.step(action)
    assert torch.equal(simulator.state["kv_cache"], kept)
