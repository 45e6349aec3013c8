"""An objective of this library in a plain TorchRL loop: environment, collector, buffer and optimiser are TorchRL's."""

import torch
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import GymEnv, InitTracker, TransformedEnv
from torchrl.envs.utils import RandomPolicy

from wmcomponents.data import SequenceSampler, action_spec, observation_spec
from wmcomponents.models import DreamerV3, DreamerV3Config

torch.manual_seed(0)
env = TransformedEnv(GymEnv("Pendulum-v1"), InitTracker())  # the filter asks where episodes begin
model = DreamerV3(DreamerV3Config.tiny(), observation_spec(env), action_spec(env))
loss = model.objective()
optimizer = torch.optim.Adam(loss.parameters(), 1e-3)
buffer = TensorDictReplayBuffer(
    storage=LazyTensorStorage(10_000),
    sampler=SequenceSampler(32),  # TorchRL's SliceSampler marks the ends of its slices as ends of episodes
    batch_size=16,
)
collector = Collector(env, RandomPolicy(env.action_spec), frames_per_batch=200, total_frames=1_000)

for batch in collector:
    buffer.extend(batch)
    model.prepare(batch)  # the scale of observations: the first batch decides
    for _ in range(8):
        losses = loss(buffer.sample())
        optimizer.zero_grad()
        sum(term for key, term in losses.items() if key.startswith("loss_")).backward()
        torch.nn.utils.clip_grad_norm_(loss.parameters(), 100.0)
        optimizer.step()
    print(len(buffer), {key: round(term.item(), 3) for key, term in losses.items()})
collector.shutdown()
