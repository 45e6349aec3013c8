"""From a key to the frame it leads to, in the browser: ``python -m benchmarks.play_latency``."""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torchrl.data import Bounded, Composite, OneHot

from benchmarks.measuring import digits
from wmcomponents.dream.simulator import Simulator
from wmcomponents.models import make_model
from wmcomponents.play import Controls, Conversation, Session
from wmcomponents.play.action_names import ALE
from wmcomponents.play.server import PlayServer, listening, make_uvicorn

OUT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
WORLDS = (("DreamerV3", "size12m"), ("IRIS", "atari"), ("Diamond", "atari"))
SIDE = 64
TOKEN = "benchmark"
COLUMNS = ("key to frame", "step", "step, cpu", "draw", "draw, cpu", "around it")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Timed:
    """A function whose calls are timed.

    Args:
        function: what is called.

    Attributes:
        seconds: of each call, on the clock.
        cpu: of each call, of its own thread.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.seconds: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        begun, worked = time.perf_counter(), time.thread_time()
        result = self._function(*arguments)
        self.cpu.append(time.thread_time() - worked)
        self.seconds.append(time.perf_counter() - begun)
        return result


def measure(page: Any, family: str, preset: str, keys: int) -> dict[str, Any]:
    """One row of the table, in milliseconds."""
    torch.manual_seed(0)
    pixels = Composite(pixels=Bounded(0, 255, (SIDE, SIDE, 3), dtype=torch.uint8))
    model = make_model(family, preset, pixels, OneHot(len(ALE))).eval()
    session = Session(model, controls=Controls(model.action_spec, ALE), seed=0)
    # A model with random weights may end anywhere: what is measured is a step, not an episode.
    session.simulator = _endless(session)
    session.begin("prior")
    conversation = Conversation(session, Path(tempfile.gettempdir()))
    did, drew = Timed(conversation.do), Timed(conversation.frame)
    conversation.do, conversation.frame = did, drew  # type: ignore[method-assign]
    server = PlayServer(conversation, TOKEN)
    listener = listening("127.0.0.1", 0)
    running = make_uvicorn(server.app)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/?token={TOKEN}")
    page.wait_for_selector(".state.on")
    latencies = [_pressed(page, number) for number in range(keys + 2)][2:]  # the first make buffers
    running.should_exit = True
    thread.join()
    cells = {"key to frame": latencies, "step": did.seconds[-keys:], "draw": drew.seconds[-keys:]}
    parameters = sum(value.numel() for value in model.parameters())
    around = [whole - one - two for whole, one, two in zip(*cells.values(), strict=True)]
    worked = {"step, cpu": did.cpu[-keys:], "draw, cpu": drew.cpu[-keys:]}
    shown = {name: _told(values) for name, values in {**cells, **worked, "around it": around}.items()}
    return {"family": family, "preset": preset, "parameters": parameters, "keys": keys, "ms": shown}


def _endless(session: Session) -> Simulator:
    return Simulator(session.model, view="decoded", termination="off")


def _pressed(page: Any, number: int) -> float:
    """Seconds from the key to the drawn frame, as the page itself measures them."""
    heard = (
        "() => { window.frameDrawn = new Promise((done) => document.getElementById('play')"
        ".addEventListener('wmc-frame', (event) => done(event.detail.latency), { once: true })); }"
    )
    page.evaluate(heard)
    page.keyboard.press("ArrowLeft" if number % 2 else "ArrowRight")
    return page.evaluate("() => window.frameDrawn") / 1e3


def _told(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1e3 * value for value in seconds)
    return {"median": digits(statistics.median(ordered)), "least": digits(ordered[0]), "most": digits(ordered[-1])}


def page_of(facts: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# From a key to a frame",
        "",
        "How long [a played dream](../how-to/play-a-dream.md) takes to answer: from the key, in a headless Chromium on",
        "the same machine, to the frame drawn on the page; and of that the model's step with its decoded image, the",
        "drawing and encoding of the frame, and all the rest (page, websocket, server). Models of the papers' sizes",
        f"with random weights, frames of {SIDE}x{SIDE}, {len(ALE)} actions. Milliseconds, median (least-most); the",
        "processor's own time of step and frame is what they take where nothing else runs.",
        "",
        "| model | parameters | key to frame | step | step, processor | frame | frame, processor | the rest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in facts["measured"]:
        cells = [row["ms"][name] for name in COLUMNS]
        words = [f"{cell['median']:g} ({cell['least']:g}-{cell['most']:g})" for cell in cells]
        lines.append(f"| {row['family']} `{row['preset']}` | {row['parameters'] / 1e6:.1f} M | {' | '.join(words)} |")
    lines += [
        "",
        "IRIS builds its context anew every few steps, which is its slowest step. On a GPU only the step gets shorter.",
        "",
        "Step and frame are taken by the server; a page that runs asks for the next step when it has drawn the last.",
        "",
        f"`{facts['command']}`, torch {facts['torch']}, {facts['threads']} thread, {facts['keys']} keys each, load "
        f"average {facts['load']} on {facts['cores']} cores: browser, server and what else ran shared them.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="from a key to the frame it leads to")
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    torch.set_num_threads(1)
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page()
        measured = [measure(page, family, preset, given.keys) for family, preset in WORLDS]
        browser.close()
    facts = {
        "command": "python -m benchmarks.play_latency",
        "torch": torch.__version__,
        "threads": 1,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "keys": given.keys,
        "measured": measured,
    }
    (given.out / "play_latency.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "play_latency.md").write_text(page_of(facts))
    print(page_of(facts))


if __name__ == "__main__":
    main()
