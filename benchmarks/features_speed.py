"""Worlds of features: vision transformers beside timm's, a plan of DINO-WM over its floor, kept features.

``python -m benchmarks.features_speed`` writes ``docs/benchmarks/features_speed``. timm is compared with where it is
installed (``pip install timm torchvision``); the same weights are in both.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, ReplayBuffer

from benchmarks.measuring import Setup, clock_told, flops, gemm, interleaved, row, setup_of, timing_parser, typed
from wmcomponents.agents.planners import dino_wm_cem
from wmcomponents.data import CacheFeatures
from wmcomponents.models import DINOWM, JEPAWM, DINOWMConfig, FeatureWindowModel, FrozenEncoderConfig, JEPAWMConfig
from wmcomponents.models.joint_embedding.official_vit import vit_from_official
from wmcomponents.nn import ViTSize, timm_vit
from wmcomponents.training import Trainer

OUT = Path("docs/benchmarks")
PLAIN, TIMM, AGAIN = "plain loop", "timm", "encoding again"
ENCODERS = {"tiny": ("tiny", 8), "small": ("small", 8)}
"""Size of the vision transformer and images of a batch, for images of 224 and patches of 16."""

CANDIDATES, HORIZON = 300, 5
SIDE = 64
BATCH, TIME = 16, 4


def encoders(name: str, device: str) -> dict[str, nn.Module]:
    """Ours, and timm's with the same weights where it is there."""
    size, _ = ENCODERS[name]
    torch.manual_seed(0)
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError:  # not there, or without the torchvision that it wants
        return {"ours": timm_vit(ViTSize.named(size), (224, 224), 16).to(device)}
    theirs = timm.create_model(f"vit_{size}_patch16_224", num_classes=0, global_pool="")
    return {"ours": vit_from_official("timm", theirs.state_dict()).to(device), TIMM: theirs.to(device)}


def forward_of(net: nn.Module, images: Tensor) -> Callable[[], Any]:
    """Tokens of a batch, without gradient."""
    net.eval()

    @torch.no_grad()
    def call() -> None:
        net(images)

    return call


def update_of(net: nn.Module, images: Tensor) -> Callable[[], Any]:
    """Tokens of a batch, the gradient of their mean square, a step of AdamW."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        net(images).square().mean().backward()
        optimizer.step()

    return call


def vision(setup: Setup, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Forward and update of vision transformers."""
    rows = []
    for name in names:
        nets = encoders(name, setup.device)
        images = torch.randn(ENCODERS[name][1], 3, 224, 224, device=setup.device)
        for work, maker in (("ViT forward", forward_of), ("ViT update", update_of)):
            runs = {kind: maker(net, images) for kind, net in nets.items()}
            shared: dict[str, Any] = {
                "work": work,
                "config": f"{name}, {len(images)} images",
                "flop": flops(runs["ours"]),
            }
            times = interleaved({**runs, "gemm": gemm(setup)}, setup)
            rivals = tuple(kind for kind in runs if kind != "ours")
            rows.append(row(times, "ours", rivals=rivals, goal=1.0 if rivals else None, **shared))
            rows.extend(row(times, kind, **shared) for kind in rivals)
    return rows


def dino_wm(name: str, device: str) -> DINOWM:
    """DINO-WM of a preset, on images alone."""
    torch.manual_seed(0)
    side = SIDE if name == "tiny" else 224
    spec = Composite(pixels=Bounded(0, 255, torch.Size([side, side, 3]), dtype=torch.uint8))
    config = DINOWMConfig.tiny() if name == "tiny" else DINOWMConfig.official(**{"decoder.channels": 0})
    return DINOWM(config, spec, Bounded(-1, 1, torch.Size([2]))).to(device).eval()


def seen(model: FeatureWindowModel, device: str) -> dict[str, Tensor]:
    """The state after one image."""
    first = torch.ones(1, 1, dtype=torch.bool, device=device)
    image = torch.randint(0, 256, (1, *model.observation_spec["pixels"].shape), dtype=torch.uint8, device=device)
    action = model.null_action((1,), device)
    return model.observe(model.initial_state((1,), device), action, {"pixels": image}, first, None)


def planning(setup: Setup, names: tuple[str, ...], iterations: int) -> list[dict[str, Any]]:
    """DINO-WM's plan, beside the predictor's calls alone."""
    rows = []
    for name in names:
        model = dino_wm(name, setup.device)
        state, goal = seen(model, setup.device), {"goal": model.features(seen(model, setup.device))}
        planner = dino_wm_cem(model, candidates=CANDIDATES, horizon=HORIZON, budget=iterations)
        generator = torch.Generator(setup.device).manual_seed(0)
        # What a plan cannot do without: the predictor over a window that grows to as many frames as it reads.
        window, count = state["window"].expand(CANDIDATES, *state["window"].shape[1:]).contiguous(), model.frames
        action = torch.zeros(CANDIDATES, count, model.action_vector.size, device=setup.device)

        @torch.no_grad()
        def plain(model: DINOWM = model, window: Tensor = window, action: Tensor = action, count: int = count) -> None:
            for _ in range(iterations):
                for step in range(HORIZON):
                    frames = min(step + 1, count)
                    model.predict({"window": window[:, :frames]}, action[:, :frames])

        runs = {"ours": partial(planner.plan, state, generator=generator, given=goal), PLAIN: plain}
        shared: dict[str, Any] = {
            "work": "DINO-WM's plan",
            "config": f"{name}, {iterations} of 30 iterations",
            "flop": flops(plain),
        }
        times = interleaved({**runs, "gemm": gemm(setup)}, setup)
        rows.append(row(times, "ours", rivals=(PLAIN,), **shared))
        rows.append(row(times, PLAIN, **shared))
    return rows


def sequences(side: int, device: str) -> TensorDict:
    """Random sequences of images."""
    shape = (BATCH, TIME)
    images = torch.randint(0, 256, (BATCH, TIME + 1, side, side, 3), dtype=torch.uint8, device=device)
    no = torch.zeros(*shape, 1, dtype=torch.bool, device=device)
    after = {"pixels": images[:, 1:], "reward": torch.zeros(*shape, 1, device=device), "terminated": no, "done": no}
    action = torch.rand(*shape, 2, device=device) * 2 - 1
    return TensorDict({"pixels": images[:, :-1], "action": action, "is_init": no, "next": after}, shape)


def keeping(setup: Setup, encoder: FrozenEncoderConfig | None = None) -> list[dict[str, Any]]:
    """An update of JEPA-WM, its features kept or encoded again."""
    torch.manual_seed(0)
    spec = Composite(pixels=Bounded(0, 255, torch.Size([SIDE, SIDE, 3]), dtype=torch.uint8))
    large = FrozenEncoderConfig("timm", 192, 12, 3, 768, (8, 8), positions=(SIDE, SIDE), size=())
    config = JEPAWMConfig.tiny(encoder=large if encoder is None else encoder)
    model = JEPAWM(config, spec, Bounded(-1, 1, torch.Size([2]))).to(setup.device)
    trainer, data = Trainer(model, ReplayBuffer(), progress=False), sequences(SIDE, setup.device)
    cache = CacheFeatures(model.image_features, "pixels")

    def kept() -> TensorDictBase:
        return cache(data.clone(recurse=False))  # as the replay buffer gives it: images are known again by their bytes

    runs = {"ours": lambda: trainer.update(kept()), AGAIN: lambda: trainer.update(data)}
    times = interleaved(runs, setup)
    depth = f"{config.encoder.depth} blocks of {config.encoder.dim}"
    shared: dict[str, Any] = {"work": "an update, features kept", "config": f"JEPA-WM tiny on {depth}"}
    return [row(times, "ours", rivals=(AGAIN,), goal=1.0, **shared), row(times, AGAIN, **shared)]


def measure(
    setup: Setup, vits: tuple[str, ...] = tuple(ENCODERS), plans: tuple[str, ...] = ("tiny",), iterations: int = 1
) -> list[dict[str, Any]]:
    """All three.

    Args:
        setup: how to measure.
        vits: sizes of vision transformers.
        plans: presets of DINO-WM; ``"official"`` wants a GPU.
        iterations: of a plan.
    """
    with setup.threaded():
        return [*vision(setup, vits), *planning(setup, plans, iterations), *keeping(setup)]


def version_of_timm() -> str | None:
    """What was compared with; ``None`` where timm is not there."""
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return timm.__version__


def main() -> None:
    """Measure and write the numbers."""
    parser = timing_parser(__doc__)
    parser.add_argument("--vits", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--plans", nargs="+", default=["tiny"], choices=["tiny", "official"])
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    setup = setup_of(given)
    rows = measure(setup, tuple(given.vits), tuple(given.plans), given.iterations)
    command = typed("features_speed", given)
    facts = {"command": command, "timm": version_of_timm(), **setup.describe(), "rows": rows}
    (given.out / "features_speed.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "features_speed.md").write_text(page(facts))


def page(facts: dict[str, Any]) -> str:
    """The table that the numbers give."""
    lines = [
        "# Worlds of features: speed",
        "",
        "A vision transformer beside timm's with the same weights; a plan of DINO-WM, 300 sequences of 5 steps, beside",
        "the calls of its predictor alone; an update of JEPA-WM whose features are kept by `CacheFeatures`, beside one",
        "that encodes its images again. The gap is the time over that of the matrix products alone at the machine's",
        "rate in the same run.",
        "",
        "| work | sizes | whose | ms | range | ours over it | gap to the floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in facts["rows"]:
        low, high = one["range"]
        ratio = f"{one['ratio']:.2f}" if "ratio" in one else ""
        gap = f"{one['gap']:.2f}" if "gap" in one else ""
        lines.append(
            f"| {one['work']} | {one['config']} | {one['variant']} | {one['ms']:g} | {low:g} to {high:g} | {ratio} | "
            f"{gap} |"
        )
    lines += [
        "",
        f"`{facts['command']}`, torch {facts['machine']['torch']}, timm {facts['timm'] or 'not there'},",
        f"{facts['device']}, {facts['threads']} thread(s),",
        f"medians of up to {facts['repeats']} interleaved repeats, {clock_told(facts)}; the allocator as it comes.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
