"""One update of DreamerV3's world model on vectors: loss, backward pass and optimiser step, ours beside TorchRL's."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.trainers.algorithms.dreamer_v3 import DreamerV3Optimizer

from benchmarks.measuring import Setup
from benchmarks.rssm_observe import compare
from benchmarks.torchrl_peer import ACTION, OBSERVATION, SIZES, Size, make_batch, make_loss
from wmcomponents.models import DreamerV3
from wmcomponents.optim import LaProp

ARRIVING = ("reward", "terminated", "done")


def theirs(size: Size, setup: Setup, batch: int, time: int, scan: bool) -> Callable[[], None]:
    """TorchRL's loss and its optimiser of the same kind."""
    loss = make_loss(size, scan).to(setup.device)
    optimizer = DreamerV3Optimizer(loss.parameters(), lr=4e-5)
    data = make_batch(size, batch, time, setup.device)

    def call() -> None:
        losses, _ = loss(data)
        optimizer.zero_grad(set_to_none=True)
        terms = [value.sum() for key, value in losses.items() if key.startswith("loss_")]
        torch.stack(terms).sum().backward()
        optimizer.step()

    return call


def sequences(size: Size, batch: int, time: int, device: str) -> TensorDict:
    """TorchRL's batch as our losses read it."""
    theirs_too = make_batch(size, batch, time, device)
    seen = theirs_too["next", "pixels"]
    return TensorDict(
        {
            "observation": seen,
            "action": theirs_too["action"],
            "is_init": theirs_too["is_init"],
            "next": {"observation": seen.clone(), **{key: theirs_too["next", key] for key in ARRIVING}},
        },
        batch_size=[batch, time],
    )


def ours(size: Size, setup: Setup, batch: int, time: int) -> Callable[[], None]:
    """Our loss and LaProp, as ``training.Trainer`` calls them."""
    spec = Composite(observation=Unbounded(OBSERVATION))
    model = DreamerV3(size.config(), spec, Bounded(-1, 1, torch.Size([ACTION]))).to(setup.device)
    objective = model.objective()
    optimizer = LaProp([p for p in objective.parameters() if p.requires_grad], 4e-5)
    data = sequences(size, batch, time, setup.device)

    def call() -> None:
        out = objective(data)
        optimizer.zero_grad(set_to_none=True)
        losses = [value for key, value in out.items() if key.startswith("loss_")]
        torch.stack(losses).sum().backward()
        optimizer.step()

    return call


def measure(
    setup: Setup, sizes: tuple[str, ...] = ("small", "12M"), batch: int = 16, time: int = 64
) -> list[dict[str, Any]]:
    """One row for each size and variant."""
    rows = []
    with setup.threaded():
        for name in sizes:
            torch.manual_seed(0)
            size = SIZES[name]
            runs = {"ours": ours(size, setup, batch, time), "TorchRL": theirs(size, setup, batch, time, False)}
            if setup.compiled:
                runs["TorchRL, compiled scan"] = theirs(size, setup, batch, time, True)
            rows += compare(runs, setup, f"world-model update {batch}x{time}", name, batch * time)
    return rows
