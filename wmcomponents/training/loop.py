"""One resumable training loop for every world model, and for encoders before them."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import ReplayBuffer

from wmcomponents._arguments import of_kind
from wmcomponents._global_batch import global_rows
from wmcomponents._interruption import Request, postponed
from wmcomponents._lock import FolderInUseError, one_writer
from wmcomponents._whole import unfinished
from wmcomponents.data.fit import check_data, non_finite_keys
from wmcomponents.objectives import ModelLoss
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.pretrained import PretrainedModule
from wmcomponents.training.checkpoint import load_checkpoint, save_checkpoint
from wmcomponents.training.logs import make_logger, rewind_csv
from wmcomponents.training.optimizer_state import whole_state
from wmcomponents.training.parallel import ParallelKind, parallel_of
from wmcomponents.training.progress import REFRESH_SECONDS, progress_bar
from wmcomponents.training.random_state import random_states
from wmcomponents.training.ranks import Ranks, stop_together
from wmcomponents.training.setup import check_counts, optimizer_of, settings_of
from wmcomponents.training.stages import planned
from wmcomponents.world_model import WorldModel

SMOOTHING = 0.98
"""Of the losses shown and returned: an exponential average over about 50 steps."""

PREPARING_BATCHES, PREPARING_BYTES = 32, 2**26
"""Most data from which a fresh model estimates what it does not learn (``WorldModel.prepare``)."""

SAVING_SHARE = 0.05
"""Most of the time that bundles written by the clock may take: large ones are written less often."""


class DivergedError(RuntimeError):
    """A loss or a weight is not finite; the message names it, the step, and data that are not finite either."""


class Trainer:
    """Fits a world model to a replay buffer, step by step, and can be stopped at any moment.

    With ``out`` given, a bundle of everything that decides the future (weights, optimiser, generators, counters) is
    written there every ``checkpoint_every`` steps and every ``checkpoint_seconds``, and a new trainer with the same
    arguments goes on from it: on a CPU to the bit. The data must be the same; the buffer itself is not part of the
    bundle (``data.save_replay``), and must not draw ahead (``prefetch``). What a bundle was written with (model,
    objective, optimiser, seed) must be the same again; learning rate, warm-up and device may be others.

    Ctrl-C, SIGTERM and a closed terminal are taken between two updates: the one at hand is finished and a bundle is
    written before ``KeyboardInterrupt`` is raised. A second one stops at once.

    In processes that `torchrun` has started, every one of them builds the same trainer, and they train one model: each
    samples batches of its own, with noise of its own, and a step is that of all their batches together. Losses and
    statistics are those of the global batch. The first process alone shows, logs and writes, and the bundle is the one
    that a single process would write: any number of processes goes on from it.

    Args:
        model: the world model, or a model that pretrains an encoder; put in training mode during :meth:`train`, in
            eval mode after it.
        replay: gives sequences ``[B, T]`` by ``sample()``, as ``data.make_replay`` builds it. Its sampling is seeded
            here.
        objective: a TorchRL ``LossModule``; the model's own if not given. What it returns under ``loss_*`` is summed.
            If it draws noise, it does so from torch's global generator, or is a ``ModelLoss`` with its own.
        optimizer: steps the parameters; if not given, what the objective makes (``ModelLoss.make_optimizer``: the
            paper's), or LaProp with adaptive gradient clipping for an objective that makes none.
        lr: learning rate of an optimiser that is made here; the paper's if not given (small models in a hurry: 1e-3).
        warmup: its warm-up steps; the paper's if not given.
        schedule: factor on the learning rate of every parameter group at each step (from 0), such as
            :class:`ConstantThenDecay`.
        out: folder of the checkpoint and of the logs; nothing is written if not given.
        checkpoint_every: steps between bundles.
        checkpoint_seconds: seconds after which one is written though, or longer where writing takes more than a
            twentieth of the time; ``None`` goes by steps alone.
        log_every: steps between log lines; also how often the losses are looked at (and found not finite).
        logger: ``"csv"`` or ``"tensorboard"`` (extra ``logging``) into ``out``, a TorchRL logger, or ``None``.
        progress: show a progress bar on standard error.
        seed: of the sampling.
        compile: call the objective's ``compile()``, where that pays off; an objective for which it does not refuses.
        accumulate: batches whose gradients are averaged for one step: the same as one batch of all of them, where a
            loss is a mean over elements of equal weight, in the memory of one.
        precision: ``"bf16"`` computes losses under ``torch.autocast``; weights and optimiser stay as they are.
        parallel: with several processes, how they share the work: ``"ddp"`` keeps everything in each of them,
            ``"fsdp"`` (FSDP2) cuts gradients and the optimiser's state into shards.
        ranks: the processes; those that `torchrun` has started if not given, or else this one alone. ``Ranks()`` trains
            alone in any case.

    Raises:
        ValueError: if a logger is named without ``out``, a count is below 1, the precision is unknown, or the model has
            nothing to train.
        BadCheckpointError: if ``out`` holds the bundle of another run.
    """

    def __init__(
        self,
        model: WorldModel | PretrainedModule,
        replay: ReplayBuffer,
        *,
        objective: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        warmup: int | None = None,
        schedule: Callable[[int], float] | None = None,
        out: str | Path | None = None,
        checkpoint_every: int = 500,
        checkpoint_seconds: float | None = 10.0,
        log_every: int = 50,
        logger: Literal["csv", "tensorboard"] | Any | None = None,
        progress: bool = True,
        seed: int = 0,
        compile: bool = False,
        accumulate: int = 1,
        precision: Literal["float32", "bf16"] = "float32",
        parallel: ParallelKind = "ddp",
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = Ranks.joined() if ranks is None else ranks
        of_kind("model", model, (WorldModel, PretrainedModule), "a WorldModel; the order is Trainer(model, replay)")
        of_kind("replay", replay, ReplayBuffer, "a replay buffer of real steps (data.make_replay, data.collect)")
        self.model = model
        self.replay = replay
        self.objective = model.objective() if objective is None else objective
        check_counts(checkpoint_every, log_every, accumulate, precision)
        self.optimizer = optimizer_of(self.objective, optimizer, lr, warmup, of=type(model).__name__)
        self.schedule = schedule
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        decisive: dict[str, Any] = {"seed": seed, "accumulate": accumulate, "precision": precision}
        if optimizer is None:
            decisive.update(lr=lr, warmup=warmup)
        self._settings = settings_of(model, self.optimizer, schedule, decisive)
        self.out = None if out is None else Path(out)
        self.checkpoint_every, self.checkpoint_seconds = checkpoint_every, checkpoint_seconds
        self.log_every = log_every
        self.accumulate, self.precision = accumulate, precision
        self.progress = progress and self.ranks.is_first
        self.steps = 0
        self.losses: dict[str, float] = {}
        self.probes: dict[str, float] = {}
        self.parallel = parallel_of(parallel, self.objective, self.optimizer, self.ranks)
        self.sampling = torch.Generator().manual_seed(self.ranks.seed(seed))
        for name, generator in self._generators().items():
            if name != "replay" and not self.ranks.is_first:
                generator.manual_seed(self.ranks.seed(generator.initial_seed(), name))
        self._logger = make_logger(logger, self.out) if self.ranks.is_first else None
        self._was_begun = self._was_checked = False
        self._planned: list[int] | None = None
        self._known: tuple[int, ...] | None = None
        self._due = math.inf
        if compile:
            self.objective.compile()
        if self.out is not None and os.path.lexists(self.checkpoint):
            self.resume()
        self.ranks.check_same("updates", self.steps)

    @property
    def checkpoint(self) -> Path:
        """The bundle's file."""
        if self.out is None:
            raise ValueError("this trainer writes no checkpoint: build it with out=FOLDER.")
        return self.out / "checkpoint.safetensors"

    def train(self, steps: int | Mapping[str, int]) -> dict[str, float]:
        """Take updates until ``steps`` have been taken in all, counting those of a resumed run.

        Args:
            steps: the total to reach; of an objective with stages also the updates of each, by its name.

        Returns:
            The losses and diagnostics, averaged over about the last 50 steps; of an objective with stages, those of the
            last step's stage. What is told of the model where losses are logged, such as whether its embeddings have
            collapsed, is in ``probes``, as of the last log line.

        Raises:
            DivergedError: if a loss is not finite.
            OtherDataError: if the buffer holds steps of another environment than the model was made for.
            ReplayTooShortError, EmptyReplayError: if the buffer cannot give a sequence.
            FolderInUseError: if another trainer writes to ``out``, or has since this one was built.
            ValueError: if stages are named that the objective does not have, or that contradict the steps taken.
            KeyboardInterrupt: after Ctrl-C, once the update is finished and its bundle written.

        Warns:
            UntrainedStageWarning: if a stage of the objective does not begin within these steps.
        """
        total = planned(self.objective, steps, taken=self.steps)
        if isinstance(steps, Mapping):
            self._planned = list(cast(StagedModelLoss, self.objective).stage_steps)
        self.replay.set_rng(self.sampling)
        self.model.train()
        try:
            with self._writer(), postponed() as request, self.ranks.together(self._kept_until()):
                self._begin()
                with progress_bar(self.progress, "world model", self.steps, total) as show:
                    self._train(total, show, request)
                self.ranks.wait()  # until the bundle is there for all, who may go on from it at once
        finally:
            self.model.eval()
        return dict(self.losses)

    def _writer(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.out is None or not self.ranks.is_first else one_writer(self.out)

    def _kept_until(self) -> str:
        """What becomes of a run that loses a process."""
        if self.out is None:
            return ""
        return f" The last bundle in {self.out} is whole: start all of them again to go on from there."

    def _begin(self) -> None:
        """Once the folder is this trainer's alone: what others left there, and the first look at the data."""
        if self.out is not None and self.ranks.is_first:
            if self._known != (known := _signature(self.checkpoint)) and known is not None:
                raise FolderInUseError(
                    f"{self.checkpoint} was written by another trainer since this one was built: build it again to go "
                    f"on from there."
                )
            if not self._was_begun:
                unfinished(self.checkpoint).unlink(missing_ok=True)
                rewind_csv(self.out / "logs", self.steps)
                self._was_begun = True
            self._due = self._next_due(0.0)
        if self.steps == 0:
            self.prepare()
        self.share()

    def share(self) -> None:
        """Give all processes the first one's weights, and each draws of its own from torch's generator (dropout)."""
        if self.ranks.count == 1:
            return
        if self.steps == 0 and not self.ranks.is_first:
            torch.manual_seed(self.ranks.seed(torch.initial_seed() % 2**32, "torch"))
        self.ranks.alike(self.model, self.objective)
        self.parallel.changed()

    def _train(self, steps: int, show: Callable[..., None], request: Request) -> None:
        pending: list[dict[str, Tensor]] = []
        newest: dict[str, float] = {}
        shown = -math.inf
        while self.steps < steps:
            batches = [self.replay.sample() for _ in range(self.accumulate)]
            pending.append(self.update(*batches))
            now, is_last = time.monotonic(), self.steps == steps
            is_logged = is_last or self.steps % self.log_every == 0
            # Clocks differ, and a signal may reach one process alone: all do what any of them is to do.
            is_asked, is_shown, is_due = self.ranks.any(
                bool(request), self.progress and now >= shown + REFRESH_SECONDS, now >= self._due
            )
            is_shown |= is_logged
            is_due |= is_asked or self.steps % self.checkpoint_every == 0
            is_kept = self.out is not None and (is_last or is_due)
            # Nothing is kept that was not looked at: a bundle never holds what came after a loss that is not finite.
            if is_shown or is_kept:
                newest = self.look(pending)
                pending = []
            if is_shown:
                show(self.steps, self.losses, self.stage)
                shown = now
            if is_logged:
                self.probes = self.probe(batches[-1])
                self._log(newest | self.probes)
            if is_kept:
                self.check_weights()
                self.save()
            if is_asked:  # what is asked from here on is taken after the next update, which is saved then
                stop_together(request, is_asked)

    @property
    def stage(self) -> str | None:
        """What the objective trains now, if it has stages."""
        return self.objective.stage if isinstance(self.objective, StagedModelLoss) else None

    def prepare(self) -> None:
        """Look at the data for the first time, and let a fresh model estimate from them what it does not learn."""
        batch = self.replay.sample()
        self._check_data(batch)
        if not isinstance(self.model, WorldModel):
            return  # what is no world model learns all that it has
        count = max(1, min(PREPARING_BATCHES, PREPARING_BYTES // max(1, batch.bytes())))
        batches = [batch, *(self.replay.sample() for _ in range(count - 1))]
        self.model.prepare(cast(TensorDictBase, torch.cat([self._of_all(one) for one in batches])))
        self.parallel.changed()

    def _of_all(self, batch: TensorDictBase) -> Any:
        """The batches of all processes as one."""
        if self.ranks.count == 1:
            return batch
        with self.parallel.batch_is_shared():
            return batch.apply(global_rows, batch_size=[self.ranks.count * len(batch), *batch.shape[1:]])

    def update(self, *batches: TensorDictBase) -> dict[str, Tensor]:
        """One gradient step; returns the detached losses and diagnostics without waiting for the device.

        Args:
            *batches: sequences ``[B, T]``; the gradients of several are averaged.

        Raises:
            ValueError: if the objective returns no ``loss_*``, or one that is not a scalar.
            OtherDataError: if the first batch does not fit the model.
        """
        self._check_data(batches[0])
        if isinstance(self.objective, ModelLoss):
            self.objective.before_update(self.steps)
        if self.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * self.schedule(self.steps)
        outs: list[dict[str, Tensor]] = [{} for _ in batches]
        with self.parallel.batch_is_shared():
            for phase in range(self.objective.phases if isinstance(self.objective, ModelLoss) else 1):
                self._step(batches, outs, phase)
            if isinstance(self.objective, ModelLoss):
                self.objective.after_update(self.steps)
                self.parallel.changed()
        self.steps += 1
        return outs[0] if len(outs) == 1 else {key: torch.stack([o[key] for o in outs]).mean(0) for key in outs[0]}

    def _step(self, batches: Sequence[TensorDictBase], outs: Sequence[dict[str, Tensor]], phase: int) -> None:
        """One step of the optimiser, on one phase of the batches' losses, which are noted."""
        self.optimizer.zero_grad(set_to_none=True)
        share = 1.0 / len(batches)
        with self.parallel.without_exchange() if len(batches) > 1 else contextlib.nullcontext():
            for batch, out in zip(batches[:-1], outs[:-1], strict=True):
                out.update(self._backward(batch, share, phase))
        outs[-1].update(self._backward(batches[-1], share, phase))
        self.parallel.exchanged()
        self.optimizer.step()
        self.parallel.stepped()

    def _backward(self, sequences: TensorDictBase, share: float, phase: int) -> dict[str, Tensor]:
        """Add this share of a batch's gradient; the detached losses and diagnostics."""
        device = next(self.objective.parameters()).device
        sequences = sequences.to(device, non_blocking=True) if sequences.device != device else sequences
        is_mixed = self.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16) if is_mixed else contextlib.nullcontext():
            out = self.parallel.losses(sequences, phase)
        losses = {key: value for key, value in out.items() if key.startswith("loss_")}
        if not losses or any(value.numel() != 1 for value in losses.values()):
            shapes = {key: list(value.shape) for key, value in out.items()}
            raise ValueError(
                f"{type(self.objective).__name__} must return scalars under keys that begin with 'loss_'; got "
                f"{shapes}. Use reduction='mean'."
            )
        total = torch.stack([value.reshape(()) for value in losses.values()]).sum()
        (total if share == 1.0 else share * total).backward()
        return {key: value.detach() for key, value in out.items()}

    def save(self) -> None:
        """Write the bundle now."""
        begun = time.monotonic()
        with self._writer():
            self.write(self.checkpoint)
        self._known = _signature(self.checkpoint)
        self._due = self._next_due(time.monotonic() - begun)

    def write(self, file: Path) -> None:
        """Write the bundle to another place; with several processes all of them ask for it, and the first one writes.

        Args:
            file: of the bundle.
        """
        state = whole_state(self.optimizer)
        random = self.ranks.gathered(random_states(self.model, self._generators()))
        if self.ranks.is_first:
            save_checkpoint(
                file,
                model=self.model,
                objective=self.objective,
                optimizer=self.optimizer,
                generators=self._generators(),
                counters={"steps": self.steps, "losses": self.losses, "stages": self._planned},
                settings=self._settings,
                state=state,
                others=random[1:],
            )

    def resume(self) -> None:
        """Go back to the bundle."""
        known = _signature(self.checkpoint)
        self.read(self.checkpoint)
        self._known = known

    def read(self, file: Path) -> None:
        """Go back to a bundle at another place.

        Args:
            file: of the bundle.

        Raises:
            FileNotFoundError, BadCheckpointError: if there is none of this run.
        """
        counters = load_checkpoint(
            file,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            generators=self._generators(),
            settings=self._settings,
            check=self._check_counters,
            rank=self.ranks.rank,
        )
        self.parallel.changed()
        self.steps, self.losses = counters["steps"], counters["losses"]
        self._planned = counters.get("stages")
        if self._planned is not None:
            cast(StagedModelLoss, self.objective).stage_steps = tuple(self._planned)

    def _check_counters(self, counters: Mapping[str, Any]) -> None:
        steps, losses, stages = counters["steps"], counters["losses"], counters.get("stages")
        if not _is_count(steps):
            raise ValueError("its steps are no count")
        if not isinstance(losses, dict) or not all(type(v) is float and math.isfinite(v) for v in losses.values()):
            raise ValueError("its losses are no finite numbers")
        borders = len(self.objective.stages) - 1 if isinstance(self.objective, StagedModelLoss) else None
        if stages is not None and not (
            isinstance(stages, list) and len(stages) == borders and all(map(_is_count, stages))
        ):
            raise ValueError("its stages are not those of this objective")

    def _next_due(self, cost: float) -> float:
        """When the clock asks for the next bundle, given how long one takes."""
        if self.checkpoint_seconds is None:
            return math.inf
        return time.monotonic() + max(self.checkpoint_seconds, cost / SAVING_SHARE)

    def _generators(self) -> dict[str, torch.Generator]:
        if not isinstance(self.objective, ModelLoss):
            return {"replay": self.sampling}
        return {"replay": self.sampling, "objective": self.objective.generator}

    def look(self, pending: list[dict[str, Tensor]]) -> dict[str, float]:
        """Average the updates not looked at yet; returns the newest. This is where the host waits for the device.

        Args:
            pending: what :meth:`update` returned, one after another, the last of them the newest.

        Raises:
            DivergedError: if a number is not finite.
        """
        table = self.ranks.mean(torch.stack([value.float().mean() for row in pending for value in row.values()]))
        numbers = iter(table.cpu().tolist())
        newest: dict[str, float] = {}
        for step, row in enumerate(pending, start=self.steps - len(pending) + 1):
            newest = {key: next(numbers) for key in row}
            # An objective with stages speaks of other losses in each; those of a stage that is over are not shown on.
            self.losses = {key: value for key, value in self.losses.items() if key in newest}
            for key, value in newest.items():
                if not math.isfinite(value):
                    raise DivergedError(f"{key} became {value} at step {step}. {self._remedy()}")
                self.losses[key] = SMOOTHING * self.losses.get(key, value) + (1 - SMOOTHING) * value
        return newest

    def probe(self, sequences: TensorDictBase) -> dict[str, float]:
        """Diagnostics of the model as it is now that are too dear for every update; see ``ModelLoss.probes``.

        Args:
            sequences: a batch ``[B, T]``.
        """
        if not isinstance(self.objective, ModelLoss):
            return {}
        found = self.objective.probes(sequences)
        if not found:
            return {}
        values = self.ranks.mean(torch.stack([value.float() for value in found.values()]))
        return dict(zip(found, values.cpu().tolist(), strict=True))

    def _log(self, newest: dict[str, float]) -> None:
        if self._logger is not None:
            for key, value in newest.items():
                self._logger.log_scalar(f"train/{key}", value, step=self.steps)

    def _check_data(self, sequences: TensorDictBase) -> None:
        """Once: whether the data are what the model was made for."""
        if not self._was_checked:
            keys = {"action_key": self.objective.tensor_keys.action} if isinstance(self.objective, ModelLoss) else {}
            check_data(self.model, sequences, **keys)
            self._was_checked = True

    def check_weights(self) -> None:
        """Refuse weights that are not finite.

        Raises:
            DivergedError: naming the first.
        """
        for name, value in self.model.named_parameters():
            if not bool(value.isfinite().all()):
                raise DivergedError(f"the weight {name} is not finite after step {self.steps}. {self._remedy()}")

    def _remedy(self) -> str:
        """What to do, with the data to blame if there are such."""
        found = non_finite_keys(self.replay)
        advice = (
            f"The replay buffer holds values that are not finite under {found}: mend the environment, drop these steps."
            if found
            else "The data in the replay buffer are finite: lower the learning rate, or raise the warm-up."
        )
        kept = (
            " The last checkpoint is from before that step: a trainer built anew with the same out goes on from there."
            if self.out is not None and self.checkpoint.is_file()
            else ""
        )
        return advice + kept


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _signature(file: Path) -> tuple[int, ...] | None:
    """What changes with every write of a file; ``None`` if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
