"""Walks through the package: which files a piece of code passes, and who calls whom.

``python -m tests.support.walks`` writes the tables of docs/explanation/walks.md anew.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from torch.utils._python_dispatch import TorchDispatchMode

import wmcomponents

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(wmcomponents.__file__).resolve().parent


class Call(NamedTuple):
    """A call that leaves a file for another.

    Attributes:
        caller: file below the package.
        callee: file below the package.
        names: functions, caller's and callee's.
        is_own: whether an object calls a method of its own that stands in another file, as a class and its base do.
    """

    caller: str
    callee: str
    names: tuple[str, str]
    is_own: bool


class Walk:
    """The functions of the package that are entered while this context manager is open, and the calls between them.

    A function that was handed over as an argument is called by whoever handed it over. What torch calls by itself
    (a mode that watches it) is left out, and so are the small modules that every room may ask (``_arguments`` ...).

    Attributes:
        passed: functions by file, both in the order in which they are entered.
        calls: calls between files, each once.
    """

    def __init__(self) -> None:
        self.passed: dict[str, list[str]] = {}
        self.calls: dict[Call, None] = {}

    def __enter__(self) -> "Walk":
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        file = _file(frame.f_code)
        if event != "call" or file is None or isinstance(_self(frame), TorchDispatchMode):
            return
        name = _name(frame.f_code)
        names = self.passed.setdefault(file, [])
        if name not in names:
            names.append(name)
        caller = _caller(frame)
        if caller is not None and _file(caller.f_code) != file:
            is_own = _is_own(_self(caller), _self(frame))
            self.calls[Call(_file(caller.f_code), file, (_name(caller.f_code), name), is_own)] = None


def _file(code: CodeType) -> str | None:
    """The file below the package; ``None`` outside of it and in the modules that every room may ask."""
    if not code.co_filename.startswith(f"{PACKAGE}/"):
        return None
    file = Path(code.co_filename).relative_to(PACKAGE).as_posix()
    return None if file.startswith("_") else file


def _name(code: CodeType) -> str:
    """The function with its class; before Python 3.11 by itself. What is defined within it counts as the function."""
    return getattr(code, "co_qualname", code.co_name).split(".<locals>")[0]


def _self(frame: FrameType) -> Any:
    code = frame.f_code
    is_method = code.co_argcount > 0 and code.co_varnames[0] in ("self", "cls")
    return frame.f_locals.get(code.co_varnames[0]) if is_method else None


def _is_own(one: Any, other: Any) -> bool:
    """Whether two calls are of one object, or of a class and what it makes of itself, in either direction."""
    related = (isinstance(one, type) and type(other) is one) or (isinstance(other, type) and type(one) is other)
    return one is not None and (one is other or related)


def _caller(frame: FrameType) -> FrameType | None:
    """The next frame of the package above, or where the function was handed over, or made, further up."""
    above = frame.f_back
    while above is not None and _file(above.f_code) is None:
        above = above.f_back
    while above is not None and _was_handed(frame, above):
        above = above.f_back
        while above is not None and _file(above.f_code) is None:
            above = above.f_back
    return above


def _was_handed(frame: FrameType, above: FrameType) -> bool:
    """Whether a frame received, as an argument, the function that it calls."""
    code = above.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    handed = [above.f_locals.get(name) for name in names]
    return any(_code(value) is frame.f_code for value in handed if callable(value))


def _code(value: Any) -> CodeType | None:
    value = getattr(value, "func", value)  # a partial
    if isinstance(value, type):
        value = type(value).__call__
    return getattr(getattr(value, "__func__", value), "__code__", None)


def backward(calls: list[Call], files: list[str]) -> list[Call]:
    """Calls from a file to one before it in the list, an object's own methods aside."""
    place = {file: number for number, file in enumerate(files)}
    return [call for call in calls if not call.is_own and place[call.callee] < place[call.caller]]


def ordered(walk: Walk) -> list[str]:
    """The files of a walk, each before those that it calls, otherwise as they are entered.

    Raises:
        ValueError: if calls lead round in a circle.
    """
    before = {file: set() for file in walk.passed}
    for call in walk.calls:
        if not call.is_own:
            before[call.callee].add(call.caller)
    files: list[str] = []
    while len(files) < len(before):
        free = [file for file in before if file not in files and before[file] <= set(files)]
        if not free:
            raise ValueError(f"calls lead round in a circle: {sorted(set(before) - set(files))}")
        files.append(free[0])
    return files


def climbs(walk: Walk, rooms: list[list[str]]) -> list[Call]:
    """Calls from a room to one above it in the house, an object's own methods aside."""
    height = {room: number for number, level in enumerate(rooms) for room in level}

    def level(file: str) -> int:
        return height[file.split("/")[0].removesuffix(".py")]

    return [call for call in walk.calls if not call.is_own and level(call.callee) < level(call.caller)]


# -- the three of the page ------------------------------------------------------------------------------------------


def observation_to_loss() -> tuple[Walk, Walk]:
    """From CartPole into the buffer, and from the buffer through DreamerV3's loss."""
    from wmcomponents.data import RealCollector, action_spec, make_env, make_replay, observation_spec
    from wmcomponents.models import DreamerV3, DreamerV3Config
    from wmcomponents.training import Trainer

    env = make_env("CartPole-v1", seed=0)
    replay = make_replay(1_000, env, sequence_length=8, batch_size=2, seed=0)
    collector = RealCollector(env, replay, seed=0)
    collector.collect(30)
    with Walk() as collected:
        collector.collect(2)
    model = DreamerV3(DreamerV3Config.tiny(), observation_spec(env), action_spec(env))
    trainer = Trainer(model, replay, progress=False)
    trainer.train(1)
    with Walk() as learned:
        trainer.train(2)
    return collected, learned


def action_through_dream() -> tuple[Walk]:
    """One step of Stable-Baselines3's PPO in the dream of a DreamerV3, in which no row ends."""
    from stable_baselines3 import PPO

    from wmcomponents.dream import PriorStarts
    from wmcomponents.integrations.sb3 import DreamVecEnv

    model = _model()
    dream = DreamVecEnv(model, num_envs=2, starts=PriorStarts(model), horizon=99, termination="off", seed=0)
    agent = PPO("MlpPolicy", dream, n_steps=8, batch_size=8, seed=0)
    observation = dream.reset()
    with Walk() as stepped:
        action, _ = agent.predict(observation)
        dream.step(action)
    return (stepped,)


def weights_to_disk_and_back() -> tuple[Walk, Walk]:
    """Saving a DreamerV3 with start states, and loading what was saved."""
    from wmcomponents.models.loading import load_with_starts

    model = _model()
    starts = model.initial_state((3,))
    with tempfile.TemporaryDirectory() as folder:
        with Walk() as saved:
            model.save_pretrained(f"{folder}/model", starts=starts)
        with Walk() as loaded:
            load_with_starts(f"{folder}/model")
    return saved, loaded


def _model() -> "wmcomponents.models.DreamerV3":
    from torchrl.data import Composite, OneHot, Unbounded

    from wmcomponents.models import DreamerV3, DreamerV3Config

    return DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2)).eval()


WALKS: dict[str, Callable[[], tuple[Walk, ...]]] = {
    "An observation from the environment to the loss": observation_to_loss,
    "An action of an SB3 agent through the dream and back": action_through_dream,
    "Weights to disk and back": weights_to_disk_and_back,
}
"""The walks of the page, by their headings."""


def joined(walks: tuple[Walk, ...]) -> Walk:
    """All of them as one."""
    whole = Walk()
    for walk in walks:
        for file, names in walk.passed.items():
            known = whole.passed.setdefault(file, [])
            known += [name for name in names if name not in known]
        whole.calls |= walk.calls
    return whole


def rows(walks: tuple[Walk, ...]) -> Iterator[str]:
    """Markdown: one row a file, one column a walk, with the public functions that are entered in it."""
    for file in ordered(joined(walks)):
        cells = [", ".join(f"`{name}`" for name in _shown(walk.passed.get(file, []))) for walk in walks]
        yield f"| `{file}` | {' | '.join(cells)} |"


def _shown(names: list[str]) -> list[str]:
    shown = [name for name in names if not re.search(r"(^|\.)_(?!_(call|enter|init)__$)", name)]
    return shown or names[:1]


def main() -> None:
    """Write the tables into the page, each below its heading."""
    page = ROOT / "docs" / "explanation" / "walks.md"
    text = page.read_text()
    for heading, walk in WALKS.items():
        table = re.compile(rf"(^## {heading}$.*?^\|[- |]+\|$\n)(?:\| `[^\n]*\n)*", re.M | re.S)
        found = "".join(f"{row}\n" for row in rows(walk()))
        text = table.sub(lambda match, found=found: match[1] + found, text, count=1)
    page.write_text(text)


if __name__ == "__main__":
    main()
