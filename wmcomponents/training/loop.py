"""One resumable training loop for every world model."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import ReplayBuffer

from wmcomponents.objectives import ModelLoss
from wmcomponents.optim import LaProp
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.training.checkpoint import load_checkpoint, save_checkpoint
from wmcomponents.training.progress import progress_bar
from wmcomponents.training.schedule import Cooling
from wmcomponents.world_model import WorldModel

SMOOTHING = 0.98
"""Of the losses shown and returned: an exponential average over about 50 steps."""

PREPARING_BATCHES, PREPARING_BYTES = 32, 2**26
"""Most data from which a fresh model estimates what it does not learn (``WorldModel.prepare``)."""


class DivergedError(RuntimeError):
    """A loss or a weight is not finite; the message names it, the step, and data that are not finite either."""


class Trainer:
    """Fits a world model to a replay buffer, step by step, and can be stopped at any moment.

    With ``out`` given, a bundle of everything that decides the future (weights, optimiser, generators, counters) is
    written there every ``checkpoint_every`` steps, and a new trainer with the same arguments goes on from it: on a CPU
    to the bit. The data must be the same; the buffer itself is not part of the bundle (``data.save_replay``), and must
    not draw ahead (``prefetch``). What a bundle was written with (model, objective, optimiser, rate, seed) must be the
    same again.

    Args:
        model: the world model; put in training mode during :meth:`train`, in eval mode after it.
        replay: gives sequences ``[B, T]`` by ``sample()``, as ``data.make_replay`` builds it. Its sampling is seeded
            here.
        objective: a TorchRL ``LossModule``; the model's own if not given. What it returns under ``loss_*`` is summed.
            If it draws noise, it does so from torch's global generator, or is a ``ModelLoss`` with its own.
        optimizer: steps the parameters; if not given, what the objective makes (``ModelLoss.make_optimizer``: the
            paper's), or LaProp with adaptive gradient clipping for an objective that makes none.
        lr: learning rate of an optimiser that is made here; the paper's if not given (small models in a hurry: 1e-3).
        warmup: its warm-up steps; the paper's if not given.
        schedule: factor on the learning rate of every parameter group at each step (from 0), such as :class:`Cooling`.
        out: folder of the checkpoint and of the logs; nothing is written if not given.
        checkpoint_every: steps between bundles.
        log_every: steps between log lines; also how often the losses are looked at (and found not finite).
        logger: ``"csv"`` or ``"tensorboard"`` (extra ``logging``) into ``out``, a TorchRL logger, or ``None``.
        progress: show a progress bar on standard error.
        seed: of the sampling.
        compile: call the objective's ``compile()``, where that pays off; an objective for which it does not refuses.

    Raises:
        ValueError: if a logger is named without ``out``, a count is below 1, or the model has nothing to train.
        BadCheckpointError: if ``out`` holds the bundle of another run.
    """

    def __init__(
        self,
        model: WorldModel,
        replay: ReplayBuffer,
        *,
        objective: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        warmup: int | None = None,
        schedule: Callable[[int], float] | None = None,
        out: str | Path | None = None,
        checkpoint_every: int = 500,
        log_every: int = 50,
        logger: Literal["csv", "tensorboard"] | Any | None = None,
        progress: bool = True,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        self.model = model
        self.replay = replay
        self.objective = model.objective() if objective is None else objective
        if checkpoint_every < 1 or log_every < 1:
            raise ValueError(f"checkpoint_every and log_every are at least 1; got {checkpoint_every}, {log_every}.")
        params = [p for p in self.objective.parameters() if p.requires_grad]
        if not params:
            raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient: nothing to train.")
        if optimizer is not None:
            self.optimizer = optimizer
        elif isinstance(self.objective, ModelLoss):
            self.optimizer = self.objective.make_optimizer(lr, warmup)
        else:
            self.optimizer = LaProp(params, 4e-5 if lr is None else lr, warmup=1000 if warmup is None else warmup)
        self.schedule = schedule
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._settings: dict[str, Any] = {"seed": seed}
        if isinstance(schedule, Cooling):
            self._settings["schedule"] = str(schedule)
        if optimizer is None:
            self._settings.update(lr=lr, warmup=warmup)
        if isinstance(model, PretrainedModel):
            self._settings["config"] = str(model.config)
        self.out = None if out is None else Path(out)
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.progress = progress
        self.steps = 0
        self.losses: dict[str, float] = {}
        self._sampling = torch.Generator().manual_seed(seed)
        self._logger = _make_logger(logger, self.out)
        if compile:
            self.objective.compile()
        if self.out is not None and self.checkpoint.is_file():
            self.resume()
            if logger == "csv":
                rewind_csv(self.out / "logs", self.steps)

    @property
    def checkpoint(self) -> Path:
        """The bundle's file."""
        if self.out is None:
            raise ValueError("this trainer writes no checkpoint: build it with out=FOLDER.")
        return self.out / "checkpoint.safetensors"

    def train(self, steps: int) -> dict[str, float]:
        """Take updates until ``steps`` have been taken in all, counting those of a resumed run.

        Args:
            steps: the total to reach.

        Returns:
            The losses and diagnostics, averaged over about the last 50 steps; of an objective with stages, those of the
            last step's stage.

        Raises:
            DivergedError: if a loss is not finite.
            ReplayTooShortError, EmptyReplayError: if the buffer cannot give a sequence.
        """
        self.replay.set_rng(self._sampling)
        self.model.train()
        try:
            if self.steps == 0:
                self._prepare()
            with progress_bar(self.progress, "world model", self.steps, steps) as show:
                self._train(steps, show)
        finally:
            self.model.eval()
        return dict(self.losses)

    def _train(self, steps: int, show: Callable[[int, dict[str, float]], None]) -> None:
        pending: list[dict[str, Tensor]] = []
        newest: dict[str, float] = {}
        while self.steps < steps:
            pending.append(self.update(self.replay.sample()))
            is_last = self.steps == steps
            is_kept = self.out is not None and (is_last or self.steps % self.checkpoint_every == 0)
            # Nothing is kept that was not looked at: a bundle never holds what came after a loss that is not finite.
            is_shown = is_last or self.steps % self.log_every == 0
            if is_shown or is_kept:
                newest = self._look(pending)
                pending = []
            if is_shown:
                show(self.steps, self.losses)
                self._log(newest)
            if is_kept:
                self._check_weights()
                self.save()

    def _prepare(self) -> None:
        batch = self.replay.sample()
        count = max(1, min(PREPARING_BATCHES, PREPARING_BYTES // max(1, batch.bytes())))
        batches = [batch, *(self.replay.sample() for _ in range(count - 1))]
        self.model.prepare(cast(TensorDictBase, torch.cat(cast(Any, batches))))

    def update(self, sequences: TensorDictBase) -> dict[str, Tensor]:
        """One gradient step; returns the detached losses and diagnostics without waiting for the device.

        Raises:
            ValueError: if the objective returns no ``loss_*``, or one that is not a scalar.
        """
        device = next(self.objective.parameters()).device
        if isinstance(self.objective, ModelLoss):
            self.objective.before_update(self.steps)
        out = self.objective(sequences.to(device, non_blocking=True) if sequences.device != device else sequences)
        losses = {key: value for key, value in out.items() if key.startswith("loss_")}
        if not losses or any(value.numel() != 1 for value in losses.values()):
            shapes = {key: list(value.shape) for key, value in out.items()}
            raise ValueError(
                f"{type(self.objective).__name__} must return scalars under keys that begin with 'loss_'; got "
                f"{shapes}. Use reduction='mean'."
            )
        if self.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * self.schedule(self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([value.reshape(()) for value in losses.values()]).sum().backward()
        self.optimizer.step()
        if isinstance(self.objective, ModelLoss):
            self.objective.after_update(self.steps)
        self.steps += 1
        return {key: value.detach() for key, value in out.items()}

    def save(self) -> None:
        """Write the bundle now."""
        save_checkpoint(
            self.checkpoint,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            generators=self._generators(),
            counters={"steps": self.steps, "losses": self.losses},
            settings=self._settings,
        )

    def resume(self) -> None:
        """Go back to the bundle."""
        counters = load_checkpoint(
            self.checkpoint,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            generators=self._generators(),
            settings=self._settings,
        )
        self.steps, self.losses = counters["steps"], counters["losses"]

    def _generators(self) -> dict[str, torch.Generator]:
        if not isinstance(self.objective, ModelLoss):
            return {"replay": self._sampling}
        return {"replay": self._sampling, "objective": self.objective.generator}

    def _look(self, pending: list[dict[str, Tensor]]) -> dict[str, float]:
        """Average the steps not looked at yet; returns the newest. This is where the host waits for the device."""
        table = torch.stack([value.float().mean() for row in pending for value in row.values()])
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

    def _log(self, newest: dict[str, float]) -> None:
        if self._logger is not None:
            for key, value in newest.items():
                self._logger.log_scalar(f"train/{key}", value, step=self.steps)

    def _check_weights(self) -> None:
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
            " The last checkpoint is from before that step."
            if self.out is not None and self.checkpoint.is_file()
            else ""
        )
        return advice + kept


def non_finite_keys(replay: ReplayBuffer, rows: int = 4096) -> list[NestedKey]:
    """Keys of a buffer's data that hold NaN or infinity somewhere.

    Args:
        replay: the buffer.
        rows: how many are read at once.
    """
    storage = cast(Any, replay.storage)
    written = storage.shape[0] if storage.shape else 0
    found: set[NestedKey] = set()
    for first in range(0, written, rows):
        part = storage.get(torch.arange(first, min(first + rows, written)))
        leaves = part.items(True, True)
        found.update(key for key, value in leaves if value.is_floating_point() and not bool(value.isfinite().all()))
    return sorted(found, key=str)


def _make_logger(logger: Any, out: Path | None) -> Any:
    if not isinstance(logger, str):
        return logger
    if out is None:
        raise ValueError(f"logger={logger!r} needs a place to write: pass out=FOLDER.")
    if logger == "csv":
        from torchrl.record import CSVLogger

        return CSVLogger(exp_name="logs", log_dir=str(out))
    if logger == "tensorboard":
        from wmcomponents._extras import require

        require("tensorboard", extra="logging")
        from torchrl.record import TensorboardLogger

        return TensorboardLogger(exp_name="logs", log_dir=str(out))
    raise ValueError(f"logger is 'csv', 'tensorboard', a TorchRL logger or None; got {logger!r}.")


def rewind_csv(folder: Path, step: int) -> None:
    """Drop the rows of a run's CSV logs that a killed run wrote after ``step``: they will be written again."""
    for file in sorted(folder.glob("scalars/**/*.csv")):
        rows = file.read_text().splitlines()
        kept = [
            row
            for row in rows
            if row.count(",") == 1 and row.partition(",")[0].isdecimal() and int(row.partition(",")[0]) <= step
        ]
        if kept != rows:
            unfinished = file.with_suffix(".unfinished")
            unfinished.write_text("".join(f"{row}\n" for row in kept))
            os.replace(unfinished, file)
