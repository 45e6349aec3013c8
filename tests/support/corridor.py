"""A known MDP in a replay buffer, and a model small enough to be trained in a test.

A corridor of five cells. The first action steps left (against the wall), the second right. Arriving at the last cell
pays 1 and terminates; after 12 steps the episode is truncated. Observed is the cell as a one-hot vector.
"""

import torch
from tensordict import TensorDict
from torchrl.data import Composite, OneHot, TensorDictReplayBuffer, Unbounded

from wmcomponents.data import make_replay
from wmcomponents.models import DreamerV3, DreamerV3Config

CELLS, LIMIT = 5, 12
SIZES = {"deter": 32, "hidden": 16, "groups": 4, "classes": 4, "units": 16, "blocks": 4, "layers": 1, "bins": 41}


def transitions(steps: int, seed: int = 0) -> TensorDict:
    """Steps of a policy that goes either way at random, ``[steps]`` in TorchRL's layout."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.eye(CELLS)
    rows, cell, age = [], 0, 0
    for right in torch.rand(steps, generator=generator) < 0.6:
        arrived = min(cell + 1, CELLS - 1) if right else max(cell - 1, 0)
        terminated = arrived == CELLS - 1
        truncated = age + 1 == LIMIT and not terminated
        flag = lambda value: torch.tensor([bool(value)])  # noqa: E731
        following = {
            "observation": cells[arrived],
            "reward": torch.tensor([float(terminated)]),
            "terminated": flag(terminated),
            "truncated": flag(truncated),
            "done": flag(terminated or truncated),
        }
        now = {
            "observation": cells[cell],
            "is_init": flag(age == 0),
            "action": torch.eye(2, dtype=torch.int64)[int(right)],
        }
        rows.append(TensorDict({**now, "next": TensorDict(following)}))
        cell, age = (0, 0) if terminated or truncated else (arrived, age + 1)
    return torch.stack(rows)


def replay(steps: int = 200, *, length: int = 8, batch: int = 4, seed: int = 0) -> TensorDictReplayBuffer:
    """A buffer filled with :func:`transitions`."""
    data = transitions(steps, seed)
    flags = {key: Unbounded(1, dtype=torch.bool) for key in ("terminated", "truncated", "done")}
    spec = Composite(
        observation=Unbounded(CELLS),
        is_init=Unbounded(1, dtype=torch.bool),
        action=OneHot(2),
        next=Composite(observation=Unbounded(CELLS), reward=Unbounded(1), **flags),
    )
    buffer = make_replay(steps, spec, sequence_length=length, batch_size=batch, print_fn=None)
    buffer.extend(data)
    return buffer


def model(seed: int = 0, **changes) -> DreamerV3:
    """A DreamerV3 world model with the same weights for the same seed."""
    torch.manual_seed(seed)
    config = DreamerV3Config.tiny(**{**SIZES, **changes})
    return DreamerV3(config, Composite(observation=Unbounded(CELLS)), OneHot(2))
