"""Filtering 16 sequences of 64 steps: our RSSM beside TorchRL's ``RSSMRolloutV3``, forward and with backward."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from benchmarks.measuring import Setup, flops, gemm, interleaved, profile, row
from benchmarks.torchrl_peer import ACTION, SIZES, Size, make_rollout
from wmcomponents.dynamics import RSSM

GOAL = 1.0
OURS, OURS_COMPILED, EAGER, SCAN = "ours", "ours, compiled", "TorchRL", "TorchRL, compiled scan"


def forwards(
    size: Size, setup: Setup, batch: int, time: int, unrolled: bool
) -> dict[str, tuple[nn.Module, Callable[[], list[Tensor]]]]:
    """A forward pass of each variant: belief, sample, and raw posterior and prior of all steps."""
    torch.manual_seed(0)
    device, embed = setup.device, size.hidden
    actions = torch.rand(batch, time, ACTION, device=device) * 2 - 1
    embeds = torch.randn(batch, time, embed, device=device)
    is_init = torch.rand(batch, time, 1, device=device) < 0.02
    data = {
        "state": torch.zeros(batch, time, size.stoch, device=device),
        "belief": torch.zeros(batch, time, size.deter, device=device),
        "action": actions,
        "is_init": is_init,
        "next": {"encoded_latents": embeds},
    }
    sequences = TensorDict(data, batch_size=[batch, time])

    def theirs(scan: bool) -> tuple[nn.Module, Callable[[], list[Tensor]]]:
        rollout = make_rollout(size, embed).to(device)
        if scan:
            rollout.compile_rollout("scan")

        def run() -> list[Tensor]:
            out = rollout(sequences)["next"]
            keys = ("belief", "state", "posterior_logits", "prior_logits")
            return [out[key].reshape(batch, time, -1) for key in keys]

        return rollout, run

    rssm = RSSM.block_gru(embed, ACTION, size.deter, size.hidden, size.groups, size.classes, 8).to(device)
    before = rssm.initial_state((batch,), device)

    def ours(observe: Callable[..., tuple[Tensor, ...]]) -> tuple[nn.Module, Callable[[], list[Tensor]]]:
        def run() -> list[Tensor]:
            noise = torch.rand(batch, time, size.groups, device=device)
            deter, stoch, posterior = observe(*before, actions, embeds, is_init, noise)
            return [deter, stoch.flatten(-2), posterior, rssm.prior(deter)]

        return rssm, run

    variants = {OURS: ours(rssm.observe_sequence), EAGER: theirs(False)}
    if setup.compiled:
        variants[SCAN] = theirs(True)
        if unrolled:
            variants[OURS_COMPILED] = ours(torch.compile(rssm.observe_sequence, fullgraph=True, dynamic=False))
    return variants


def measure(
    setup: Setup,
    sizes: tuple[str, ...] = ("small", "12M"),
    batch: int = 16,
    time: int = 64,
) -> list[dict[str, Any]]:
    """One row for each size, pass and variant.

    Args:
        setup: how to measure.
        sizes: names in ``SIZES``.
        batch: sequences.
        time: steps of each.
    """
    rows = []
    with setup.threaded():
        for name in sizes:
            variants = forwards(SIZES[name], setup, batch, time, name in setup.unrolled)
            weights = [torch.randn_like(x) for x in variants[OURS][1]()]

            def forward(run: Callable[[], list[Tensor]]) -> Callable[[], Any]:
                return torch.no_grad()(run)

            def both(
                module: nn.Module, run: Callable[[], list[Tensor]], weights: list[Tensor] = weights
            ) -> Callable[[], None]:
                def call() -> None:
                    module.zero_grad(set_to_none=True)
                    torch.autograd.backward(run(), weights)

                return call

            passes = {
                "forward": {key: forward(run) for key, (_, run) in variants.items()},
                "forward+backward": {key: both(module, run) for key, (module, run) in variants.items()},
            }
            for work, runs in passes.items():
                rows += compare(runs, setup, f"observe {batch}x{time}, {work}", name, batch * time)
    return rows


def compare(runs: dict[str, Callable[[], Any]], setup: Setup, work: str, config: str, steps: int) -> list[dict]:
    """Rows of one work, every variant of ours against the better of TorchRL's."""
    rivals = tuple(key for key in runs if key.startswith("TorchRL"))
    timed = dict(runs)
    counted = {"ours": 0, "TorchRL": 0}
    found = None
    if setup.floor:
        timed["gemm"] = gemm(setup)
        counted = {key: flops(runs[key]) for key in counted}
        found = profile(runs["ours"])
    times = interleaved(timed, setup)
    rows = []
    for key in runs:
        is_ours = key.startswith("ours")
        options: dict[str, Any] = {"goal": GOAL if key == "ours" else None} if is_ours else {}
        rows.append(
            row(
                times,
                key,
                work=work,
                config=config,
                flop=counted["ours" if is_ours else "TorchRL"],
                rivals=rivals if is_ours else (),
                steps=steps,
                profiled=found if key == "ours" else None,
                **options,
            )
        )
    return rows
