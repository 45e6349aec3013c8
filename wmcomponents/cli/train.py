"""`wmc train`: a world model from data folders, resumable."""

import contextlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wmcomponents._folder_kinds import DATA_FILES
from wmcomponents._interruption import postponed
from wmcomponents._whole import SPARE_BYTES, check_place, write_whole
from wmcomponents.cli.console import quiet, say
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import UsageError, at_least, changed, check_folders, in_one_process, known_family
from wmcomponents.cli.stages import check_stages, steps_of
from wmcomponents.cli.train_forms import refuse_unread

RUN = "run.json"

PLACE_BYTES = 24
"""Bytes a parameter for which there must be room: a checkpoint with the optimiser's state, beside the one before."""


@dataclass(frozen=True)
class TrainConfig:
    """Arguments of `wmc train`."""

    out: Path
    """Folder of the run."""
    data: tuple[Path, ...] = ()
    """Data folders, one or more of the same environment."""
    agent: str | None = None
    """The agent to train in place of a model: online in --env, such as dreamer_v3, or with --dream-only any."""
    env: str | None = None
    """With --agent: id of the environment that it learns in online, --steps real steps of it."""
    num_envs: int = 1
    """With --env: copies of the environment side by side."""
    env_kwargs: tuple[str, ...] = ()
    """With --env: arguments of the environment, as name=value; a value is a Python literal, or else a string."""
    from_pixels: bool = False
    """With --env: observe rendered images in place of the environment's own observation."""
    image_size: int | None = None
    """With --env: side of all images; if not given, 64 for one colour image, and the environment's own elsewhere."""
    action_repeat: int | None = None
    """With --env: real steps per action; the environment's custom if not given (Atari 4, dm_control 2)."""
    sticky_actions: float | None = None
    """With --env: chance that Atari or MinAtar repeats the action before; the environment's own if not given."""
    max_episode_steps: int | None = None
    """With --env: cut episodes here; the environment's own limit if not given."""
    films: int = 0
    """With --env: a film of dream against reality after every so many evaluations, in --out/films; 0 for none."""
    model: Path | None = None
    """With --agent: folder of the saved model that it dreams in."""
    dream_only: bool = False
    """With --agent: learn in dreams of a frozen model alone, --steps of them; dreams begin along --data if given."""
    uncertainty_penalty: float | None = None
    """With --dream-only in an ensemble: what a dreamt step's disagreement costs, times this (MOPO)."""
    uncertainty_limit: float | None = None
    """With --dream-only in an ensemble: dreams end where the members disagree more than this (MOReL)."""
    family: str = "DreamerV3"
    """Family of the world model, or of what pretrains an encoder (MAE, IJEPA, VJEPA); wmc info lists them."""
    members: int | None = None
    """Train so many models of the family as one ensemble that knows where they disagree, each on data of its own."""
    preset: str = "tiny"
    """Size of the world model; wmc info lists them. Of an agent in --env its own; wmc agents lists them."""
    changes: tuple[str, ...] = ()
    """Entries of the model's config, or of the agent's numbers, that differ from the preset, as name=value."""
    steps: tuple[str, ...] = ("2000",)
    """Updates in all, counting those of a run that is resumed; of a family that is trained in stages also by stage, as
    tokenizer=1000 transformer=2000."""
    batch_size: int = 16
    """Sequences in a batch."""
    sequence_length: int = 64
    """Steps in a sequence; encoders are pretrained on single images, or on clips as long as their config says."""
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
    accumulate: int = 1
    """Batches whose gradients are averaged for one update."""
    precision: Literal["float32", "bf16"] = "float32"
    """In which losses are computed; bf16 is mixed precision."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """In several processes (torchrun): everything in each of them, or the optimiser's state in shards."""
    seed: int = 0
    """Of weights, sampling and noise."""
    device: str = "cpu"
    """Where to train: cpu, cuda, mps, or auto for the best there is."""
    threads: int | None = None
    """Threads of torch; 1 for tiny, else torch's own choice if not given."""

    @property
    def rate(self) -> float | None:
        """The learning rate that counts; ``None`` is the paper's."""
        return 1e-3 if self.lr is None and self.preset == "tiny" else self.lr

    @property
    def warmup_steps(self) -> int | None:
        """The warm-up that counts; ``None`` is the paper's."""
        return 100 if self.warmup is None and self.preset == "tiny" else self.warmup


def run(config: TrainConfig) -> dict[str, Any] | None:
    """Train, or go on training, and save the model, or the agent."""
    if config.agent is not None:
        if config.dream_only:
            in_one_process("an agent by --dream-only")
            from wmcomponents.cli.train_agent import run_dream_only

            return run_dream_only(config)
        from wmcomponents.cli.train_online import run_online

        return run_online(config)
    refuse_unread(config)
    if not config.data:
        raise UsageError("--data is missing. Data folders to learn from: `wmc collect` writes them.")
    counts = ("batch_size", "sequence_length", "checkpoint_every", "start_states", "accumulate")
    at_least(1, **{name: getattr(config, name) for name in counts})
    at_least(0, warmup=config.warmup or 0, seed=config.seed, threads=config.threads or 0)
    if config.members is not None:
        at_least(2, members=config.members)
    steps = steps_of(config.steps)
    if config.lr is not None and not 0 < config.lr < math.inf:
        raise UsageError(f"--lr is positive; got {config.lr}.")
    known_family(config.family, config.preset, encoders=True)
    check_folders(data=config.data)
    with postponed():  # an import that is broken off says something else than that it was
        import torch

        from wmcomponents._lock import one_writer
        from wmcomponents.cli.dataset import open_dataset
        from wmcomponents.training import Ranks, seed_everything
    known_family(config.family, config.preset, config.changes, encoders=True)
    length = config.sequence_length
    if _is_encoder(config):
        from wmcomponents.cli.pretrain import frames_of

        length = frames_of(config, steps)
    if any((config.out / name).exists() for name in DATA_FILES):
        raise UsageError(f"{config.out} holds data, and a run keeps to a folder of its own: choose another --out.")
    ranks = Ranks.joined()
    device = ranks.device(device_of(config.device))
    quiet()
    threads = config.threads if config.threads is not None else (1 if config.preset == "tiny" else 0)
    if threads:
        torch.set_num_threads(threads)
    data = open_dataset(config.data, sequence_length=length, batch_size=config.batch_size, seed=config.seed)
    with torch.device("meta"):  # nothing is written for a model that cannot be made of these data
        _fresh(config, data)
    check_place(config.out)
    with one_writer(config.out) if ranks.is_first else contextlib.nullcontext():
        _check_same_run(config)
        seed_everything(config.seed)
        return _fit(config, data, steps, device, ranks)


def _fit(config: TrainConfig, data: Any, steps: int | dict[str, int], device: Any, ranks: Any) -> dict[str, Any] | None:
    from wmcomponents.pretrained.training_note import note_training
    from wmcomponents.training import Trainer

    begun = time.perf_counter()
    model = (_fresh if config.members is None else _ensemble)(config, data).to(device)
    parameters = sum(p.numel() for p in model.parameters())
    check_place(config.out, space=PLACE_BYTES * parameters + SPARE_BYTES)
    if _is_encoder(config):
        from wmcomponents.data import DrawMasks

        data.replay.append_transform(DrawMasks(model.masks()))
    trainer = Trainer(
        model,
        data.replay,
        lr=config.rate,
        warmup=config.warmup_steps,
        out=config.out,
        checkpoint_every=config.checkpoint_every,
        logger=None if config.logger == "none" else config.logger,
        seed=config.seed,
        accumulate=config.accumulate,
        precision=config.precision,
        parallel=config.parallel,
        ranks=ranks,
    )
    check_stages(trainer.objective, steps)
    if ranks.is_first:
        write_whole(config.out / RUN, json.dumps(_decisive(config), indent=2) + "\n")
    resumed_at = trainer.steps
    say(f"{type(model).__name__} {config.preset}, {parameters:,} parameters, on {data.env}")
    if resumed_at:
        say(f"resuming at update {resumed_at}")
    if ranks.count > 1:
        say(f"{ranks.count} processes ({config.parallel}), {ranks.count * config.batch_size} sequences in each update")
    losses = trainer.train(steps)
    if not ranks.is_first:
        return None
    path = model.save_pretrained(config.out / "model", **_starts(config, model, data))
    facts = {
        "env": data.env,
        "env_options": data.env_options,
        "family": config.family,
        "preset": config.preset,
        "members": config.members,
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
        **({"probes": {key: float(f"{value:.5g}") for key, value in trainer.probes.items()}} if trainer.probes else {}),
        "seconds": round(time.perf_counter() - begun, 2),
    }


def _is_encoder(config: TrainConfig) -> bool:
    """Whether the family pretrains an encoder, and is no world model."""
    from wmcomponents.models import PRETRAINING

    return config.family in PRETRAINING


def _starts(config: TrainConfig, model: Any, data: Any) -> dict[str, Any]:
    """What is saved beside a world model: states for its dreams to begin from."""
    if _is_encoder(config):
        return {}
    from wmcomponents.dream.replay_starts import ReplayStarts

    burn_in, sample = min(8, config.sequence_length - 1), data.replay.sample
    starts = ReplayStarts(model, sample, pool_size=config.start_states, burn_in=burn_in, seed=config.seed)
    return {"starts": starts.pool}


def _fresh(config: TrainConfig, data: Any) -> Any:
    """One model of the family."""
    from wmcomponents.models import make_model, make_pretraining

    if _is_encoder(config):
        return make_pretraining(config.family, config.preset, data.observation_spec, **changed(config.changes))
    return make_model(config.family, config.preset, data.observation_spec, data.action_spec, **changed(config.changes))


def _ensemble(config: TrainConfig, data: Any) -> Any:
    from wmcomponents.models import Ensemble

    return Ensemble.of(lambda: _fresh(config, data), members=int(config.members or 0))


def _decisive(config: TrainConfig) -> dict[str, Any]:
    """The arguments that decide a run."""
    names = ("family", "preset", "members", "batch_size", "sequence_length", "accumulate", "precision", "seed")
    return {
        "data": [str(path) for path in config.data],
        "lr": config.rate,
        "warmup": config.warmup_steps,
        "changes": list(config.changes),
        **{name: getattr(config, name) for name in names},
    }


def _check_same_run(config: TrainConfig) -> None:
    """Compare the arguments that decide a run with the noted ones; learning rate and warm-up may be others.

    Raises:
        UsageError: if the folder holds a checkpoint of a run with other arguments.
    """
    file = config.out / RUN
    if not file.is_file() or not (config.out / "checkpoint.safetensors").is_file():
        return
    try:
        noted = json.loads(file.read_text())
    except (ValueError, RecursionError):
        noted = None
    if not isinstance(noted, dict):
        raise UsageError(f"{file} is damaged: remove it to go on with these arguments, or choose another --out.")
    now = _decisive(config)
    other = {
        name: f"{name} {noted[name]} (now {value})" for name, value in now.items() if noted.get(name, value) != value
    }
    taken = [other.pop(name) for name in ("lr", "warmup") if name in other]
    if other:
        raise UsageError(
            f"{config.out} holds a run with {', '.join(other.values())}: repeat its arguments to go on, or choose "
            f"another --out."
        )
    if taken:
        say(f"going on with {', '.join(taken)}")
