"""Online training of any agent: collect in reality, fit the world model, learn in its dreams, look how it does."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import ReplayBuffer
from torchrl.envs import SerialEnv, TransformedEnv

from wmcomponents._global_batch import global_rows
from wmcomponents._interruption import Request, postponed
from wmcomponents._lock import FolderInUseError, one_writer
from wmcomponents._whole import check_place
from wmcomponents.agents import bundle
from wmcomponents.agents.agent import Agent
from wmcomponents.agents.draws import check_alike, own_draws, with_draws
from wmcomponents.agents.export import export_agent, start_states
from wmcomponents.agents.real_steps import EpisodeEnd, RealSteps
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.shares import load_shares, of_rank, share_of
from wmcomponents.data import PrioritizedSequenceSampler, save_replay
from wmcomponents.data.acting import acting_aside
from wmcomponents.data.episodes import derived_seed
from wmcomponents.data.returns import evaluate_policy
from wmcomponents.dream.experience import Experience
from wmcomponents.training import BadCheckpointError, Ranks, Trainer
from wmcomponents.training.checkpoint import changes
from wmcomponents.training.logs import make_logger, rewind_csv
from wmcomponents.training.loop import SAVING_SHARE, DivergedError
from wmcomponents.training.nested_state import load_nested, not_numbers, save_nested
from wmcomponents.training.parallel import ParallelKind
from wmcomponents.training.progress import REFRESH_SECONDS, progress_bar
from wmcomponents.training.ranks import stop_together

RECENT_EPISODES = 20
"""Real episodes over which the return is averaged that is shown and returned."""

MOST_AT_ONCE = 64
"""Most steps of each environment between two looks at the clock and at requests to stop."""


class OnlineTrainer:
    """Improves a world model and an agent in it while the agent acts in reality.

    Each round takes real steps (at random until ``schedule.prefill``), then as many updates as are due: of the world
    model on real sequences, and of the agent on the same sequences, their states, or dreams from there.

    With ``out`` the whole run is kept there: model, optimisers, agent, replay buffer, episodes in progress, all random
    states, counters, in one bundle. A new trainer with the same arguments goes on from it, on a CPU to the bit, also
    after ``kill -9``: episodes in progress are repeated from their seeds. Ctrl-C and SIGTERM write a bundle first.

    In processes that `torchrun` has started, every one of them builds the same trainer, with ``num_envs`` environments
    and a replay buffer of its own, and they improve one model and one agent: each learns from what it has collected,
    and a step is that of all their batches. Counts of real steps are over all of them. The first process evaluates,
    shows, logs, calls the callbacks, and writes; in the bundle each keeps its replay buffer, and any number of
    processes goes on from it. The agent averages its gradients over the processes, as the actor-critics of this
    library do, or is refused.

    Callbacks have the methods of Lightning's ``Callback`` that they care for: ``setup(trainer, agent, stage)`` when the
    trainer is built, ``on_train_start(trainer, agent)``, ``on_train_batch_end(trainer, agent, outputs, batch,
    batch_idx)`` after each update of the model, ``on_validation_end(trainer, agent)`` after each evaluation,
    ``on_save_checkpoint(trainer, agent, checkpoint)``, ``on_exception(trainer, agent, exception)``,
    ``on_train_end(trainer, agent)``. They read ``trainer.global_step`` (updates), ``trainer.real_steps`` and
    ``trainer.callback_metrics``, and stop the run by ``trainer.should_stop``.

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
        parallel: with several processes, how they train the model; see :class:`Trainer`.
        ranks: the processes; see :class:`Trainer`.

    Attributes:
        about: what is noted beside an export: in which ``env`` and by which ``env_options`` (``data.make_env``) the
            agent acted, and how it is made again (``agent``, ``seed``, ``behaviour``); a whole agent fills it.
        logger: the TorchRL logger that is written to, or ``None``.

    Raises:
        ValueError: if a number is out of range, a logger is named without ``out``, or sequences are to be drawn by
            priorities that the objective does not know.
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
        parallel: ParallelKind = "ddp",
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = Ranks.joined() if ranks is None else ranks
        self.agent, self.replay = agent, replay
        self.schedule = Schedule() if schedule is None else schedule
        self.out, self.save_seconds = None if out is None else Path(out), save_seconds
        self.callbacks = callbacks if self.ranks.is_first else ()
        self.progress, self.seed = progress and self.ranks.is_first, seed
        self.make_env = make_env
        model: Any = agent.model
        self.trainer = Trainer(
            model, replay, objective=objective, optimizer=optimizer, lr=lr, warmup=warmup, seed=seed, progress=False,
            parallel=parallel, ranks=self.ranks,
        )  # fmt: skip
        if isinstance(replay.sampler, PrioritizedSequenceSampler) and not hasattr(self.trainer.objective, "priorities"):
            raise ValueError(
                f"{type(self.trainer.objective).__name__} knows no priorities of what it learned from: build the "
                f"replay buffer without priorities, or give the objective a method priorities(batch), [B, T]."
            )
        replay.set_rng(self.trainer.sampling)
        seeds = [self.ranks.seed(derived_seed(seed, what)) for what in ("experience", "reality")]
        self.experience = Experience(model, replay.sample, rewrite=getattr(replay, "rewrite", None), seed=seeds[0])
        self.real = RealSteps(make_env, agent.real_policy, streams=num_envs, processes=processes, seed=seeds[1])
        self.logger = make_logger(logger, self.out) if self.ranks.is_first else None
        self.episodes: list[EpisodeEnd] = []
        self.evaluations: list[dict[str, float]] = []
        self.callback_metrics: dict[str, float] = {}
        self.best: float | None = None
        self.should_stop = False
        self.about: Mapping[str, Any] = {}
        self._pending: list[dict[str, Tensor]] = []
        self._due = math.inf
        self._is_whole, self._known = True, None if self.out is None else bundle.newest(self.out)
        self._call("setup", "fit")
        self._is_proven = False
        if not self.ranks.is_first:
            state = agent.state_dict()
            agent.load_state_dict(with_draws(state, own_draws(state, self.ranks, seed)))
        if self._known is not None:
            self._resume(self._known)
        self.ranks.check_same("real steps", self.real_steps)

    @property
    def real_steps(self) -> int:
        """Real steps so far, over all environments of all processes."""
        return self.real.steps * self.ranks.count

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
            FolderInUseError: if another trainer writes to ``out``, or has since this one was built.
            KeyboardInterrupt: after Ctrl-C, once a bundle is written.
            RuntimeError: if an error stopped this trainer before: another one goes on from the last bundle.
        """
        if not self._is_whole:
            raise RuntimeError("an error stopped this run in the middle: build a new trainer, with out= of a bundle.")
        self.should_stop, self._is_whole = False, False
        bar = progress_bar(self.progress, "online", self.real_steps, steps)
        again = "" if self.out is None else f" Start all of them again to go on from the last bundle in {self.out}."
        try:
            with self._writer(), postponed() as request, bar as show, self.ranks.together(again):
                self._begin()
                self._call("on_train_start")
                self._train(steps, request, show)
                self._look()
                show(self.real_steps, *self._shown())
                if self.out is not None:
                    self.save()
                self._call("on_train_end")
                self._is_whole = True
        except BaseException as error:
            self._call("on_exception", error)
            raise
        finally:
            self.real.close()
        return dict(self.callback_metrics)

    def _writer(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.out is None or not self.ranks.is_first else one_writer(self.out)

    def _begin(self) -> None:
        """Once the folder is this trainer's alone: what others did there, and what a killed run left."""
        self.trainer.share()
        check_alike(self.agent.state_dict(), self.ranks, type(self.agent).__name__)
        if self.out is None or not self.ranks.is_first:
            return
        check_place(self.out)
        self._check_known(self.out)
        bundle.sweep(self.out, self._known)
        rewind_csv(self.out / "logs", self.real_steps)
        # A bundle may be written at the step of an evaluation, before it.
        evaluated = int(self.evaluations[-1]["real_steps"]) if self.evaluations else -1
        rewind_csv(self.out / "logs", evaluated, "evaluation/*")
        self._due = time.monotonic() + self.save_seconds

    def _check_known(self, out: Path) -> None:
        """Refuse a folder whose newest bundle is another trainer's: it would be lost."""
        if self.ranks.is_first and bundle.newest(out) != self._known:
            raise FolderInUseError(
                f"another trainer has written to {out} since this one was built: build it again to go on there."
            )

    def _train(self, steps: int, request: Request, show: Any) -> None:
        plan, shown = self.schedule, -math.inf
        while not self.should_stop:
            # First what is due already: a bundle may have been written in the middle of it.
            self._update(plan.updates_due(self.real_steps), request)
            if plan.evaluate_every and self.real_steps // plan.evaluate_every > self._evaluated():
                self.evaluate()
                shown = -math.inf
            now = time.monotonic()
            is_shown = self.ranks.is_first and now >= shown + REFRESH_SECONDS
            self.should_stop, is_shown = self.ranks.any(self.should_stop, is_shown)
            if self.real_steps >= steps or self.should_stop:
                return
            if is_shown:
                self._look()
                show(self.real_steps, *self._shown())
                shown = now
            self._keep_if_asked(request)
            self._collect(steps)

    def _keep_if_asked(self, request: Request) -> None:
        """Write a bundle if one is due or the run is to stop, and stop then; only where the run is whole."""
        is_asked, is_due = self.ranks.any(bool(request), time.monotonic() >= self._due)
        if self.out is not None and (is_asked or is_due):
            self.save()
        self._is_whole = is_asked
        stop_together(request, is_asked)

    def _evaluated(self) -> int:
        """How many times the real steps had passed a multiple of ``evaluate_every`` at the last evaluation."""
        last = int(self.evaluations[-1]["real_steps"]) if self.evaluations else 0
        return last // self.schedule.evaluate_every

    def _collect(self, steps: int) -> None:
        """Real steps until something may be due."""
        plan, streams = self.schedule, self.real.streams * self.ranks.count
        until = min(steps, plan.next_look(self.real_steps))
        count = min(MOST_AT_ONCE, -(-(until - self.real_steps) // streams))
        taken, ended = self.real.take(count, at_random=self.real_steps < plan.prefill)
        for row in self.real.lost:
            self._cut(row)
        self._store(taken)
        for one in self._of_all(ended):
            self.episodes.append(one)
            self._log({"real/return": one[2], "real/length": float(one[3])}, one[0])

    def _of_all(self, ended: list[EpisodeEnd]) -> list[EpisodeEnd]:
        """The ends of all processes' episodes, their steps counted over all, by streams of all."""
        count = self.ranks.count
        if count == 1:
            return ended
        first = self.ranks.rank * self.real.streams
        own = [[steps * count, first + row, total, length] for steps, row, total, length in ended]
        with self.trainer.parallel.batch_is_shared():
            table = global_rows(torch.tensor(own, dtype=torch.float64).reshape(-1, 4))
        return [_episode(row) for row in table.tolist()]

    def _store(self, taken: TensorDictBase) -> None:
        if self.real.streams > 1 and taken.shape[-1] == 1:
            # TensorDictReplayBuffer.extend cannot write its index into [N, 1] data (torchrl 0.14); the base stores it.
            ReplayBuffer.extend(self.replay, taken)
        else:
            self.replay.extend(taken)

    def _cut(self, row: int) -> None:
        """The newest stored step of a stream was the last of its episode."""
        cursor = int(cast(Any, self.replay.writer)._cursor)
        last = torch.tensor([(cursor - 1) % len(cast(Any, self.replay.storage))])
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
            if isinstance(self.replay.sampler, PrioritizedSequenceSampler):
                self.replay.update_priority(batch["index"], cast(Any, trainer.objective).priorities(batch))
            self._pending.append(outputs)
            if self.agent.learns_from != "nothing":
                before, now = (plan.agent_updates_due(updates) for updates in (trainer.steps - 1, trainer.steps))
                for number in range(now - before):
                    self._learn(batch if number == 0 else None)
            self._call("on_train_batch_end", outputs, batch, trainer.steps - 1)
            self._keep_if_asked(request)

    def _learn(self, batch: TensorDictBase | None) -> None:
        if self.agent.learns_from == "dreams":
            self.experience.renew()
        elif batch is not None:
            self.experience.offer(batch)
        with self.trainer.parallel.batch_is_shared():
            found = self.agent.learn(self.experience)
        if not self._is_proven:
            check_alike(self.agent.state_dict(), self.ranks, type(self.agent).__name__)
            self._is_proven = True
        self.callback_metrics.update({f"agent/{name}": value for name, value in found.items()})

    def evaluate(self) -> float:
        """Mean return of whole real episodes without exploration, in as many environments of its own as there are."""
        mean = self.ranks.of_first(self._evaluated_mean() if self.ranks.is_first else 0.0)
        if not math.isfinite(mean):
            raise DivergedError(f"the return of the evaluation at real step {self.real_steps} is {mean}.")
        point = {"real_steps": self.real_steps, "updates": self.global_step, "return": mean}
        self.evaluations.append({**point, "dreamed_steps": self.agent.dreamed_steps})
        self.callback_metrics["evaluation/return"] = mean
        self._log({"evaluation/return": mean})
        if self.best is None or mean > self.best:
            self.best = mean
            if self.out is not None:
                self.export("best")
        self._call("on_validation_end")
        return mean

    def _evaluated_mean(self) -> float:
        policy = self.agent.real_policy
        seed = derived_seed(self.seed, "evaluation", len(self.evaluations))
        with acting_aside(self._evaluated_in, policy) as env:
            return float(evaluate_policy(env, policy, self.schedule.evaluate_episodes, seed=seed).mean)

    def _evaluated_in(self) -> TransformedEnv:
        """A fresh environment, side by side where the run has several, so that a plan is made for all at once."""
        if self.real.streams == 1:
            return self.make_env()
        return TransformedEnv(SerialEnv(self.real.streams, self.make_env), auto_unwrap=False)

    def _look(self) -> None:
        if self._pending:
            self.trainer.look(self._pending)
            self._pending = []
        metrics = {f"model/{name}": value for name, value in self.trainer.losses.items()}
        recent = [one[2] for one in self.episodes[-RECENT_EPISODES:]]
        if recent:
            metrics["return"] = sum(recent) / len(recent)
        self.callback_metrics.update(metrics)
        self._log({name: value for name, value in self.callback_metrics.items() if name != "evaluation/return"})

    def _shown(self) -> tuple[dict[str, float], None, dict[str, float]]:
        """Losses, no stage, and the counts and returns beside them, for the progress bar."""
        metrics = self.callback_metrics
        losses = {name.partition("/")[2]: value for name, value in metrics.items() if "/loss_" in name}
        told = {name: metrics[name] for name in ("return", "evaluation/return") if name in metrics}
        return losses, None, {**told, "updates": self.global_step, "dreamed": self.agent.dreamed_steps}

    def _log(self, numbers: Mapping[str, float], step: int | None = None) -> None:
        if self.logger is not None:
            for name, value in numbers.items():
                self.logger.log_scalar(name, value, step=self.real_steps if step is None else step)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            method = getattr(callback, hook, None)
            if method is not None:
                method(self, self.agent, *arguments)

    # -- the bundle ----------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the bundle now: a folder of its own, then the file that names it.

        Raises:
            DivergedError: if a loss, a weight or a number of the agent's is not finite; the last bundle is as it was.
            FolderInUseError: if another trainer has written to ``out`` since this one was built.
            ValueError: if the trainer has no ``out``.
        """
        if self.out is None:
            raise ValueError("this trainer writes no bundle: build it with out=FOLDER.")
        begun = time.monotonic()
        self._look()
        self.trainer.check_weights()
        state = {
            "settings": self._settings(),
            "agent": self.agent.state_dict(),
            "real": self.real.state_dict(),
            "experience": self.experience.generator.get_state(),
            "sampler": self._sampler_state(),
            "episodes": self.episodes,
            "evaluations": self.evaluations,
            "metrics": self.callback_metrics,
            "best": self.best,
            "ranks": self.ranks.count,
        }
        self._call("on_save_checkpoint", state)
        odd = next(not_numbers({name: state[name] for name in ("agent", "real")}, "the state"), None)
        if odd is not None:
            raise DivergedError(
                f"{odd} is NaN at real step {self.real_steps}, update {self.global_step}. The last bundle is from "
                f"before: lower the learning rate, and build a new trainer with the same out to go on from there."
            )

        def fill(folder: Path) -> None:
            self.trainer.write(folder / "model.safetensors")
            own = bundle.part_of(folder, self.ranks.rank)
            own.mkdir(exist_ok=True)
            save_nested(own / "agent.safetensors", state if self.ranks.is_first else share_of(state))
            if len(self.replay):
                save_replay(cast(Any, self.replay), own / "data")

        with self._writer():
            self._check_known(self.out)
            self._known = bundle.write(self.out, self.real_steps, self.global_step, fill, self.ranks)
        self._due = time.monotonic() + max(self.save_seconds, (time.monotonic() - begun) / SAVING_SHARE)

    def _sampler_state(self) -> dict[str, Any]:
        """What the folder of the steps does not tell: their priorities."""
        sampler = self.replay.sampler
        return sampler.state_dict() if isinstance(sampler, PrioritizedSequenceSampler) else {}

    def _settings(self) -> dict[str, Any]:
        """What must be the same in the run that goes on."""
        kinds = {"agent": type(self.agent).__name__, "learns_from": self.agent.learns_from}
        schedule = json.loads(json.dumps(asdict(self.schedule)))  # as it is read again: tuples as lists
        return {**kinds, "schedule": schedule, "seed": self.seed, "num_envs": self.real.streams}

    def _resume(self, folder: Path) -> None:
        try:
            state = load_nested(folder / "agent.safetensors")
            other = changes(state["settings"], self._settings())
            if other:
                raise BadCheckpointError(
                    f"{folder.parent} belongs to another run: {'; '.join(other[:3])}. Go on with the arguments it was "
                    f"written with, or choose another folder."
                )
            self.episodes = [_episode(one) for one in state["episodes"]]
            self.evaluations, self.best = [dict(one) for one in state["evaluations"]], state["best"]
            self.callback_metrics = dict(state["metrics"])
            own = of_rank(state, folder, self.ranks, self.seed)
            steps = int(state["real"]["steps"]) * own.written_by
            if own.real is None:  # fewer processes wrote the bundle: this one begins episodes of its own
                self.real.steps = steps // self.ranks.count
            else:
                self.real.load_state_dict({**own.real, "steps": steps // self.ranks.count})
                self.experience.generator.set_state(own.experience)
            if self.real_steps:
                load_shares(cast(Any, self.replay), folder, own.written_by, self.ranks)
                self.replay.set_rng(self.trainer.sampling)
            # Priorities go with the steps that they are of; those of other processes begin anew.
            if isinstance(self.replay.sampler, PrioritizedSequenceSampler) and own.sampler is not None:
                self.replay.sampler.load_state_dict(own.sampler)
            self.agent.load_state_dict(with_draws(state["agent"], own.draws))
            self.trainer.read(folder / "model.safetensors")  # last: with it torch's own generator
        except BadCheckpointError:
            raise
        except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise BadCheckpointError(
                f"{folder} is damaged, or was written by another run ({error}): choose another folder, or go on with "
                f"the arguments it was written with."
            ) from error
        self._call("on_load_checkpoint", state)

    def export(self, name: str) -> None:
        """Write the model with start states, and the agent, as they are now, for `wmc dream` and `wmc eval`.

        Of several processes the first one does.

        Args:
            name: of the folder in ``out``; what lies in it is told by :func:`~wmcomponents.agents.export.export_agent`.
        """
        if not self.ranks.is_first:
            return
        starts = None
        if self.global_step:  # before, there may be too few real steps to draw from
            sampling = self.trainer.sampling
            starts = start_states(self.agent.model, self.replay, sampling, derived_seed(self.seed, "starts"))
        about = {**self.about, "steps": self.real_steps}
        export_agent(cast(Path, self.out) / name, self.agent, about, updates=self.global_step, starts=starts)


def _episode(saved: Any) -> EpisodeEnd:
    steps, stream, total, length = saved
    return int(steps), int(stream), float(total), int(length)
