"""What only a GPU can show: no step waits for it, compiled and graphed dreams, steady memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.component import Component
from wmcomponents.dream.imagine import compiled_rollout, imagine, latent_policy
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.models import DreamerV3, DreamerV3Config

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
VECTOR = Composite(observation=Unbounded(4))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def dreamer(**changes: Any) -> DreamerV3:
    return DreamerV3(DreamerV3Config.tiny(**changes), VECTOR, OneHot(2)).to(DEVICE).eval()


def pool(model: DreamerV3, rows: int = 32) -> dict[str, torch.Tensor]:
    return {key: torch.randn_like(value) for key, value in model.initial_state((rows,), DEVICE).items()}


class Constant(Component):
    """The same action whatever is seen."""

    def __init__(self, action: torch.Tensor) -> None:
        super().__init__(["observation"], ["action"])
        self.action = action

    def compute(self, observation: torch.Tensor) -> torch.Tensor:
        return self.action


def one_hot(rows: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.arange(rows, device=DEVICE) % 2, 2)


def test_a_dreamer_in_the_simulator_never_waits():
    model = dreamer()
    simulator = Simulator(model, PoolStarts(pool(model)), batch_size=8, horizon=3)
    simulator.reset()
    action = one_hot(8)
    simulator.step(action)
    with no_waiting():
        for _ in range(7):
            simulator.step(action, restart=simulator.done)


def test_a_torchrl_dream_never_waits():
    from wmcomponents.integrations.torchrl import TorchRLDreamEnv

    model = dreamer()
    env = TorchRLDreamEnv(model, [8], starts=PoolStarts(pool(model)), horizon=3)
    policy = Constant(one_hot(8))
    env.rollout(4, policy, break_when_any_done=False)
    now = policy(env.reset())
    with no_waiting():
        for _ in range(7):
            now = env.step(now)
            now = policy(env.step_mdp(now))


def test_a_gymnasium_dream_that_keeps_tensors_never_waits():
    pytest.importorskip("gymnasium")
    from wmcomponents.integrations.gymnasium import DreamVectorEnv

    model = dreamer()
    env = DreamVectorEnv(model, 8, starts=PoolStarts(pool(model)), horizon=3, output="torch")
    env.reset(seed=0)
    action = torch.arange(8, device=DEVICE) % 2
    env.step(action)
    with no_waiting():
        for _ in range(7):
            observation, reward, terminated, truncated, _ = env.step(action)
    assert all(torch.as_tensor(x).device.type == DEVICE for x in (observation, reward, terminated, truncated))


@pytest.mark.compile
@pytest.mark.parametrize("options", [{}, {"mode": "reduce-overhead"}], ids=["compiled", "graphed"])
def test_an_imagined_rollout_is_the_eager_one(options: dict[str, Any]):
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, Bounded(-1, 1, torch.Size([2]))).to(DEVICE).eval()
    start = pool(model, 8)
    features = model.features(start).shape[-1]
    policy = latent_policy(model, torch.nn.Sequential(torch.nn.Linear(features, 2), torch.nn.Tanh()).to(DEVICE))
    scan = compiled_rollout(**options)
    with torch.no_grad():
        eager = imagine(model, policy, start, 5)
        for _ in range(4):  # graphs are recorded on the second call
            torch.compiler.cudagraph_mark_step_begin()
            fast = imagine(model, policy, start, 5, scan=scan).clone()
    for key in ("deter", "action", ("next", "reward"), ("next", "continue")):
        torch.testing.assert_close(fast[key], eager[key], rtol=1e-3, atol=1e-3)


def test_memory_does_not_grow_with_the_steps_of_a_dream():
    model = dreamer()
    simulator = Simulator(model, PoolStarts(pool(model)), batch_size=64, horizon=5)
    simulator.reset()
    action = one_hot(64)
    used = []
    for step in range(220):
        simulator.step(action, restart=simulator.done)
        if step in (19, 219):
            torch.cuda.synchronize()
            used.append(torch.cuda.memory_allocated())
    assert used[0] == used[1]


def test_memory_does_not_grow_with_updates():
    model = dreamer().train()
    objective = model.objective()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    data = sequences().to(DEVICE)
    used = []
    for update in range(30):
        out = objective(data)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([value for key, value in out.items() if key.startswith("loss_")]).sum().backward()
        optimizer.step()
        del out
        if update in (9, 29):
            torch.cuda.synchronize()
            used.append(torch.cuda.memory_allocated())
    assert used[0] == used[1]


def test_a_sequence_filtered_on_a_gpu_is_the_one_of_the_cpu():
    torch.backends.cuda.matmul.allow_tf32 = False
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2)).eval()
    data = sequences()
    seen, actions, is_init = {"observation": data["observation"]}, data["action"], data["is_init"]
    # Drawn on the host: both devices filter with the same noise.
    noise = {"stoch": torch.rand(*is_init.shape[:2], *model.dynamics.latent.noise_shape)}
    slow = model.observe_sequence(model.initial_state((4,)), actions, seen, is_init, noise)
    moved = [{key: value.to(DEVICE) for key, value in part.items()} for part in (seen, noise)]
    model.to(DEVICE)
    fast = model.observe_sequence(
        model.initial_state((4,), DEVICE), actions.to(DEVICE), moved[0], is_init.to(DEVICE), moved[1]
    )
    for key, value in slow.items():
        torch.testing.assert_close(fast[key].cpu(), value, rtol=1e-3, atol=1e-3)


def test_sequences_are_sampled_on_the_device_they_are_stored_on():
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    from wmcomponents.data import SequenceSampler

    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100, device=DEVICE), sampler=SequenceSampler(8), batch_size=4
    )
    replay.extend(TensorDict({"step": torch.arange(100.0), "is_init": torch.zeros(100, 1, dtype=torch.bool)}, [100]))
    sampled = replay.sample()
    assert sampled["step"].device.type == DEVICE and sampled.shape == (4, 8)
    assert (sampled["step"].diff(dim=1) == 1).all()


def sequences() -> Any:
    """Four sequences of twelve transitions."""
    from tensordict import TensorDict

    lead = (4, 12)
    seen = torch.randn(4, 13, 4)
    following = {
        "observation": seen[:, 1:],
        "reward": torch.randn(*lead, 1),
        "terminated": torch.zeros(*lead, 1, dtype=torch.bool),
        "done": torch.zeros(*lead, 1, dtype=torch.bool),
    }
    data = {
        "observation": seen[:, :-1],
        "action": torch.nn.functional.one_hot(torch.randint(2, lead), 2),
        "is_init": torch.zeros(*lead, 1, dtype=torch.bool),
        "next": following,
    }
    return TensorDict(data, batch_size=lead)
