"""`wmc train`: a world model from data folders, resumable."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wmcomponents.cli.console import quiet, say
from wmcomponents.cli.errors import UsageError, at_least, changed, known_family

RUN = "run.json"
TRAINING = "training.json"
"""Beside the model's folder: what the model was trained on."""


@dataclass(frozen=True)
class TrainConfig:
    """Arguments of `wmc train`."""

    data: tuple[Path, ...]
    """Data folders, one or more of the same environment."""
    out: Path
    """Folder of the run."""
    family: str = "DreamerV3"
    """Family of the world model; wmc info lists them."""
    preset: str = "tiny"
    """Size of the world model; wmc info lists them."""
    changes: tuple[str, ...] = ()
    """Entries of the model's config that differ from the preset, as name=value."""
    steps: int = 2000
    """Updates in all, counting those of a run that is resumed."""
    batch_size: int = 16
    """Sequences in a batch."""
    sequence_length: int = 64
    """Steps in a sequence."""
    lr: float | None = None
    """Learning rate; 1e-3 for tiny and the paper's for the others if not given."""
    warmup: int | None = None
    """Updates over which the learning rate grows from 0; 100 for tiny and the paper's for the others if not given."""
    logger: Literal["csv", "tensorboard", "none"] = "csv"
    """Where losses are logged; tensorboard needs the extra logging."""
    checkpoint_every: int = 500
    """Updates between checkpoints."""
    start_states: int = 1024
    """Start states kept beside the model, for its dreams to begin from."""
    seed: int = 0
    """Of weights, sampling and noise."""
    device: str = "cpu"
    """Where to train: cpu, cuda, ..."""
    threads: int | None = None
    """Threads of torch; 1 for tiny, else torch's own choice if not given."""

    @property
    def rate(self) -> float | None:
        """The learning rate that counts; ``None`` is the paper's."""
        return 1e-3 if self.lr is None and self.preset == "tiny" else self.lr

    @property
    def growth(self) -> int | None:
        """The warm-up that counts; ``None`` is the paper's."""
        return 100 if self.warmup is None and self.preset == "tiny" else self.warmup


def run(config: TrainConfig) -> dict[str, Any]:
    """Train, or go on training, and save the model."""
    at_least(1, **{
        name: getattr(config, name)
        for name in ("steps", "batch_size", "sequence_length", "checkpoint_every", "start_states")
    })  # fmt: skip
    at_least(0, warmup=config.warmup or 0, seed=config.seed)
    if config.lr is not None and config.lr <= 0:
        raise UsageError(f"--lr is positive; got {config.lr}.")
    known_family(config.family, config.preset, config.changes)
    import time

    import torch

    from wmcomponents.cli.dataset import open_dataset
    from wmcomponents.dream.starts import ReplayStarts
    from wmcomponents.models import make_model
    from wmcomponents.training import Trainer, seed_everything

    quiet()
    begun = time.perf_counter()
    threads = config.threads if config.threads is not None else (1 if config.preset == "tiny" else 0)
    if threads:
        torch.set_num_threads(threads)
    data = open_dataset(
        config.data, sequence_length=config.sequence_length, batch_size=config.batch_size, seed=config.seed
    )
    _same_run(config)
    seed_everything(config.seed)
    model = make_model(
        config.family, config.preset, data.observation_spec, data.action_spec, **changed(config.changes)
    ).to(config.device)
    trainer = Trainer(
        model,
        data.replay,
        lr=config.rate,
        warmup=config.growth,
        out=config.out,
        checkpoint_every=config.checkpoint_every,
        logger=None if config.logger == "none" else config.logger,
        seed=config.seed,
    )
    resumed_at = trainer.steps
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{type(model).__name__} {config.preset}, {parameters:,} parameters, on {data.env}")
    if resumed_at:
        say(f"resuming at update {resumed_at}")
    losses = trainer.train(config.steps)
    starts = ReplayStarts(
        model,
        data.replay.sample,
        pool_size=config.start_states,
        burn_in=min(8, config.sequence_length - 1),
        seed=config.seed,
    )
    path = model.save_pretrained(config.out / "model", starts=starts.pool)
    facts = {
        "env": data.env,
        "env_options": data.env_options,
        "family": config.family,
        "preset": config.preset,
        "steps": trainer.steps,
    }
    note_training(path, facts)
    say(f"saved {path}")
    return {
        "model": str(path),
        **facts,
        "parameters": parameters,
        "resumed_at": resumed_at,
        "losses": {key: float(f"{value:.5g}") for key, value in losses.items()},
        "seconds": round(time.perf_counter() - begun, 2),
    }


def note_training(model_path: Path, facts: dict[str, Any]) -> None:
    """Note ``env``, ``env_options``, ``family``, ``preset`` and ``steps`` beside a model's folder."""
    (model_path.parent / TRAINING).write_text(json.dumps(facts, indent=2) + "\n")


def training_facts(model_path: Path) -> dict[str, Any]:
    """What was noted about a model; empty for a model that stands alone."""
    file = model_path.resolve().parent / TRAINING
    if not file.is_file():
        return {}
    facts = json.loads(file.read_text())
    return facts if isinstance(facts, dict) and {"env", "preset", "steps"} <= set(facts) else {}


def _same_run(config: TrainConfig) -> None:
    """Note the arguments that decide a run, or compare them with the noted ones.

    Raises:
        UsageError: if the folder holds a checkpoint of a run with other arguments.
    """
    decisive = {
        "data": [str(path) for path in config.data],
        "lr": config.rate,
        "warmup": config.growth,
        "changes": list(config.changes),
        **{name: getattr(config, name) for name in ("family", "preset", "batch_size", "sequence_length", "seed")},
    }
    file = config.out / RUN
    if file.is_file() and (config.out / "checkpoint.safetensors").is_file():
        noted = json.loads(file.read_text())
        other = [
            f"{name} {noted.get(name)} (now {value})" for name, value in decisive.items() if noted.get(name) != value
        ]
        if other:
            raise UsageError(
                f"{config.out} holds a run with {', '.join(other)}: repeat its arguments to go on, or choose another "
                f"--out."
            )
    config.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(decisive, indent=2) + "\n")
