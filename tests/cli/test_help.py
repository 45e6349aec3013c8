"""What the help shows can be typed, line after line, in an empty folder."""

import shlex

import pytest

from tests.support.running import wmc
from wmcomponents.cli.help import EXAMPLES, WAY, overview

INPUTS = ("--data", "--model", "--compare", "--policy", "--agent")
EVERY = [line for name in ("demo", "collect", "train", "dream", "eval", "info") for line in EXAMPLES[name]]
SMALL = {
    "demo": "--real-steps 200 --rounds 2 --updates 3 --dream-steps 1024 --final-dream-steps 1024 --dreams 8 "
    "--sequence-length 16 --batch-size 4 --episodes 2",
    "collect": "--steps 200",
    "train": "--batch-size 4 --sequence-length 16 --start-states 32",
    "dream": "--steps 12",
    "eval": "--horizon 6",
    "info": "",
}


def words(line):
    return shlex.split(line, comments=True)[1:]


def paths(arguments, names):
    """Values of these options, of which some take several."""
    found, option = [], None
    for word in arguments:
        option = word if word.startswith("--") else option
        if word != option and option in names:
            found.append(word)
    return found


@pytest.mark.parametrize("lines", [WAY, EVERY], ids=["the way through", "every example"])
def test_a_line_needs_only_what_lines_above_it_have_written(lines):
    written = []
    for line in lines:
        needed = [path for path in paths(words(line), INPUTS) if path != "random"]
        assert [path for path in needed if not any(f"{path}/".startswith(f"{out}/") for out in written)] == [], line
        written += paths(words(line), ["--out"])
    assert all(f"  {line}\n" in overview() for line in WAY)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "lines", [WAY, pytest.param(EVERY, marks=pytest.mark.weekly)], ids=["the way through", "every example"]
)
def test_every_line_works_when_it_is_typed(lines, tmp_path, monkeypatch):
    for package in (
        "tyro",
        "stable_baselines3",
        "minatar",
        "dm_control",
        "matplotlib",
        "imageio_ffmpeg",
        "tensorboard",
    ):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        name, *arguments = words(line)
        if name == "train":
            at = arguments.index("--steps") + 1 if "--steps" in arguments else None
            steps = {"2000": 4, "4000": 6, None: 4}[None if at is None else arguments[at]]
            arguments = arguments if at is None else arguments[: at - 1] + arguments[at + 1 :]
            arguments += ["--steps", steps]
        ran = wmc(name, *arguments, *SMALL[name].split())
        assert ran.code == 0, f"{line}:\n{ran.err[-3000:]}"
