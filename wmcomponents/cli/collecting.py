"""A collection in progress: copies of an environment, the folder that their steps go to, and how far it is."""

from contextlib import ExitStack
from typing import Any, cast

import torch
from tensordict import TensorDictBase

from wmcomponents._interruption import Request
from wmcomponents._whole import check_place
from wmcomponents.cli.collect import CollectConfig
from wmcomponents.cli.console import say
from wmcomponents.cli.env_options import env_options
from wmcomponents.cli.errors import UsageError
from wmcomponents.cli.policies import collect_policy
from wmcomponents.data import make_env, transition_spec
from wmcomponents.data.episodes import EpisodeCount, EpisodeStream, equal_steps
from wmcomponents.data.folder import DESCRIPTION, PART_BYTES, DataWriter, foreign_names, open_saved
from wmcomponents.data.layout import Layout
from wmcomponents.pretrained import spec_to_json

REPEATED_AT_A_TIME = 100
"""Steps between two looks at whether to stop, while an episode is repeated."""


class Collection:
    """What `wmc collect` fills.

    Args:
        config: what to collect.
        opened: closes everything.

    Raises:
        UsageError: if the folder holds something else.
    """

    def __init__(self, config: CollectConfig, opened: ExitStack) -> None:
        self._config, self._opened = config, opened
        self.rows = 0
        self._target = -(-config.steps // config.num_envs)
        self._counts = [EpisodeCount() for _ in range(config.num_envs)]
        self._streams: list[EpisodeStream] = []
        begun = self._look()
        if begun and self.complete:
            return
        env = make_env(config.env, **self._options)
        spec = transition_spec(env)
        self._spec, layout = spec_to_json(spec), Layout.of_spec(spec, config.num_envs)
        collect_policy(config.policy, env, repeat_probability=config.repeat_probability, seed=config.seed)
        env.close()
        size = (self._target - self.rows) * layout.row_bytes
        if not config.out.exists():
            opened.callback(_remove_if_empty, config.out)
        check_place(config.out, space=size + min(PART_BYTES, self._target * layout.row_bytes))  # see DataWriter
        if not begun:
            say(f"{self._target * config.num_envs:,} steps, {size / 1e6:,.1f} MB in {config.out}")
        self._writer = opened.enter_context(DataWriter(config.out, append=begun))

    @property
    def steps(self) -> int:
        """How many there are, over all copies of the environment."""
        return self.rows * self._config.num_envs

    @property
    def complete(self) -> bool:
        """Whether there are as many as are wanted."""
        return self.rows >= self._target

    def rejoin(self, request: Request) -> None:
        """Begin the episodes, and repeat those that were in progress up to where they were.

        Where an environment does not do the same again, its episode is cut there (``truncated``) and a new one begins.

        Raises:
            Interrupted: if that was asked for meanwhile.
        """
        for number, count in enumerate(self._counts):
            stream = self._stream(number, count.ended)
            if count.open is not None:
                for steps in count.open.split(REPEATED_AT_A_TIME):
                    request.check()
                    if not equal_steps(stream.take(len(steps)), steps):
                        say(f"{self._config.env} did not repeat its episode: it is cut where it was interrupted")
                        self._writer.cut(number)
                        count.cut()
                        stream.close()
                        stream = self._stream(number, count.ended)
                        break
                count.open = None
            self._opened.callback(stream.close)
            self._streams.append(stream)

    def take(self, steps: int) -> int:
        """Take so many steps of each copy, or as many as are wanted; returns their number over all copies."""
        steps = min(steps, self._target - self.rows)
        taken = [stream.take(steps) for stream in self._streams]
        for count, one in zip(self._counts, taken, strict=True):
            count.add(one)
        self._writer.append(taken[0] if len(taken) == 1 else cast(TensorDictBase, torch.stack(taken, 1)))  # pyright: ignore
        self.rows += steps
        return steps * len(taken)

    def save(self) -> None:
        """Make everything taken so far the content of the folder."""
        self._writer.save(transition_spec=self._spec, **self.facts())

    def facts(self) -> dict[str, Any]:
        """What is kept beside the steps."""
        ended = sum(count.ended for count in self._counts)
        mean = round(sum(count.total for count in self._counts) / ended, 4) if ended else None
        return {**self._arguments, "episodes": ended, "mean_return": mean}

    @property
    def _options(self) -> dict[str, Any]:
        return env_options(self._config)

    @property
    def _arguments(self) -> dict[str, Any]:
        """What decides which steps come."""
        config = self._config
        names = ("env", "policy", "repeat_probability", "seed", "num_envs")
        return {**{name: getattr(config, name) for name in names}, "wanted": config.steps, "env_options": self._options}

    def _look(self) -> bool:
        """Whether the folder holds the beginning of this collection, which is then counted."""
        out = self._config.out
        if not out.exists():
            return False
        if not (out / DESCRIPTION).exists():
            others = foreign_names(out)
            if others:
                raise UsageError(
                    f"{out} exists already and holds {', '.join(others[:3])}: choose another --out, or remove it first."
                )
            return False
        saved = open_saved(out)
        other = [
            f"{name} {saved.content.get(name)} (now {value})"
            for name, value in self._arguments.items()
            if saved.content.get(name) != value
        ]
        if other:
            raise UsageError(
                f"{out} exists already, with {', '.join(other)}: repeat its arguments to go on, or choose another "
                f"--out."
            )
        for steps in saved.parts():
            for count, one in zip(self._counts, steps.unbind(1) if saved.layout.batch else [steps], strict=True):
                count.add(one, keep_open=True)
        self.rows = saved.rows
        return True

    def _stream(self, number: int, episode: int) -> EpisodeStream:
        config = self._config
        env = make_env(config.env, **self._options)
        policy = collect_policy(config.policy, env, repeat_probability=config.repeat_probability, seed=config.seed)
        return EpisodeStream(env, policy, seed=config.seed, stream=number, episode=episode)


def _remove_if_empty(folder: Any) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass
