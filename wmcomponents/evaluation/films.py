"""Films of dream against reality while an agent is trained online, as a callback of its trainer."""

import contextlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from wmcomponents._arguments import whole
from wmcomponents._extras import require
from wmcomponents.data.acting import TensorDictPolicy, acted, acting_aside
from wmcomponents.data.environments import origin_of
from wmcomponents.data.episodes import derived_seed
from wmcomponents.dream.starts import model_device
from wmcomponents.evaluation.film_files import write_video
from wmcomponents.evaluation.open_loop import compare
from wmcomponents.evaluation.video import comparison_reels, side_by_side
from wmcomponents.rendering.renderers import Renderer, make_renderer
from wmcomponents.world_model import WorldModel, keys_of

SUFFIXES = (".webp", ".gif", ".mp4")


class DreamFilms:
    """Shows after evaluations of an online run what the world model dreams, beside what really happens.

    The agent acts in a real episode, without exploration; the model's filter sees its first ``burn_in`` observations,
    and from there the model dreams on under the same actions. Both are drawn side by side, in
    ``out/films/<real steps>.webp``. All films of a run begin in the same real episode's start, so that they compare.

    The run is what it would be without: the episode is played in an environment of its own, and no generator of the run
    moves. A film costs its real steps, and the drawing: seconds.

    Args:
        every: a film after the first evaluation and each ``every``-th behind it.
        steps: of the dream; fewer if the real episode ends before.
        burn_in: real observations that the filter sees first.
        suffix: ``".webp"``, ``".gif"`` or ``".mp4"``.
        fps: frames a second.
        render: draws an observation (arrays by key) as ``(H, W, 3)`` uint8; chosen by the environment's id and spec if
            not given: :func:`~wmcomponents.rendering.make_renderer`.
        folder: where films are written; ``films`` in the run's own folder if not given.
        log: give the film to the run's logger too, under ``films/dream`` (TorchRL's ``log_video``; TensorBoard shows it
            where moviepy is installed).

    Raises:
        ValueError: if a number is out of range, or for another suffix; when the trainer is built, if neither it nor
            this has a folder, or the film shall be logged and there is no logger.
        CapabilityError: when the trainer is built, if its model decodes no observations.
        MissingExtraError: if what draws and writes films is not installed.

    Example:
        >>> from wmcomponents.agents import DreamerV3Agent
        >>> agent = DreamerV3Agent.tiny("CartPole-v1", out="runs/films", callbacks=[DreamFilms()])  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        every: int = 1,
        steps: int = 100,
        burn_in: int = 5,
        suffix: str = ".webp",
        fps: float = 20.0,
        render: Renderer | None = None,
        folder: str | Path | None = None,
        log: bool = False,
    ) -> None:
        self.every = whole("every", every, 1, "a number of evaluations, at least 1")
        self.steps = whole("steps", steps, 1, "a number of imagined steps, at least 1")
        self.burn_in = whole("burn_in", burn_in, 1, "a number of real observations, at least 1")
        if suffix not in SUFFIXES:
            raise ValueError(f"suffix of a film is one of {', '.join(SUFFIXES)}; got {suffix!r}.")
        if not fps > 0:
            raise ValueError(f"fps is positive; got {fps}.")
        require("imageio_ffmpeg" if suffix == ".mp4" else "PIL", extra="viz")
        self.suffix, self.fps, self.log = suffix, fps, log
        self._render, self._folder, self._title = render, None if folder is None else Path(folder), ""

    def setup(self, trainer: Any, agent: Any, stage: str) -> None:
        """Refuse now what could not be filmed later.

        Args:
            trainer: the :class:`~wmcomponents.agents.OnlineTrainer`.
            agent: its agent.
            stage: ``"fit"``.
        """
        model: WorldModel = agent.model
        model.require("decode", driver="a film of its dreams", remedy="leave DreamFilms() out of callbacks=.")
        if self._folder is None:
            if trainer.out is None:
                raise ValueError("films are files: train with out=FOLDER, or pass DreamFilms(folder=FOLDER).")
            self._folder = trainer.out / "films"
        if self.log and trainer.logger is None:
            raise ValueError("DreamFilms(log=True) gives films to the run's logger, and there is none: pass logger=.")
        with contextlib.closing(trainer.make_env()) as env:
            origin = origin_of(env)
        self._title = type(model).__name__ if origin is None else origin.id
        if self._render is None:
            self._render = make_renderer(None if origin is None else origin.id, model.observation_spec)
        blank = model.observation_spec.zero()
        self._render({key: blank[key].cpu().numpy() for key in keys_of(model.observation_spec)})

    def on_validation_end(self, trainer: Any, agent: Any) -> None:
        """Write the film, where this evaluation gets one.

        Args:
            trainer: see :meth:`setup`.
            agent: see :meth:`setup`.
        """
        if (len(trainer.evaluations) - 1) % self.every == 0:
            self.film(trainer, agent)

    def film(self, trainer: Any, agent: Any) -> Path:
        """Write a film of how things are now, and give back its path.

        Args:
            trainer: see :meth:`setup`.
            agent: see :meth:`setup`.
        """
        model, policy = agent.model, agent.real_policy
        with acting_aside(trainer.make_env, policy) as env:
            taken = self._episode(env, policy, model, derived_seed(trainer.seed, "film"))
        comparison = compare(
            model,
            taken,
            burn_in=self.burn_in,
            horizon=len(taken) + 1 - self.burn_in,
            generator=torch.Generator(model_device(model)).manual_seed(trainer.seed),
        )
        reels = comparison_reels(comparison, cast(Renderer, self._render))
        frames = side_by_side(reels, caption=f"{self._title}, {trainer.real_steps:,} real steps")
        path = cast(Path, self._folder) / f"{trainer.real_steps:09d}{self.suffix}"
        write_video(frames, path, fps=self.fps)
        if self.log:
            video = torch.as_tensor(np.stack(frames)).permute(0, 3, 1, 2).unsqueeze(0)
            trainer.logger.log_video("films/dream", video, step=trainer.real_steps)
        return path

    def _episode(self, env: EnvBase, policy: TensorDictPolicy, model: WorldModel, seed: int) -> TensorDictBase:
        """Real steps ``[T]`` up to the end of an episode; of further ones while it is too short for the filter."""
        shown = keys_of(model.observation_spec)
        keys = [*shown, "action", "is_init", *(("next", key) for key in (*shown, "reward", "terminated", "done"))]
        env.set_seed(seed)
        taken: list[TensorDictBase] = []
        with torch.no_grad():
            now = env.reset()
            while len(taken) < self.burn_in - 1 + self.steps:
                stepped, now = env.step_and_maybe_reset(acted(policy, now))
                taken.append(stepped.select(*keys))
                if len(taken) >= self.burn_in and bool(stepped["next", "done"]):
                    break
        return cast(TensorDictBase, torch.stack(cast(Any, taken)))
