"""Imagining 15 steps with a policy: our ``imagine`` beside a rollout of TorchRL's ``DreamerEnv``."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.modules import DreamerV3MLP

from benchmarks.measuring import Setup, flops, gemm, interleaved, profile, row
from benchmarks.torchrl_peer import ACTION, OBSERVATION, SIZES, Size, make_dreamer_env
from wmcomponents.dream.imagine import compiled_rollout, imagine
from wmcomponents.models import DreamerV3

HORIZON = 15
GOAL, GOAL_BATCH = 1.0, 1024


class Actor(nn.Module):
    """Three hidden layers and a squashed normal, without a distribution's class: TorchRL's would cost 0.2 ms a step."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.net = DreamerV3MLP(size.deter + size.stoch, 2 * ACTION, depth=3, num_cells=size.hidden)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The two parts of the state, in any order, to an action."""
        loc, scale = self.net(first, second).chunk(2, -1)
        return torch.tanh(loc + (torch.sigmoid(scale) + 0.1) * torch.randn_like(loc))


def variants(size: Size, setup: Setup, batch: int) -> dict[str, Callable[[], Any]]:
    """One rollout of each."""
    torch.manual_seed(0)
    device = setup.device
    actor = Actor(size).to(device)

    env = make_dreamer_env(size, device)
    policy = TensorDictModule(actor, in_keys=["belief", "state"], out_keys=["action"])
    start = TensorDict(
        {
            "state": torch.zeros(batch, size.stoch, device=device),
            "belief": torch.randn(batch, size.deter, device=device),
        },
        batch_size=[batch],
        device=device,
    )

    def theirs() -> Any:
        first = env.reset(start)
        return env.rollout(
            HORIZON, policy, auto_reset=False, tensordict=first, auto_cast_to_device=False, break_when_any_done=False
        )

    spec = Composite(observation=Unbounded(OBSERVATION))
    model = DreamerV3(size.config(decoder=False), spec, Bounded(-1, 1, torch.Size([ACTION]))).to(device).eval()
    model.continue_head = None  # as in TorchRL's environment: policy, prior and reward
    state = {
        "deter": start["belief"],
        "stoch": torch.zeros(batch, size.groups, size.classes, device=device),
    }
    generator = torch.Generator(device).manual_seed(0)

    def act(state: dict[str, Tensor]) -> Tensor:
        return actor(state["deter"], state["stoch"].flatten(-2))

    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: imagine(model, act, state, HORIZON, generator=generator),
        "TorchRL": theirs,
    }
    if setup.compiled:
        scan = compiled_rollout(**({"mode": "reduce-overhead"} if device == "cuda" else {}))
        runs["ours, compiled"] = lambda: imagine(model, act, state, HORIZON, generator=generator, scan=scan)
    return runs


def measure(
    setup: Setup, sizes: tuple[str, ...] = ("small", "12M"), batches: tuple[int, ...] = (1, 16, 64, 1024)
) -> list[dict[str, Any]]:
    """One row for each size, batch and variant, without gradients."""
    rows = []
    with setup.threaded(), torch.no_grad():
        for name in sizes:
            for batch in batches:
                torch.compiler.reset()  # each shape is compiled for itself
                runs = variants(SIZES[name], setup, batch)
                counted, found, timed = {"ours": 0, "TorchRL": 0}, None, dict(runs)
                if setup.floor:
                    timed["gemm"] = gemm(setup)
                    counted = {key: flops(runs[key]) for key in counted}
                    found = profile(runs["ours"])
                times = interleaved(timed, setup)
                for key in runs:
                    is_ours = key.startswith("ours")
                    rows.append(
                        row(
                            times,
                            key,
                            work=f"imagine {HORIZON} steps, B={batch}",
                            config=name,
                            flop=counted["ours" if is_ours else "TorchRL"],
                            rivals=("TorchRL",) if is_ours else (),
                            goal=GOAL if key == "ours" and batch == GOAL_BATCH else None,
                            steps=HORIZON * batch,
                            profiled=found if key == "ours" else None,
                        )
                    )
    return rows
