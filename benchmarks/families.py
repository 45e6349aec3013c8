"""Speed of every family's dream, beside a plain torch loop of the same maths: ``python -m benchmarks.families``."""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from benchmarks import openings, pixel_speed
from benchmarks.measuring import Setup, flops, gemm, interleaved, row
from benchmarks.overhead import STEPS, TARGETS, Subject, variants
from benchmarks.plots import draw
from benchmarks.report import markdown
from wmcomponents.dream import GoalWorldModel
from wmcomponents.models import MODELS, make_model, presets
from wmcomponents.world_model import State, WorldModel

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (1, 64, 1024)
MEASURED = ("plain", "simulator", "gymnasium", "sb3", "imagine")
"""Of the variants of ``overhead``; the compiled ones are added where asked for."""

PAPER = {"DreamerV3": "size12m", "TDMPC2": "size5", "DreamerV2": "dmc_proprio", "DreamerV3Preprint": "s"}
"""Presets that are measured beside ``tiny``; of other families, the first of the paper's."""

PATCHES = {
    "GAIA1": {"downsampling": 16},
    "Genie": {"patch": 16, "action_patch": 16},
    "GenieRedux": {"patch": 16},
    "GenieReduxG": {"patch": 16},
    "Oasis": {"network.autoencoder.patch": 16},
}
"""Of ``tiny`` presets that are for smaller images."""

PAPER_PATCHES = {"NWM": {"motion": "sum"}, "Oasis": {"network.autoencoder.patch": 16}}
"""Of presets that are for other images than those of 64 pixels a side, or for other actions."""

OBSERVATIONS = (
    Composite(observation=Unbounded(24)),
    Composite(pixels=Bounded(0, 255, torch.Size([64, 64, 3]), dtype=torch.uint8)),
)
ACTIONS = (Bounded(-1, 1, torch.Size([6])), OneHot(6))
"""Those of a walker; the first that a preset takes."""

LATENT = [name for name in MODELS if name not in pixel_speed.FAMILIES]
"""Measured unless others are named; worlds of tokens and pixels have a page of their own."""

PATIENCE = 60.0
"""Seconds: a batch at which the plain loop alone would take longer is left out."""

GAP = 1.6
"""Largest gap of TD-MPC2's update to the floor of its matrix products."""

TITLES = {"steps": "A step of the dream", "updates": "An update of TD-MPC2"}
LEADS = {
    "steps": (
        f"{STEPS} steps of each family's dream under a policy of one linear layer, without gradients, in the latent "
        "view (the decoded one where a family has no features): through the simulator, the Gymnasium and the SB3 "
        "adapter, and as `imagine`, which returns a TensorDict. `plain` draws the noise, calls the model and stacks "
        "what comes out, with nothing of this library around it; the ratio is to it. Observations are 24 numbers and "
        "actions 6 (64x64 images, or 6 discrete actions, where the preset takes no others). Batches that would take "
        "minutes are left out. One thread. Rates are environment steps a second."
    ),
    "updates": (
        "Loss, backward pass and optimiser step of TD-MPC2 from 256 windows of 3 transitions with 24 numbers observed "
        "and 6 actions: everything but the search. The floor counts matrix products, forward and backward."
    ),
}
HEAD = (
    "# Speed of the families\n\nWritten by `python -m benchmarks.families`; the same figures are in "
    "[families.json](families.json)."
)


class Greedy(nn.Module):
    """One linear layer on features or an image; of discrete actions the best one, as a one-hot vector."""

    def __init__(self, shape: torch.Size, action_spec: Any, device: str) -> None:
        super().__init__()
        self.net = nn.Linear(shape.numel(), action_spec.shape[-1], device=device)
        self.discrete, self.dims = isinstance(action_spec, OneHot), len(shape)

    def forward(self, shown: Tensor) -> Tensor:
        """``[*B, *shape]`` to ``[*B, A]``."""
        out = self.net(shown.flatten(-self.dims).to(self.net.weight.dtype))
        return nn.functional.one_hot(out.argmax(-1), out.shape[-1]) if self.discrete else out.tanh()


def build(family: str, preset: str) -> WorldModel:
    """A model with fresh weights, for the first observations and actions that it takes; with goals for its rewards."""
    refused = []
    for observations in OBSERVATIONS:
        for actions in ACTIONS:
            try:
                changes = (PATCHES if preset == "tiny" else PAPER_PATCHES).get(family, {})
                made = make_model(family, preset, observations, actions, **changes)
                # A world of films without rewards has no features either, in which a goal could lie.
                has_goals = "features" in made.capabilities and "reward" not in made.capabilities
                return GoalWorldModel(made) if has_goals else made
            except ValueError as error:
                refused.append(str(error))
    raise ValueError(f"{family} {preset} takes none of the observations and actions here: {refused}")


def subject(model: WorldModel, batch: int, device: str = "cpu", least: int = 64) -> Subject:
    """A family's model, in at least so many states, which its filter made of random observations."""
    model = model.to(device).eval()
    rows = max(batch, least)
    generator = torch.Generator(device).manual_seed(0)
    sources = {verb: model.noise_source(verb) for verb in ("observe", "imagine")}
    seen = {str(key): value for key, value in model.observation_spec.rand(torch.Size([rows])).to(device).items()}
    begin, null = model.initial_state((rows,), device), model.null_action((rows,), device)
    is_init = torch.ones(rows, 1, dtype=torch.bool, device=device)
    pool = model.observe(begin, null, seen, is_init, sources["observe"]((rows,), generator))
    key = "latent" if "features" in model.capabilities else next(iter(seen))
    shown = model.features(pool) if key == "latent" else model.decode(pool)[key]
    policy = Greedy(shown.shape[1:], model.action_spec, device)

    def plain(state: State) -> list[Tensor]:
        steps = []
        for _ in range(STEPS):
            action = policy(stepped.look(state))
            state, reward, cont = model.imagine(state, action, sources["imagine"]((batch,), generator))
            steps.append([action, *state.values(), *(x for x in (reward, cont) if x is not None)])
        return [torch.stack(values) for values in zip(*steps, strict=True)]

    stepped = Subject(model, policy, pool, plain, key)
    return stepped


def sizes(family: str) -> list[str]:
    """The presets of a family that are measured: ``tiny``, and one of the paper's."""
    known = presets(family)
    return list(dict.fromkeys(["tiny", PAPER.get(family, known[min(1, len(known) - 1)])]))


def steps(setup: Setup, families: list[str], batches: tuple[int, ...] = BATCHES) -> list[dict[str, Any]]:
    """One row for each family, preset, batch and variant, one thread, no gradients."""
    rows = []
    for family in families:
        for preset in sizes(family):
            last, seconds = 1, 0.0
            for column, batch in enumerate(batches):
                if seconds * batch / last > PATIENCE:
                    print(f"  {family} {preset}, B={batch}: left out", flush=True)
                    continue
                torch.manual_seed(0)
                torch.compiler.reset()
                with torch.no_grad():
                    stepped = subject(build(family, preset), batch, setup.device)
                    runs = variants(batch, setup.compiled, setup.device, stepped)
                    runs = {name: run for name, run in runs.items() if name in MEASURED or "compiled" in name}
                    times = interleaved(runs, setup)
                last, seconds = batch, statistics.median(times["plain"])
                for name in runs:
                    judged = name in TARGETS and batches == BATCHES
                    rows.append(
                        row(
                            times,
                            name,
                            work=f"{family}, B={batch}",
                            config=preset,
                            rivals=() if name == "plain" else ("plain",),
                            goal=TARGETS[name][column] if judged else None,
                            steps=STEPS * batch,
                        )
                    )
                print(f"  {family} {preset}, B={batch}", flush=True)
    return rows


def updating(preset: str, windows: int, device: str) -> Callable[[], None]:
    """One update of TD-MPC2 as ``training.Trainer`` takes it."""
    model = make_model("TDMPC2", preset, OBSERVATIONS[0], ACTIONS[0]).to(device)
    objective: Any = model.objective()
    optimizer = objective.make_optimizer()
    lead = (windows, objective.horizon)
    seen = torch.randn(windows, objective.horizon + 1, 24)
    ended = torch.zeros(*lead, 1, dtype=torch.bool)
    following = {"observation": seen[:, 1:], "reward": torch.rand(*lead, 1), "terminated": ended, "done": ended}
    entries = {"observation": seen[:, :-1], "action": torch.rand(*lead, 6) * 2 - 1, "is_init": ended, "next": following}
    data = TensorDict(entries, batch_size=lead).to(device)

    def call() -> None:
        objective.before_update(0)
        out = objective(data)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([value for key, value in out.items() if key.startswith("loss_")]).sum().backward()
        optimizer.step()
        objective.after_update(0)

    return call


def updates(
    setup: Setup, names: tuple[str, ...] = ("tiny", "size1", "size5"), windows: int = 256
) -> list[dict[str, Any]]:
    """One row for each size of TD-MPC2."""
    rows = []
    with setup.threaded():
        for name in names:
            torch.manual_seed(0)
            run = updating(name, windows, setup.device)
            counted = flops(run) if setup.floor else 0
            timed = {"ours": run} | ({"gemm": gemm(setup)} if setup.floor else {})
            times = interleaved(timed, setup)
            goal = GAP if name == "size5" else None
            rows.append(row(times, "ours", work=f"update, {windows} windows", config=name, flop=counted, goal=goal))
            print(f"  TD-MPC2 {name}", flush=True)
    return rows


def measure(setup: Setup, families: list[str], sections: list[str]) -> dict[str, Any]:
    """Both sections on one device, by name."""
    found: dict[str, Any] = {}
    for name in sections:
        threads = setup.threads or 1 if name == "steps" else setup.threads
        chosen = Setup(**{**vars(setup), "threads": threads})
        settings = chosen.describe()
        with chosen.threaded():
            rows = steps(chosen, families) if name == "steps" else updates(chosen)
        found[name] = {"settings": settings, "rows": rows}
    return found


def write(result: dict[str, Any], out: Path) -> None:
    """The figures as JSON and Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    result["sections"] = {name: result["sections"][name] for name in TITLES if name in result["sections"]}
    (out / "families.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "families.md").write_text(markdown(result, TITLES, LEADS, HEAD, openings.families))
    draw("families", out)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(TITLES), default=list(TITLES), help="sections to measure")
    parser.add_argument("--families", nargs="+", choices=list(MODELS), default=LATENT, help="families to measure")
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats")
    parser.add_argument("--threads", type=int, default=0, help="of torch in an update; 0: what torch takes by itself")
    parser.add_argument("--cpu-time", action="store_true", help="the process's own time: when others run")
    parser.add_argument("--compile", action="store_true", help="compiled imagination too: minutes for each family")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of families.json, .md")
    parser.add_argument("--report", action="store_true", help="measure nothing; write families.md from families.json")
    given = parser.parse_args(arguments)
    path = given.out / "families.json"
    result = json.loads(path.read_text()) if path.is_file() else {"sections": {}}
    if not given.report:
        options: dict[str, Any] = {"repeats": given.repeats, "threads": given.threads, "compiled": given.compile}
        setups = [Setup(cpu_time=given.cpu_time, **options)]
        if torch.cuda.is_available():
            setups.append(Setup(device="cuda", **options))
        for setup in setups:
            print(f"on {setup.device} ...", flush=True)
            for name, measured in measure(setup, given.families, given.only).items():
                result["sections"].setdefault(name, {})[setup.device] = measured
                result["sections"][name].setdefault("cuda", {"skipped": "no GPU"})
    write(result, given.out)
    print(f"written: {path}, {given.out / 'families.md'}")


if __name__ == "__main__":
    main()
