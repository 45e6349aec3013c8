"""What a policy earns, in reality and in a dream."""

import torch
from tensordict import TensorDict

from wmcomponents.data.returns import EndlessEpisodeError as EndlessEpisodeError
from wmcomponents.data.returns import Returns as Returns
from wmcomponents.data.returns import TensorDictPolicy
from wmcomponents.data.returns import evaluate_policy as evaluate_policy
from wmcomponents.dream.simulator import Simulator


def evaluate_dream(simulator: Simulator, policy: TensorDictPolicy, seed: int | None = None) -> Returns:
    """Returns of a policy inside a dream: one episode a row.

    Args:
        simulator: its rows are the episodes; it needs a horizon, since a dream may never end by itself.
        policy: reads the simulator's view and ``is_init`` from a TensorDict ``[N]`` and writes ``action``. For one that
            carries something from step to step use :func:`evaluate_policy` on the dream as a TorchRL environment.
        seed: of the dream; left as it is if not given.

    Raises:
        ValueError: if the simulator has no horizon.
    """
    if simulator.horizon is None:
        raise ValueError("a dream may never end by itself: build the simulator with horizon=.")
    if seed is not None:
        simulator.seed(seed)
    rows, device = simulator.batch_size, simulator.device
    total = torch.zeros(rows, 1, dtype=torch.float64, device=device)
    length = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    running = torch.ones(rows, 1, dtype=torch.bool, device=device)
    is_init = running.clone()
    observation = simulator.reset()
    with torch.no_grad():
        for _ in range(simulator.horizon):
            tensordict = TensorDict({**observation, "is_init": is_init}, batch_size=[rows], device=device)
            observation, reward, terminated, truncated = simulator.step(policy(tensordict)["action"])
            total += torch.where(running, reward.double(), 0.0)
            length += running
            running = running & ~(terminated | truncated)
            is_init = torch.zeros_like(is_init)
            if not bool(running.any()):
                break
    return Returns(total[:, 0].tolist(), length[:, 0].tolist())
