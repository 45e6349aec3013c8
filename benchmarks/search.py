"""Tree search, 64 roots by 50 simulations, ours beside mctx on the same model with the same weights.

``python -m benchmarks.search --mctx-python PYTHON`` writes ``docs/benchmarks/search.json`` and ``.md``. The interpreter
is one that has jax and mctx; the two processes take turns. Each figure is processor time of one thread, and stands
beside that of the search's model calls alone.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torchrl.data import Composite, OneHot, Unbounded

from benchmarks.measuring import Setup, processor
from wmcomponents.agents.search import CompiledSimulations, TreeSearch, gumbel_search, mctx_muzero_search
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel

OUT = Path("docs/benchmarks")
PEER = Path(__file__).with_name("mctx_peer.py")
ROOTS, SIMULATIONS, DISCOUNT = 64, 50, 0.97
SIZES = {"two layers of 64, 18 actions": (64, 18), "two layers of 256, 4 actions": (256, 4)}
SEARCHES: dict[str, Callable[..., TreeSearch]] = {"puct": mctx_muzero_search, "gumbel": gumbel_search}
COMPILED = {f"{name}, compiled": name for name in SEARCHES}
"""The searches whose simulations are compiled, by name, and the search that each of them is."""
TITLES = {"puct": "pUCT (`mctx_muzero_search`)", "gumbel": "Gumbel (`gumbel_search`)"}


class TwoLayers(WorldModel):
    """Two layers and three heads: as little model as a search can have.

    Args:
        units: of the latent and of each layer.
        actions: choices.
    """

    def __init__(self, units: int, actions: int) -> None:
        super().__init__(
            observation_spec=Composite(observation=Unbounded(units)),
            action_spec=OneHot(actions),
            state_spec=Composite(latent=Unbounded(units)),
        )
        self.first, self.second = nn.Linear(units + actions, units), nn.Linear(units, units)
        self.reward_head, self.value_head = nn.Linear(units, 1), nn.Linear(units, 1)
        self.policy = nn.Linear(units, actions)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The observation is the latent."""
        return {"latent": observation["observation"].clone()}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """Two layers."""
        x = torch.cat([state["latent"], action.to(state["latent"].dtype)], -1)
        latent = self.second(self.first(x).relu()).relu()
        return Prediction({"latent": latent}, self.reward_head(latent), None)

    def prior(self, state: State) -> Tensor:
        """Logits of a state."""
        return self.policy(state["latent"])

    def worth(self, state: State) -> Tensor:
        """Value of a state."""
        return self.value_head(state["latent"])


def ours(model: TwoLayers, state: State) -> dict[str, Callable[[], Tensor | None]]:
    """What is measured here, by name."""
    generator = torch.Generator().manual_seed(0)
    action = torch.nn.functional.one_hot(torch.zeros(ROOTS, dtype=torch.int64), model.policy.out_features)

    def model_alone() -> None:
        here = state
        with torch.no_grad():
            for _ in range(SIMULATIONS):
                here = model.imagine(here, action, None).state
                model.prior(here)
                model.worth(here)

    def searching(name: str) -> Callable[[], Tensor]:
        parts = {"prior": model.prior, "value": model.worth, "discount": DISCOUNT}
        search = SEARCHES[COMPILED.get(name, name)](model, simulations=SIMULATIONS, **parts)
        if name in COMPILED:
            search.run = CompiledSimulations()

        def call() -> Tensor:
            # All noise is drawn, as mctx draws it; that of the root is left out there too.
            noise = search.draw([ROOTS], generator)
            return search.plan(state, noise=noise._replace(root={})).visits

        return call

    return {"model": model_alone, **{name: searching(name) for name in (*SEARCHES, *COMPILED)}}


class Peer:
    """mctx in its own process.

    Args:
        python: the interpreter that has it.
        model: whose weights it takes.
        state: the roots'.
        folder: for the weights.
    """

    def __init__(self, python: str, model: TwoLayers, state: State, folder: str) -> None:
        weights: dict[str, Any] = {name: value.detach().numpy() for name, value in model.named_parameters()}
        file = Path(folder) / "weights.npz"
        numpy.savez(file, latent=state["latent"].numpy(), **weights)
        self.process = subprocess.Popen(
            [python, str(PEER), str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str, repeats: int) -> dict[str, Any]:
        """Seconds of one call, and visits."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{name} {SIMULATIONS} {repeats}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(
                "the interpreter of --mctx-python ended without an answer; it needs jax, mctx and numpy."
            )
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(python: str, units: int, actions: int, repeats: int) -> dict[str, Any]:
    """One model: milliseconds of every repeat of ours and of theirs, and the share of roots with the same visits.

    With the seconds of the first compiled search, which are those of compiling.
    """
    torch.manual_seed(0)
    model = TwoLayers(units, actions).eval()
    state = {"latent": torch.randn(ROOTS, units)}
    setup = Setup(cpu_time=True, threads=1)
    runs = ours(model, state)
    found: dict[str, Any] = {}
    times: dict[str, dict[str, list[float]]] = {whose: {name: [] for name in runs} for whose in ("ours", "mctx")}
    with setup.threaded(), tempfile.TemporaryDirectory() as folder:
        peer = Peer(python, model, state, folder)
        same, first = {}, {}
        for name, call in runs.items():
            begun = setup.clock()
            mine = call()
            first[name] = setup.clock() - begun
            theirs = peer.ask(COMPILED.get(name, name), 1)
            found |= {"mctx": theirs["mctx"], "jax": theirs["jax"]}
            if mine is not None:
                same[name] = float((mine == torch.tensor(theirs["visits"])).all(1).float().mean())
        for _ in range(repeats):
            for name, call in runs.items():
                begun = setup.clock()
                call()
                times["ours"][name].append(1e3 * (setup.clock() - begun))
                if name not in COMPILED:
                    times["mctx"][name].append(1e3 * peer.ask(name, 1)["seconds"])
        peer.close()
    compiling = {name: first[name] for name in COMPILED}
    return {**found, "same_visits": same, "first_call_seconds": compiling, "ms": times}


def page(facts: dict[str, Any]) -> str:
    """The table that the numbers give."""
    lines = [
        "# Tree search beside mctx",
        "",
        f"{facts['roots']} roots by {facts['simulations']} simulations on one model with the same weights, ours in",
        "eager PyTorch and with compiled simulations (`CompiledSimulations`), mctx compiled by XLA. Beside each time",
        "stands what it is of that of its own model calls alone, which ours makes eagerly: the rest is the tree's. The",
        "larger the model, the less the tree counts.",
        "",
        "| model | search | ours, ms | / model | compiled, ms | / model | mctx, ms | / model | ours / mctx "
        "| compiled / mctx | same visits |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for config, measured in facts["measured"].items():
        ms = measured["ms"]
        for name, title in TITLES.items():
            cells, medians = [], []
            for whose, what in (("ours", name), ("ours", f"{name}, compiled"), ("mctx", name)):
                medians.append(statistics.median(ms[whose][what]))
                cells += [f"{medians[-1]:.1f}", f"{medians[-1] / statistics.median(ms[whose]['model']):.1f}"]
            cells += [f"{ours / medians[-1]:.1f}" for ours in medians[:2]]
            same = min(measured["same_visits"][what] for what in (name, f"{name}, compiled"))
            lines.append(f"| {config} | {title} | {' | '.join(cells)} | {same:.0%} of the roots |")
    seconds = [value for one in facts["measured"].values() for value in one["first_call_seconds"].values()]
    lines += [
        "",
        f"`{facts['command']}`: processor time of one thread, medians of {facts['repeats']} repeats in which the two",
        f"processes take turns; {facts['cpu']}, torch {facts['torch']}, mctx {facts['mctx']}, jax {facts['jax']}.",
        f"The first compiled search takes {min(seconds):.0f} to {max(seconds):.0f} s, where nothing of it is cached.",
        "Visits differ where two edges are level up to rounding, or to the noise that breaks ties.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="tree search beside mctx")
    parser.add_argument("--mctx-python", required=True, help="an interpreter that has jax and mctx")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    measured: dict[str, Any] = {}
    for name, size in SIZES.items():
        measured[name] = measure(given.mctx_python, *size, given.repeats)
        facts = {
            "command": "python -m benchmarks.search --mctx-python PYTHON",
            "torch": torch.__version__,
            "mctx": measured[name].pop("mctx"),
            "jax": measured[name].pop("jax"),
            "cpu": processor(),
            "repeats": given.repeats,
            "roots": ROOTS,
            "simulations": SIMULATIONS,
            "measured": measured,
        }
        (OUT / "search.json").write_text(json.dumps(facts, indent=1) + "\n")
        (OUT / "search.md").write_text(page(facts))
        print(page(facts), flush=True)


if __name__ == "__main__":
    main()
