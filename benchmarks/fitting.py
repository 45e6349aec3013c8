"""What fits of several models share: their real data, what is kept, how each is fitted, errors at chosen horizons."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchrl.data import TensorDictReplayBuffer

from benchmarks.measuring import digits
from wmcomponents.data import RealCollector, load_replay, make_env, make_replay, save_replay
from wmcomponents.evaluation import Curve

REAL_STEPS, HELD_OUT_STEPS, REPEAT_PROBABILITY = 20_000, 5_000, 0.3


@dataclass(frozen=True)
class Fit:
    """How a family's preset is fitted.

    Attributes:
        updates: gradient steps.
        sequence_length: steps in a training sequence.
        batch_size: sequences in a batch.
        lr: learning rate; the objective's own if not given.
        changes: entries of the model's config that differ from the preset.
    """

    updates: int = 1000
    sequence_length: int = 32
    batch_size: int = 16
    lr: float | None = 1e-3
    changes: dict[str, Any] = field(default_factory=dict)


def kept(name: str, make: Callable[[], dict[str, Any]], runs: Path) -> dict[str, Any]:
    """What was found under a name, or is found now; a run that is killed leaves no part of it.

    Args:
        name: of the file, without its ending.
        make: finds it.
        runs: folder of the file.
    """
    file = runs / f"{name.replace('/', '-')}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.unfinished-{os.getpid()}")
        unfinished.write_text(json.dumps(make()) + "\n")
        unfinished.replace(file)
        print(name, file.read_text()[:300], flush=True)
    return json.loads(file.read_text())


def kept_replay(
    replay: TensorDictReplayBuffer, folder: Path, fill: Callable[[], Any], **facts: Any
) -> TensorDictReplayBuffer:
    """A replay buffer with the data of a folder, which are collected now where it is not there.

    A run that is killed leaves no part of a buffer under the folder's name; of two that collect at once, those of the
    first stay.

    Args:
        replay: empty.
        folder: where the data are kept.
        fill: collects them into the replay buffer.
        **facts: of ``save_replay``.
    """
    if folder.is_dir():
        return load_replay(replay, folder)
    fill()
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    save_replay(replay, unfinished, **facts)
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(unfinished)
    return replay


def data(
    env_id: str, seed: int, steps: int, length: int, batch: int, folder: Path, **options: Any
) -> TensorDictReplayBuffer:
    """Real steps of a random policy that repeats actions at times, collected once and kept.

    Args:
        env_id: of the environment.
        seed: of environment and policy.
        steps: how many.
        length: of a sampled sequence.
        batch: sequences in a sample.
        folder: where they are kept; one for each choice of options.
        **options: of ``make_env``.
    """
    env = make_env(env_id, seed=seed, **options)
    replay = make_replay(steps, env, sequence_length=length, batch_size=batch, seed=seed, print_fn=None)

    def collect() -> None:
        collector = RealCollector(env, replay, action_repeat_prob=REPEAT_PROBABILITY, seed=seed)
        collector.collect(steps)
        collector.close(close_env=True)

    return kept_replay(replay, folder / f"data-{env_id.replace('/', '-')}-{seed}-{steps}", collect)


def at_horizons(curves: Mapping[str, Curve | None], ks: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Errors of the model and of both baselines after ``ks`` steps, by name; curves that are not there left out."""
    return {
        name: {
            "metric": curve.metric,
            **{who: [digits(getattr(curve, who)[k - 1], 3) for k in ks] for who in ("model", "copy", "mean")},
        }
        for name, curve in curves.items()
        if curve is not None
    }
