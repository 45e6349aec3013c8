"""One resumable training loop for every world model."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import ReplayBuffer

from wmcomponents.training.checkpoint import load_checkpoint, save_checkpoint
from wmcomponents.training.laprop import LaProp
from wmcomponents.training.progress import progress_bar
from wmcomponents.world_model import WorldModel

SMOOTHING = 0.98
"""Of the losses shown and returned: an exponential average over about 50 steps."""


PREPARING_BATCHES = 32
"""Batches from which a fresh model estimates what it does not learn (``WorldModel.prepare``)."""


class DivergedError(RuntimeError):
    """A loss is not finite; the message names it and the step."""


class Trainer:
    """Fits a world model to a replay buffer, step by step, and can be stopped at any moment.

    With ``out`` given, a bundle of everything that decides the future (weights, optimiser, generators, counters) is written
    there every ``checkpoint_every`` steps, and a new trainer with the same arguments goes on from it: on a CPU to the bit.
    The data must be the same; the buffer itself is not part of the bundle (``data.save_replay``).

    Args:
        model: the world model; put in training mode during :meth:`train`, in eval mode after it.
        replay: gives sequences ``[B, T]`` by ``sample()``, as ``data.make_replay`` builds it. Its sampling is seeded here.
        objective: a TorchRL ``LossModule``; the model's own if not given. What it returns under ``loss_*`` is summed.
        optimizer: steps the parameters; LaProp with adaptive gradient clipping if not given.
        lr: learning rate of the default optimiser (official: 4e-5; small models in a hurry: 1e-3).
        warmup: warm-up steps of the default optimiser.
        out: folder of the checkpoint and of the logs; nothing is written if not given.
        checkpoint_every: steps between bundles.
        log_every: steps between log lines; also how often the losses are looked at (and found not finite).
        logger: ``"csv"`` or ``"tensorboard"`` (extra ``logging``) into ``out``, a TorchRL logger, or ``None``.
        progress: show a progress bar on standard error.
        seed: of the sampling.
        compile: compile the objective's forward pass.

    Raises:
        ValueError: if a logger is named without ``out``.
        BadCheckpointError: if ``out`` holds the bundle of another run.
    """

    def __init__(
        self,
        model: WorldModel,
        replay: ReplayBuffer,
        *,
        objective: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        lr: float = 4e-5,
        warmup: int = 1000,
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
        params = [p for p in self.objective.parameters() if p.requires_grad]
        self.optimizer = LaProp(params, lr, warmup=warmup) if optimizer is None else optimizer
        self.out = None if out is None else Path(out)
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.progress = progress
        self.steps = 0
        self.losses: dict[str, float] = {}
        self._forward = torch.compile(self.objective) if compile else self.objective
        self._sampling = torch.Generator().manual_seed(seed)
        replay.set_rng(self._sampling)
        self._logger = _make_logger(logger, self.out)
        if self.out is not None and self.checkpoint.is_file():
            self.resume()

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
            The losses and diagnostics, averaged over about the last 50 steps.

        Raises:
            DivergedError: if a loss is not finite.
            ReplayTooShortError, EmptyReplayError: if the buffer cannot give a sequence.
        """
        self.model.train()
        if self.steps == 0:
            self.model.prepare(torch.cat([self.replay.sample() for _ in range(PREPARING_BATCHES)]))
        with progress_bar(self.progress, "world model", self.steps, steps) as show:
            pending: list[dict[str, Tensor]] = []
            while self.steps < steps:
                pending.append(self.update(self.replay.sample()))
                if self.steps % self.log_every == 0 or self.steps == steps:
                    self._look(pending)
                    pending = []
                    show(self.steps, self.losses)
                if self.out is not None and (self.steps % self.checkpoint_every == 0 or self.steps == steps):
                    self.save()
        self.model.eval()
        return dict(self.losses)

    def update(self, sequences: TensorDictBase) -> dict[str, Tensor]:
        """One gradient step; returns the detached losses and diagnostics without waiting for the device."""
        device = next(self.model.parameters()).device
        out = self._forward(sequences.to(device, non_blocking=True) if sequences.device != device else sequences)
        loss = torch.stack([value for key, value in out.items() if key.startswith("loss_")]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
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
        )

    def resume(self) -> None:
        """Go back to the bundle."""
        counters = load_checkpoint(
            self.checkpoint,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            generators=self._generators(),
        )
        self.steps, self.losses = counters["steps"], counters["losses"]

    def _generators(self) -> dict[str, torch.Generator]:
        noise = getattr(self.objective, "generator", None)
        return {"replay": self._sampling, **({"objective": noise} if isinstance(noise, torch.Generator) else {})}

    def _look(self, pending: list[dict[str, Tensor]]) -> None:
        if not pending:
            return
        table = torch.stack([torch.stack([value.float() for value in row.values()]) for row in pending]).cpu().tolist()
        first = self.steps - len(pending) + 1
        for offset, row in enumerate(table):
            for key, value in zip(pending[0], row, strict=True):
                if not math.isfinite(value):
                    raise DivergedError(
                        f"{key} became {value} at step {first + offset}. Look for non-finite observations or rewards in the "
                        f"data, then lower the learning rate; the last checkpoint is from before this step."
                    )
                self.losses[key] = SMOOTHING * self.losses.get(key, value) + (1 - SMOOTHING) * value
        if self._logger is not None:
            for key, value in zip(pending[-1], table[-1], strict=True):
                self._logger.log_scalar(f"train/{key}", value, step=self.steps)


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
