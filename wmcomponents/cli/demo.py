"""The whole story in one command: real steps, a world model of them, an agent trained in the dream, reality again."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from wmcomponents._interruption import Request, postponed
from wmcomponents._lock import one_writer
from wmcomponents._whole import check_place, written_whole
from wmcomponents.cli.demo_config import DemoConfig
from wmcomponents.cli.demo_rounds import Demo, demo_folder
from wmcomponents.data.episodes import derived_seed
from wmcomponents.training import seed_everything


@dataclass
class DemoResult:
    """What the demo found; :meth:`line` is its last line on standard output."""

    env: str
    seed: int
    real_steps: int
    dream_steps: int
    seconds: float
    random_return: float
    dream_return: float
    real_return: float
    files: dict[str, str]
    returns: dict[str, list[float]] = field(default_factory=dict)

    def line(self) -> str:
        """One JSON object."""
        keys = ("env", "seed", "real_steps", "dream_steps", "seconds", "random_return", "dream_return", "real_return")
        return json.dumps({**{key: getattr(self, key) for key in keys}, "files": self.files})


def run_demo(
    config: DemoConfig,
    *,
    say: Callable[[str], None] = print,
    progress: bool = True,
    conclude: Callable[[DemoResult], Any] | None = None,
) -> DemoResult:
    """Run the demo from the first random step to the last image.

    Args:
        config: what to do.
        say: receives progress lines.
        progress: show progress bars on standard error.
        conclude: called with the result, before what only served to go on is removed.

    Returns:
        Mean returns over ``config.episodes`` episodes each, and the files written.

    Raises:
        Interrupted: after Ctrl-C, once what is at hand is whole and saved.
    """
    begun = time.perf_counter()
    check_place(demo_folder(config))
    with one_writer(demo_folder(config)), postponed() as request:
        demo = Demo(config, request=request, say=say, progress=progress)
        result = _run(demo, begun)
        if conclude is not None:
            conclude(result)
        request.check()
        demo.folder.finish()
        request.signum = None  # all is done: it came too late
    return result


def _run(demo: Demo, begun: float) -> DemoResult:
    from wmcomponents.evaluation.report import dream_report

    config, state = demo.config, demo.state
    if demo.folder.is_begun:
        number = min(state.round + 1, config.rounds)
        demo.say(f"going on in round {number} of {config.rounds}, with {demo.real_steps} real steps")
    else:
        state.random_returns = demo.real_returns(demo.policy(explore=True), seed=config.seed + 10_000)
        demo.folder.save()
    while state.round < config.rounds:
        demo.run_round()
    seed_everything(derived_seed(config.seed, "end"))
    policy = demo.policy(explore=False)
    random_returns = state.random_returns
    real_returns = demo.real_returns(policy, seed=config.seed + 20_000)
    dream_returns = demo.dream_returns()
    demo.request.check()
    model_path = demo.model.save_pretrained(demo.out / "model", starts=demo.starts(config.rounds - 1).pool)
    agent_path = demo.out / "agent.zip"
    with written_whole(agent_path) as file:
        demo.agent.save(file)
    demo.request.check()
    images = dream_report(
        demo.model,
        demo.fresh_env(),
        _Stoppable(policy, demo.request),
        env_id=config.env,
        out=demo.out,
        seed=config.seed,
    )
    return DemoResult(
        env=config.env,
        seed=config.seed,
        real_steps=demo.real_steps,
        dream_steps=state.dream_steps,
        seconds=round(time.perf_counter() - begun, 1),
        random_return=round(statistics.fmean(random_returns), 2),
        dream_return=round(statistics.fmean(dream_returns), 2),
        real_return=round(statistics.fmean(real_returns), 2),
        files={"model": str(model_path), "agent": str(agent_path), **{k: str(v) for k, v in images.items()}},
        returns={"random": random_returns, "dream": dream_returns, "real": real_returns},
    )


class _Stoppable(TensorDictModuleBase):
    """A policy that stops, when that is asked for, before it acts."""

    def __init__(self, policy: Any, request: Request) -> None:
        super().__init__()
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys
        self._policy, self._request = policy, request

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act."""
        self._request.check()
        return self._policy(tensordict)
