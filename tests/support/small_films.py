"""Sequences of small random frames."""

import torch
from tensordict import TensorDict
from torch.nn import functional as F


def film(rows=2, steps=7, seed=0, **entries):
    """Sequences ``[rows, steps]`` of random frames with three actions; the second row's episode ends at step 4."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (rows, steps + 1, 16, 16, 3), generator=generator, dtype=torch.uint8)
    action = F.one_hot(torch.randint(3, (rows, steps), generator=generator), 3).bool()
    flag = torch.zeros(rows, steps, 1, dtype=torch.bool)
    first, done = flag.clone(), flag.clone()
    first[:, 0] = True
    if rows > 1 and steps > 5:
        first[1, 5] = done[1, 4] = True
    following = {"pixels": pixels[:, 1:], "reward": flag.float(), "done": done, "terminated": done.clone()}
    return TensorDict(
        {"pixels": pixels[:, :-1], "action": action, "is_init": first, "next": following, **entries}, [rows, steps]
    )
