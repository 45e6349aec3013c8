"""Losses in stages, and sequences of images for them."""

import torch
from tensordict import TensorDict
from torch import nn


def data(rows=2, steps=3, seed=0):
    """Sequences in TorchRL's layout, one episode without an end."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (rows, steps + 1, 16, 16, 3), generator=generator, dtype=torch.uint8)
    number = torch.randint(3, (rows, steps), generator=generator)
    no = torch.zeros(rows, steps, 1, dtype=torch.bool)
    follow = {"pixels": pixels[:, 1:].clone(), "reward": torch.randn(rows, steps, 1, generator=generator)}
    content = {"pixels": pixels[:, :-1].clone(), "action": nn.functional.one_hot(number, 3), "is_init": no.clone()}
    content["is_init"][:, 0] = True
    return TensorDict({**content, "next": {**follow, "terminated": no.clone(), "done": no.clone()}}, [rows, steps])


def at(objective, stage):
    objective.stage = stage
    return objective


def parts_reached(objective, batch):
    objective.zero_grad()
    out = objective(batch)
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    named = objective.world_model_params.flatten_keys(".").items()
    return {name.split(".")[0] for name, p in named if p.grad is not None and p.grad.abs().sum() > 0}
