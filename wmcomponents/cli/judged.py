"""What a model is judged by on the command line: stored steps, or fresh ones from an environment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from wmcomponents.cli.console import say
from wmcomponents.cli.dataset import stored_streams
from wmcomponents.cli.errors import UsageError
from wmcomponents.data import RandomPolicy, make_env
from wmcomponents.data.fit import check_data
from wmcomponents.data.folder import open_saved
from wmcomponents.evaluation.report import play
from wmcomponents.evaluation.truth.evidence import Evidence, evidence_from
from wmcomponents.pretrained.training_note import training_facts
from wmcomponents.world_model import WorldModel

REPEATED = 0.3
"""Chance that random play holds its last action: it shows more of a world."""


@dataclass(frozen=True)
class Place:
    """A real environment, if one is known.

    Attributes:
        id: its id; ``None`` for recorded data of no environment.
        options: how it is built.
        why_not: why it cannot be built, where it cannot.
    """

    id: str | None
    options: dict[str, Any]
    why_not: str = ""

    def elsewhere(self, env_id: str) -> "Place":
        """Another environment, built alike."""
        return replace(self, id=env_id)

    def maker(self, seed: int) -> Callable[[int], EnvBase] | None:
        """A function of the number of steps after which episodes are cut; ``None`` where it cannot be built."""
        if self.id is None or self.why_not:
            return None
        env_id, given = self.id, self.options

        def make(steps: int) -> EnvBase:
            limit = given.get("max_episode_steps")
            options = {**given, "max_episode_steps": steps if limit is None else min(steps, limit)}
            return make_env(env_id, seed=seed, **options)

        return make


def environment(config: Any, model_path: Path) -> Place:
    """The real environment: the one that is named, else that of the data, else that of the model's training.

    Args:
        config: of the command, with ``env`` and ``data``.
        model_path: folder of the model.
    """
    noted = training_facts(model_path)
    told = [noted] if not config.data else [open_saved(config.data[0]).content, noted]
    options = next((one["env_options"] for one in told if isinstance(one.get("env_options"), dict)), {})
    env_id = config.env or next((one["env"] for one in told if isinstance(one.get("env"), str)), None)
    if env_id is None:
        return Place(None, {})
    place = Place(env_id, options)
    try:
        make_env(env_id, **options).close()
    except (ImportError, ValueError, TypeError) as error:
        if config.env is not None or not config.data:
            raise
        say(f"no returns are compared: {env_id} cannot be built here ({error})")
        return replace(place, why_not=str(error))
    return place


def evidence_of(paths: Sequence[Path], place: Place, model: WorldModel, config: Any) -> tuple[Evidence, str]:
    """Real sequences of data folders, or of random play where there are none; and where they come from.

    Args:
        paths: data folders.
        place: where to play.
        model: that will be judged; data of another kind are refused.
        config: of the command: ``burn_in``, ``horizon``, ``sequences``, ``steps`` and ``seed``.

    Raises:
        UsageError: if there are neither data nor an environment.
        OtherDataError: if the steps are of another kind than the model was made for.
    """
    if paths:
        streams, sources = stored_streams(paths), ", ".join(map(str, paths))
    else:
        if place.id is None:
            raise UsageError("--data or --env is missing: a model is judged by real steps.")
        streams, sources = [_played(place, model, config.steps, config.seed)], f"{config.steps} steps of random play"
    check_data(model, cast(TensorDictBase, streams[0][None, :1]))
    return (
        evidence_from(streams, burn_in=config.burn_in, horizon=config.horizon, rows=config.sequences),
        sources,
    )


def facts_of(model_path: Path) -> dict[str, Any]:
    """What is noted of a model's training: preset and updates."""
    noted = training_facts(model_path)
    return {"path": model_path.name, **{name: noted[name] for name in ("preset", "steps") if name in noted}}


def _played(place: Place, model: WorldModel, steps: int, seed: int) -> TensorDictBase:
    assert place.id is not None
    say(f"playing {steps} steps of {place.id} at random")
    env = make_env(place.id, seed=seed, **place.options)
    try:
        policy = RandomPolicy(env.action_spec, REPEATED, torch.Generator().manual_seed(seed))
        return play(env, policy, steps, model)
    finally:
        env.close()
