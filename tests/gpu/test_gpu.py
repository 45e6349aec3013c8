"""What only a GPU can show, for every model under contract: no step waits for it, the same dreams, steady memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Composite, OneHot, Unbounded

from benchmarks.families import build
from tests.support.drive import actions, sequences, some_states, view_of
from tests.support.models import MODELS
from wmcomponents.component import Component
from wmcomponents.dream.imagine import compiled_rollout, imagine
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.models import MODELS as FAMILIES
from wmcomponents.models import make_model
from wmcomponents.world_model import WorldModel

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
ROWS = 8


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=[factory for _, factory in MODELS], ids=[name for name, _ in MODELS])
def model(request) -> WorldModel:
    """Each model under contract, on the CPU."""
    return request.param().eval()


@pytest.fixture(params=list(FAMILIES))
def family(request) -> str:
    """Each family's name."""
    return request.param


def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to(DEVICE) for key, value in tensors.items()}


def dreaming(model: WorldModel, horizon: int = 3) -> dict[str, Any]:
    """What drivers of this model are given; the model is on the device afterwards."""
    pool = moved(some_states(model, 4 * ROWS))
    model.to(DEVICE)
    termination = "sample" if "continue" in model.capabilities else "off"
    return {"starts": PoolStarts(pool), "view": view_of(model), "termination": termination, "horizon": horizon}


class Constant(Component):
    """The same action whatever is seen."""

    def __init__(self, action: Tensor, seen: str) -> None:
        super().__init__([seen], ["action"])
        self.action = action

    def compute(self, observation: Tensor) -> Tensor:
        return self.action


def test_a_model_in_the_simulator_never_waits(model):
    action = actions(model, ROWS).to(DEVICE)
    simulator = Simulator(model, batch_size=ROWS, **dreaming(model))
    simulator.reset()
    simulator.step(action)
    with no_waiting():
        for _ in range(7):
            simulator.step(action, restart=simulator.done)


def test_a_torchrl_dream_never_waits(model):
    from wmcomponents.integrations.torchrl import TorchRLDreamEnv

    action = actions(model, ROWS).to(DEVICE)
    env = TorchRLDreamEnv(model, [ROWS], **dreaming(model))
    policy = Constant(action, next(iter(env.observation_spec.keys())))
    env.rollout(4, policy, break_when_any_done=False)
    now = policy(env.reset())
    with no_waiting():
        for _ in range(7):
            now = env.step(now)
            now = policy(env.step_mdp(now))


def test_a_gymnasium_dream_that_keeps_tensors_never_waits(model):
    pytest.importorskip("gymnasium")
    from wmcomponents.integrations.gymnasium import DreamVectorEnv

    action = actions(model, ROWS).to(DEVICE)
    action = action.long().argmax(-1) if isinstance(model.action_spec, OneHot) else action
    env = DreamVectorEnv(model, ROWS, output="torch", **dreaming(model))
    env.reset(seed=0)
    env.step(action)
    with no_waiting():
        for _ in range(7):
            observation, reward, terminated, truncated, _ = env.step(action)
    shown = observation.values() if isinstance(observation, dict) else [observation]
    assert all(torch.as_tensor(x).device.type == DEVICE for x in (*shown, reward, terminated, truncated))


def test_a_dream_on_a_gpu_is_the_one_of_the_cpu(model, monkeypatch):
    exact(monkeypatch)
    noises, generator = model.noise_source("imagine"), torch.Generator().manual_seed(0)
    state, action, noise = some_states(model, ROWS), actions(model, ROWS), noises((ROWS,), generator)
    with torch.no_grad():
        slow = model.imagine(state, action, noise)
        model.to(DEVICE)
        fast = model.imagine(moved(state), action.to(DEVICE), moved(noise))
    agree(
        {**fast.state, "reward": fast.reward, "cont": fast.cont},
        {**slow.state, "reward": slow.reward, "cont": slow.cont},
    )


def test_a_sequence_filtered_on_a_gpu_is_the_one_of_the_cpu(model, monkeypatch):
    exact(monkeypatch)
    data = sequences(model, batch=4, time=6)
    seen = {str(key): data[key] for key in model.observation_spec.keys()}
    # Drawn on the host: both devices filter with the same noise.
    noise = model.noise_source("observe")((4, 6), torch.Generator().manual_seed(0))
    with torch.no_grad():
        slow = model.observe_sequence(model.initial_state((4,)), data["action"], seen, data["is_init"], noise)
        model.to(DEVICE)
        begun = model.initial_state((4,), DEVICE)
        fast = model.observe_sequence(
            begun, data["action"].to(DEVICE), moved(seen), data["is_init"].to(DEVICE), moved(noise)
        )
    agree(fast, slow)


@pytest.mark.compile
@pytest.mark.parametrize("options", [{}, {"mode": "reduce-overhead"}], ids=["compiled", "graphed"])
def test_an_imagined_rollout_is_the_eager_one(family: str, options: dict[str, Any], monkeypatch):
    exact(monkeypatch)
    model = build(family, "tiny").eval()
    action, start = actions(model, ROWS).to(DEVICE), moved(some_states(model, ROWS))
    model.to(DEVICE)

    def policy(state: dict[str, Tensor]) -> Tensor:
        return action

    scan = compiled_rollout(**options)
    with torch.no_grad():
        eager = imagine(model, policy, start, 5)
        for _ in range(4):  # graphs are recorded on the second call
            torch.compiler.cudagraph_mark_step_begin()
            fast = imagine(model, policy, start, 5, scan=scan).clone()
    keys = [*map(str, model.state_spec.keys()), "action", ("next", "reward")]
    agree({str(key): fast[key] for key in keys}, {str(key): eager[key].cpu() for key in keys})


def test_memory_does_not_grow_with_the_steps_of_a_dream(model):
    action = actions(model, ROWS).to(DEVICE)
    simulator = Simulator(model, batch_size=ROWS, **dreaming(model, horizon=5))
    simulator.reset()
    used = []
    for step in range(120):
        simulator.step(action, restart=simulator.done)
        if step in (19, 119):
            torch.cuda.synchronize()
            used.append(torch.cuda.memory_allocated())
    assert used[0] == used[1]


def test_memory_does_not_grow_with_updates(family: str):
    model = build(family, "tiny")
    data = transitions(model).to(DEVICE)
    objective: Any = model.to(DEVICE).train().objective()
    optimizer = objective.make_optimizer(lr=1e-4)
    used = []
    for update in range(30):
        objective.before_update(update)
        out = objective(data)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([value for key, value in out.items() if key.startswith("loss_")]).sum().backward()
        optimizer.step()
        objective.after_update(update)
        assert all(value.device.type == DEVICE for value in out.values())
        del out
        if update in (9, 29):
            torch.cuda.synchronize()
            used.append(torch.cuda.memory_allocated())
    assert used[0] == used[1]


def test_an_update_on_a_gpu_is_the_one_of_the_cpu_where_nothing_is_drawn(monkeypatch):
    exact(monkeypatch)
    model = make_model("MuZero", "tiny", Composite(observation=Unbounded(4)), OneHot(2))
    data = transitions(model)
    slow = model.objective()(data)
    fast = model.to(DEVICE).objective()(data.to(DEVICE))
    agree(dict(fast.items()), dict(slow.items()))


def test_sequences_are_sampled_on_the_device_they_are_stored_on():
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    from wmcomponents.data import SequenceSampler

    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100, device=DEVICE), sampler=SequenceSampler(8), batch_size=4
    )
    replay.extend(TensorDict({"step": torch.arange(100.0), "is_init": torch.zeros(100, 1, dtype=torch.bool)}, [100]))
    sampled = replay.sample()
    assert sampled["step"].device.type == DEVICE and sampled.shape == (4, 8)
    assert (sampled["step"].diff(dim=1) == 1).all()


def transitions(model: WorldModel, batch: int = 4, time: int = 16) -> TensorDict:
    """Made-up transitions without an end."""
    data = sequences(model, batch, time)
    following = {str(key): data[key].roll(-1, 1) for key in model.observation_spec.keys()}
    ended = torch.zeros(batch, time, 1, dtype=torch.bool)
    data["is_init"] = ended.clone()
    data["next"] = {**following, "reward": torch.randn(batch, time, 1), "terminated": ended, "done": ended.clone()}
    return data


def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shortened mantissas on the device."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # of matrix products it is off by default


def agree(fast: dict[str, Tensor | None], slow: dict[str, Tensor | None]) -> None:
    assert fast.keys() == slow.keys()
    for key, value in slow.items():
        got = fast[key]
        assert (got is None) == (value is None), key
        if got is not None:
            torch.testing.assert_close(got.cpu(), value, rtol=1e-3, atol=1e-3, msg=lambda m, key=key: f"{key}: {m}")
