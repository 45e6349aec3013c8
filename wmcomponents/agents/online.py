"""Online training of any agent: collect in reality, fit the world model, learn in its dreams, look how it does."""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import ReplayBuffer
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents._interruption import Request, postponed
from wmcomponents._lock import one_writer
from wmcomponents._whole import write_whole
from wmcomponents.agents.agent import Agent
from wmcomponents.agents.real_steps import EpisodeEnd, RealSteps
from wmcomponents.agents.schedule import Schedule
from wmcomponents.data import load_replay, save_replay
from wmcomponents.data.episodes import derived_seed
from wmcomponents.data.returns import evaluate_policy
from wmcomponents.dream.experience import Experience
from wmcomponents.training import Trainer
from wmcomponents.training.logs import make_logger, rewind_csv
from wmcomponents.training.loop import SAVING_SHARE, DivergedError
from wmcomponents.training.nested_state import load_nested, save_nested
from wmcomponents.training.progress import REFRESH_SECONDS, progress_bar
from wmcomponents.world_model import LatentPolicy

POINTER = "bundle.json"
"""Names the folder of the newest whole bundle."""


class OnlineTrainer:
    """Improves a world model and an agent in it while the agent acts in reality.

    Each round takes real steps (at random until ``schedule.prefill``), then as many updates as are due: of the world
    model on real sequences, and of the agent on the same sequences, their states, or dreams from there.

    With ``out`` the whole run is kept there: model, optimisers, agent, replay buffer, episodes in progress, all random
    states, counters, in one bundle. A new trainer with the same arguments goes on from it, on a CPU to the bit, also
    after ``kill -9``: episodes in progress are repeated from their seeds. Ctrl-C and SIGTERM write a bundle first.

    Callbacks have the methods of Lightning's ``Callback`` that they care for: ``on_train_start(trainer, agent)``,
    ``on_train_batch_end(trainer, agent, outputs, batch, batch_idx)`` after each update of the model,
    ``on_validation_end(trainer, agent)`` after each evaluation, ``on_save_checkpoint(trainer, agent, checkpoint)``,
    ``on_exception(trainer, agent, exception)``, ``on_train_end(trainer, agent)``. They read ``trainer.global_step``
    (updates), ``trainer.real_steps`` and ``trainer.callback_metrics``, and stop the run by ``trainer.should_stop``.

    Args:
        make_env: makes a fresh environment without batch dimension: ``lambda: data.make_env("CartPole-v1")``.
        agent: acts and learns; holds the world model.
        replay: gets the real steps and gives sequences (``data.make_replay``), of as many streams as there are
            environments.
        schedule: when what is done.
        objective: of the world model; its own if not given.
        optimizer: of the world model; what the objective makes if not given.
        lr: learning rate of an optimiser that is made here; the paper's if not given.
        warmup: its warm-up steps; the paper's if not given.
        num_envs: environments side by side.
        processes: each environment in a process of its own.
        out: folder of the bundle and the logs; nothing is written if not given.
        save_seconds: seconds between bundles, or longer where writing takes more than a twentieth of the time.
        logger: ``"csv"`` or ``"tensorboard"`` into ``out``, a TorchRL logger (``WandbLogger``), or ``None``.
        callbacks: see above.
        progress: show a progress bar on standard error.
        seed: of episodes, random actions, sampling and evaluations.

    Raises:
        ValueError: if a number is out of range, or a logger is named without ``out``.
        BadCheckpointError: if ``out`` holds the bundle of another run.
    """

    def __init__(
        self,
        make_env: Callable[[], TransformedEnv],
        agent: Agent,
        replay: ReplayBuffer,
        schedule: Schedule | None = None,
        *,
        objective: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        warmup: int | None = None,
        num_envs: int = 1,
        processes: bool = False,
        out: str | Path | None = None,
        save_seconds: float = 30.0,
        logger: Any = None,
        callbacks: Sequence[Any] = (),
        progress: bool = True,
        seed: int = 0,
    ) -> None:
        self.agent, self.replay = agent, replay
        self.schedule = Schedule() if schedule is None else schedule
        self.out, self.save_seconds = None if out is None else Path(out), save_seconds
        self.callbacks, self.progress, self.seed = callbacks, progress, seed
        self._make_env = make_env
        model: Any = agent.model
        self.trainer = Trainer(
            model, replay, objective=objective, optimizer=optimizer, lr=lr, warmup=warmup, seed=seed, progress=False
        )
        replay.set_rng(self.trainer.sampling)
        self.experience = Experience(model, replay.sample, seed=derived_seed(seed, "experience"))
        self.real = RealSteps(
            make_env, agent.real_policy, streams=num_envs, processes=processes, seed=derived_seed(seed, "reality")
        )
        self._logger = make_logger(logger, self.out)
        self.episodes: list[EpisodeEnd] = []
        self.evaluations: list[dict[str, float]] = []
        self.callback_metrics: dict[str, float] = {}
        self.best: float | None = None
        self.should_stop = False
        self._pending: list[dict[str, Tensor]] = []
        self._due = math.inf
        if self.out is not None and (self.out / POINTER).is_file():
            self._resume(self.out)

    @property
    def real_steps(self) -> int:
        """Real steps so far, over all environments."""
        return self.real.steps

    @property
    def global_step(self) -> int:
        """Updates of the world model so far."""
        return self.trainer.steps

    def train(self, steps: int) -> dict[str, float]:
        """Take real steps until there are ``steps`` in all, counting those of a resumed run, with all that is due.

        Args:
            steps: the total to reach.

        Returns:
            The newest losses and diagnostics, and ``return``, the mean of the last 20 real episodes.

        Raises:
            DivergedError: if a loss, a return or a weight is not finite; the last bundle is whole.
            FolderInUseError: if another trainer writes to ``out``.
            KeyboardInterrupt: after Ctrl-C, once a bundle is written.
        """
        lock = contextlib.nullcontext() if self.out is None else one_writer(self.out)
        self.should_stop = False
        try:
            with lock, postponed() as request, progress_bar(self.progress, "online", self.real_steps, steps) as show:
                if self.out is not None:
                    rewind_csv(self.out / "logs", self.real_steps)
                    self._due = time.monotonic() + self.save_seconds
                self._call("on_train_start")
                self._train(steps, request, show)
                if self.out is not None:
                    self.save()
                self._call("on_train_end")
        except Exception as error:
            self._call("on_exception", error)
            raise
        finally:
            self.real.close_for_now()
        return dict(self.callback_metrics)

    def _train(self, steps: int, request: Request, show: Any) -> None:
        plan, shown = self.schedule, -math.inf
        while self.real_steps < steps and not self.should_stop:
            self._collect(steps)
            self._update(plan.updates_due(self.real_steps), request)
            evaluated = plan.evaluate_every and self.real_steps // plan.evaluate_every > len(self.evaluations)
            if evaluated:
                self.evaluate()
            now = time.monotonic()
            if now >= shown + REFRESH_SECONDS or evaluated:
                self._look()
                show(self.real_steps, self._shown())
                shown = now
            if self.out is not None and (request or now >= self._due):
                self.save()
            request.check()

    def _collect(self, steps: int) -> None:
        """Real steps until updates may be due."""
        plan, streams = self.schedule, self.real.streams
        at_random = self.real_steps < plan.prefill
        until = min(steps, plan.prefill if at_random else steps)
        count = max(1, min(max(1, plan.steps_between // streams), -(-(until - self.real_steps) // streams)))
        taken, ended = self.real.take(count, at_random=at_random)
        for row in self.real.lost:
            self._cut(row)
        self.real.lost = ()
        self._store(taken)
        for one in ended:
            if not math.isfinite(one[2]):
                raise DivergedError(f"the return of the episode that ended at real step {one[0]} is {one[2]}.")
            self.episodes.append(one)
            self._log({"real/return": one[2], "real/length": float(one[3])})

    def _store(self, taken: TensorDictBase) -> None:
        if self.real.streams > 1 and taken.shape[-1] == 1:
            # TensorDictReplayBuffer.extend cannot write its index into [N, 1] data (torchrl 0.14); the base stores it.
            ReplayBuffer.extend(self.replay, taken)
        else:
            self.replay.extend(taken)

    def _cut(self, row: int) -> None:
        """The newest stored step of a stream was the last of its episode."""
        cursor = int(cast(Any, self.replay.writer)._cursor)
        last = torch.tensor([(cursor - 1) % len(self.replay.storage)])
        step = cast(TensorDictBase, self.replay.storage.get(cast(Any, last)))
        where = (slice(None), row) if self.real.streams > 1 else (slice(None),)
        for name in ("truncated", "done"):
            step["next", name][where] = True
        self.replay.storage.set(cast(Any, last), step, set_cursor=False)

    def _update(self, due: int, request: Request) -> None:
        trainer, plan = self.trainer, self.schedule
        if trainer.steps >= due:
            return
        if trainer.steps == 0:
            trainer.prepare()
        while trainer.steps < due:
            batch = self.replay.sample()
            trainer.model.train()
            outputs = trainer.update(batch)
            trainer.model.eval()
            self._pending.append(outputs)
            if trainer.steps % plan.agent_every == 0 and self.agent.learns_from != "nothing":
                self._learn(batch)
            self._call("on_train_batch_end", outputs, batch, trainer.steps - 1)
            if self.out is not None and (request or time.monotonic() >= self._due):
                self.save()
                request.check()

    def _learn(self, batch: TensorDictBase) -> None:
        if self.agent.learns_from == "dreams":
            self.experience.renew()
        else:
            self.experience.offer(batch)
        found = self.agent.learn(self.experience)
        self.callback_metrics.update({f"agent/{name}": value for name, value in found.items()})

    def evaluate(self) -> float:
        """Mean return of whole real episodes without exploration, in an environment of its own."""
        env, policy = self._make_env(), self.agent.real_policy
        if hasattr(policy, "make_tensordict_primer"):
            env.append_transform(cast(Any, policy).make_tensordict_primer())
        draws = policy.generator_state() if isinstance(policy, LatentPolicy) else None
        random = torch.get_rng_state()
        seed = derived_seed(self.seed, "evaluation", len(self.evaluations))
        try:
            with set_exploration_type(ExplorationType.MODE):
                found = evaluate_policy(env, policy, self.schedule.evaluate_episodes, seed=seed)
        finally:
            env.close()
        torch.set_rng_state(random)
        if draws is not None:
            cast(LatentPolicy, policy).set_generator_state(draws)
        point = {"real_steps": self.real_steps, "updates": self.global_step, "return": found.mean}
        self.evaluations.append({**point, "dreamed_steps": self.agent.dreamed_steps})
        self.callback_metrics["evaluation/return"] = found.mean
        self._log({"evaluation/return": found.mean})
        if self.best is None or found.mean > self.best:
            self.best = found.mean
            if self.out is not None:
                self._export("best")
        self._call("on_validation_end")
        return found.mean

    def _look(self) -> None:
        if self._pending:
            self.trainer.look(self._pending)
            self._pending = []
        metrics = {f"model/{name}": value for name, value in self.trainer.losses.items()}
        recent = [one[2] for one in self.episodes[-20:]]
        if recent:
            metrics["return"] = sum(recent) / len(recent)
        self.callback_metrics.update(metrics)
        self._log({name: value for name, value in self.callback_metrics.items() if name != "evaluation/return"})

    def _shown(self) -> dict[str, float]:
        metrics = self.callback_metrics
        losses = {name.partition("/")[2]: value for name, value in metrics.items() if "/loss_" in name}
        told = {name: metrics[name] for name in ("return", "evaluation/return") if name in metrics}
        return {**told, "updates": self.global_step, "dreamed": self.agent.dreamed_steps, **losses}

    def _log(self, numbers: Mapping[str, float]) -> None:
        if self._logger is not None:
            for name, value in numbers.items():
                self._logger.log_scalar(name, value, step=self.real_steps)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            method = getattr(callback, hook, None)
            if method is not None:
                method(self, self.agent, *arguments)

    # -- the bundle ----------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the bundle now: a folder of its own, then the file that names it."""
        out = cast(Path, self.out)
        begun = time.monotonic()
        self._look()
        self.trainer.check_weights()
        name = f"bundle-{self.real_steps}-{self.global_step}-{time.time_ns()}"
        folder = out / name
        folder.mkdir(parents=True)
        self.trainer.write(folder / "model.safetensors")
        state = {
            "agent": self.agent.state_dict(),
            "real": self.real.state_dict(),
            "experience": self.experience.generator.get_state(),
            "episodes": self.episodes,
            "evaluations": self.evaluations,
            "metrics": self.callback_metrics,
            "best": self.best,
        }
        self._call("on_save_checkpoint", state)
        save_nested(folder / "agent.safetensors", state)
        if len(self.replay):
            save_replay(cast(Any, self.replay), folder / "data")
        write_whole(out / POINTER, json.dumps({"bundle": name, "real_steps": self.real_steps}) + "\n")
        for other in out.glob("bundle-*"):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)
        self._due = time.monotonic() + max(self.save_seconds, (time.monotonic() - begun) / SAVING_SHARE)

    def _resume(self, out: Path) -> None:
        folder = out / json.loads((out / POINTER).read_text())["bundle"]
        state = load_nested(folder / "agent.safetensors")
        if (folder / "data").exists():
            load_replay(cast(Any, self.replay), folder / "data")
            self.replay.set_rng(self.trainer.sampling)
        self.real.load_state_dict(state["real"])
        self.episodes = [cast(EpisodeEnd, tuple(one)) for one in state["episodes"]]
        self.evaluations, self.best = state["evaluations"], state["best"]
        self.callback_metrics = state["metrics"]
        self.experience.generator.set_state(state["experience"])
        self.agent.load_state_dict(state["agent"])
        self.trainer.read(folder / "model.safetensors")  # last: with it torch's own generator

    def _export(self, name: str) -> None:
        """The model, with starts, and the agent, as they are now, for `wmc eval` and `wmc dream`."""
        folder = cast(Path, self.out) / name
        folder.mkdir(parents=True, exist_ok=True)
        save = getattr(self.agent.model, "save_pretrained", None)
        if save is not None:
            save(folder / "model")
        save_nested(folder / "agent.safetensors", self.agent.state_dict())
