"""Sequences of vectors and boards."""

import torch
from tensordict import TensorDict

B, T = 3, 6


def batch(seed=0, rows=B, time=T):
    generator = torch.Generator().manual_seed(seed)

    def flags(p):
        return torch.rand(rows, time, 1, generator=generator) < p

    done = flags(0.2)
    is_init = torch.cat([flags(0.5)[:, :1], done[:, :-1]], 1)

    def observed():
        return {
            "observation": torch.randn(rows, time, 4, generator=generator),
            "board": torch.randint(2, (rows, time, 4, 4, 2), generator=generator, dtype=torch.uint8),
        }

    terminated = done & flags(0.5)
    following = {"reward": torch.randn(rows, time, 1, generator=generator), "terminated": terminated, "done": done}
    action = torch.eye(2, dtype=torch.int64)[torch.randint(2, (rows, time), generator=generator)]
    now = {**observed(), "action": action, "is_init": is_init, "next": {**observed(), **following}}
    return TensorDict(now, [rows, time])
