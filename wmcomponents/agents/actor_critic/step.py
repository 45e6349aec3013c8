"""One step of an optimiser on an actor-critic's losses, taken only where all numbers are finite."""

import torch
from tensordict import TensorDictBase
from torch.optim import Optimizer

from wmcomponents._global_batch import average_gradients, global_mean
from wmcomponents.training import DivergedError


def take_step(out: TensorDictBase, optimizer: Optimizer, number: int) -> dict[str, float]:
    """Step on the sum of all ``loss_*``; returns the losses and diagnostics.

    Of a batch that is spread over processes, gradients and numbers are the means over them.

    Args:
        out: what the objective wrote: scalars, and what is read no further.
        optimizer: over actor and critic.
        number: of the update, for the error.

    Raises:
        DivergedError: if a number is not finite; no step was taken.
    """
    names = [str(name) for name, value in out.items() if value.ndim == 0]
    numbers = global_mean(torch.stack([out[name].detach().float() for name in names])).cpu().tolist()
    found = dict(zip(names, numbers, strict=True))
    odd = [name for name, value in found.items() if not abs(value) < float("inf")]
    if odd:
        raise DivergedError(
            f"{', '.join(odd)} of the behaviour's update {number} is not finite. The weights are those of the update "
            f"before: save them, lower the learning rate, or look at the world model's rewards."
        )
    optimizer.zero_grad()
    torch.stack([out[name] for name in names if name.startswith("loss_")]).sum().backward()
    average_gradients(p for group in optimizer.param_groups for p in group["params"])
    optimizer.step()
    return found
