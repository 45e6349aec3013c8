"""DreamerV3's whole update, world model and behaviour, ours beside TorchRL's: losses, backward passes, optimiser steps.

Sequences of vectors 16 x 64, dreams of 15 steps from each of their 1,024 states. TorchRL's imagines in its
``DreamerEnv``, as its losses ask. ``python -m benchmarks.dreamer_update`` writes ``docs/benchmarks/dreamer_update``.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictSequential,
)
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.modules import DreamerV3MLP, IndependentNormal, SymExpTwoHot
from torchrl.objectives import DreamerV3ActorLoss, DreamerV3ValueLoss
from torchrl.trainers.algorithms.dreamer_v3 import DreamerV3Optimizer

from benchmarks import update
from benchmarks.measuring import Setup
from benchmarks.rssm_observe import compare
from benchmarks.torchrl_peer import ACTION, BINS, OBSERVATION, SIZES, Size, make_batch, make_dreamer_env, make_loss
from wmcomponents.agents.actor_critic import ImaginationAgent, dreamer_v3_loss
from wmcomponents.dream.experience import Experience
from wmcomponents.models import DreamerV3
from wmcomponents.optim import LaProp

OUT = Path("docs/benchmarks")


class _MeanAndStd(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.net = DreamerV3MLP(size.stoch + size.deter, 2 * ACTION, depth=3, num_cells=size.hidden, outscale=0.01)

    def forward(self, state: Tensor, belief: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.net(state, belief).chunk(2, -1)
        return mean.tanh(), 0.9 * torch.sigmoid(std + 2.0) + 0.1


def theirs(size: Size, setup: Setup, batch: int, time: int, scan: bool) -> Callable[[], None]:
    """TorchRL's three losses and their optimisers."""
    device = setup.device
    model = make_loss(size, scan).to(device)
    actor: Any = ProbabilisticTensorDictSequential(
        TensorDictModule(_MeanAndStd(size), in_keys=["state", "belief"], out_keys=["loc", "scale"]),
        ProbabilisticTensorDictModule(
            in_keys=["loc", "scale"], out_keys=["action"], distribution_class=IndependentNormal,
            distribution_kwargs={"tanh_loc": False}, default_interaction_type="random",
        ),
    ).to(device)  # fmt: skip
    feat = size.stoch + size.deter
    logits = TensorDictModule(
        DreamerV3MLP(feat, BINS, 3, size.hidden, outscale=0.0), ["state", "belief"], ["state_value_logits"]
    )
    mean = TensorDictModule(SymExpTwoHot(BINS), ["state_value_logits"], ["state_value"])
    critic: Any = TensorDictSequential(logits, mean).to(device)
    env = make_dreamer_env(size, device).to(device)
    acting = DreamerV3ActorLoss(actor, critic, env, use_reinforce=True, imagination_horizon=15).to(device)
    acting.make_value_estimator(gamma=1 - 1 / 333, lmbda=0.95)
    valuing = DreamerV3ValueLoss(critic, "two_hot", actor_loss=acting, slow_critic_regularization=1.0).to(device)
    parts = [model, actor, critic]
    optimizers = [DreamerV3Optimizer(part.parameters(), lr=4e-5) for part in parts]
    data = make_batch(size, batch, time, device)

    def call() -> None:
        losses, seen = model(data)
        _step(losses, optimizers[0])
        losses, dreamt = acting(seen["next"].reshape(-1).detach())
        _step(losses, optimizers[1])
        losses, _ = valuing(dreamt)
        _step(losses, optimizers[2])

    return call


def _step(losses: TensorDict, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    terms = [value.sum() for key, value in losses.items() if str(key).startswith("loss_")]
    torch.stack(terms).sum().backward()
    optimizer.step()


def ours(size: Size, setup: Setup, batch: int, time: int) -> Callable[[], None]:
    """Our objective and our imagined actor-critic with the replay value loss, as ``OnlineTrainer`` calls them."""
    spec = Composite(observation=Unbounded(OBSERVATION))
    model = DreamerV3(size.config(), spec, Bounded(-1, 1, torch.Size([ACTION]))).to(setup.device)
    objective = model.objective()
    optimizer = LaProp([p for p in objective.parameters() if p.requires_grad], 4e-5)
    agent = ImaginationAgent(dreamer_v3_loss(model, units=size.hidden).to(setup.device), replay_scale=0.3)
    data = update.sequences(size, batch, time, setup.device)
    experience = Experience(model, lambda: data)

    def call() -> None:
        model.train()
        _step(objective(data), optimizer)
        model.eval()
        experience.offer(data)
        agent.learn(experience)

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
            rows += compare(runs, setup, f"full update {batch}x{time}", name, batch * time)
    return rows


def main() -> None:
    """Measure and write the numbers."""
    parser = argparse.ArgumentParser(description="DreamerV3's whole update")
    parser.add_argument("--sizes", nargs="+", default=["small", "12M"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    given = parser.parse_args()
    setup = Setup(
        repeats=given.repeats, threads=given.threads, compiled=given.compiled, cpu_time=given.cpu_time, floor=True
    )
    facts = {
        "command": "python -m benchmarks.dreamer_update --repeats 5",
        "torch": torch.__version__,
        "threads": given.threads,
    }
    facts["rows"] = measure(setup, tuple(given.sizes))
    (OUT / "dreamer_update.json").write_text(json.dumps(facts, indent=1) + "\n")
    (OUT / "dreamer_update.md").write_text(page(facts))


def page(facts: dict[str, Any]) -> str:
    """The table that the numbers give."""
    lines = [
        "# DreamerV3's whole update",
        "",
        "World model and behaviour, losses, backward passes and optimiser steps: 16 sequences of 64 vectors of 24",
        "numbers, dreams of 15 steps from each of their states. TorchRL's three losses and optimisers, with its",
        "`DreamerEnv`, stand beside in the same run; theirs have no replay value loss and no continuation in the",
        "dream. The gap is the time over that of the matrix products alone at the machine's rate.",
        "",
        "| size | whose | ms | range | ours / TorchRL | gap to the floor |",
        "|---|---|---|---|---|---|",
    ]
    for row in facts["rows"]:
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        low, high = row["range"]
        lines.append(
            f"| {row['config']} | {row['variant']} | {row['ms']:.0f} | {low:.0f} to {high:.0f} | {ratio} | "
            f"{row['gap']:.2f} |"
        )
    threads = facts["threads"]
    lines += [
        "",
        f"`{facts['command']}`, torch {facts['torch']}, {threads} thread, medians of interleaved repeats.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
