"""A dream as a Gymnasium vector environment."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from wmcomponents._extras import require
from wmcomponents.dream.make import Model, make_simulator
from wmcomponents.dream.options import DreamOptions, refuse_unknown
from wmcomponents.dream.simulator import DreamStep
from wmcomponents.dream.uncertainty import UNCERTAINTY
from wmcomponents.rendering.frames import simulator_frames

gymnasium = require("gymnasium", extra="gym")

from gymnasium.envs.registration import EnvSpec  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space  # noqa: E402

from wmcomponents.integrations.gymnasium.dreams import (  # noqa: E402
    StepAfterDoneError,
    checked_render_mode,
    dream_spec,
)
from wmcomponents.integrations.spaces import ActionReader, HostWriter, row_of  # noqa: E402


class DreamVectorEnv(VectorEnv):
    """A world model as a ``gymnasium.vector.VectorEnv``: all rows step in one call of the model.

    Rows share one generator: the same seed gives the same dream for the same number of rows. One row equals
    :class:`DreamEnv` under the same seed, whatever the autoreset mode (but with ``NEXT_STEP`` and torch output on an
    accelerator, where the step that restarts the row draws a step's noise, since nobody looks whether it restarts).

    Args:
        model: a world model, or the path of a saved one.
        num_envs: number of rows.
        autoreset_mode: what happens to finished rows. ``NEXT_STEP`` (Gymnasium's default) restarts them at the next
            step, ``SAME_STEP`` at once (with ``final_obs`` in the infos), ``DISABLED`` waits for
            ``reset(options={"reset_mask": ...})``.
        output: ``"numpy"``, or ``"torch"`` to leave observations, rewards and flags on the model's device. On an
            accelerator a step then never waits for it: ``SAME_STEP`` gives ``final_obs`` at every step, with its mask.
        render_mode: ``None`` or ``"rgb_array"``.
        max_episode_steps: the name under which ``gymnasium.make_vec`` passes the horizon; of both, the shorter counts.
        compile: compile the model's step.
        **options: where dreams begin and how they go on, as :class:`~wmcomponents.dream.DreamOptions` says: starts,
            horizon, view, termination, reward, penalty, noise (given noise is of ``num_envs`` rows, and begins again at
            each reset with a seed) and uncertainty (told as ``infos["uncertainty"]``, with its mask).

    Attributes:
        simulator: the dream itself, to save, fork and rewind.

    Raises:
        CapabilityError: if the model lacks what these options need.
        TypeError: if an option is unknown.
        BadModelError: if the path holds no valid saved model.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}
    _spec: EnvSpec | None = None
    _drawn_from: np.random.Generator | None = None

    def __init__(
        self,
        model: Model,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: Literal["numpy", "torch"] = "numpy",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        compile: bool = False,
        **options: Unpack[DreamOptions],
    ) -> None:
        refuse_unknown(options, type(self))
        if output not in ("numpy", "torch"):
            raise ValueError(f"output is 'numpy' or 'torch'; got {output!r}.")
        limits = [limit for limit in (options.get("horizon"), max_episode_steps) if limit is not None]
        options["horizon"] = min(limits, default=None)
        self.simulator = make_simulator(model, batch_size=num_envs, compile=compile, **options)
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = checked_render_mode(render_mode, self.metadata)
        self._read = ActionReader(self.simulator.model.action_spec, self.simulator.device)
        self._host = HostWriter(self.simulator)
        self._numpy = output == "numpy"
        self._looks = self._numpy or self.simulator.device.type == "cpu"
        self.single_observation_space = self._host.space
        self.single_action_space = self._read.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def spec(self) -> EnvSpec | None:
        """The spec that ``gymnasium.make_vec`` sets. It tells the horizon, and copies of it refer to the same model."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = dream_spec(spec, self.simulator.horizon)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: one integer, or one for each row (together they seed the rows' common generator).
            options: ``{"reset_mask": bool array [num_envs]}`` restarts these rows only.

        Raises:
            ValueError: if the mask has the wrong shape or dtype, selects nothing, or leaves rows out of the first
                reset; or a list of seeds is not one for each row.
        """
        mask = self._mask((options or {}).get("reset_mask"))
        if seed is not None and not isinstance(seed, (int, np.integer)):
            seed = _combined_seed(seed, self.num_envs)
        super().reset(seed=None if seed is None else int(seed))
        if self.np_random is not self._drawn_from:  # the first reset, another seed, or a generator set by hand
            self._drawn_from = self.np_random
            self.simulator.seed(int(self.np_random.integers(2**31)))
        return self._seen(self.simulator.reset(mask)), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Dream one step in every row.

        Raises:
            StepAfterDoneError: before the first reset; with ``DISABLED``, if a finished row was not reset (on an
                accelerator this is looked at with ``output="numpy"`` only, since looking waits for the device).
            SpaceError: if the actions do not fit ``action_space``.
            NotFiniteError: if the model shows a NaN or an infinity (looked at with ``output="numpy"``, and on a CPU).
        """
        simulator, mode = self.simulator, self.autoreset_mode
        if not simulator.state:
            raise StepAfterDoneError("no episode was begun: call reset() before step().")
        restart = None
        resets_apart = mode is not AutoresetMode.SAME_STEP
        if resets_apart and not simulator.all_running and self._done(unseen=mode is AutoresetMode.NEXT_STEP):
            if mode is AutoresetMode.DISABLED:
                rows = simulator.done.flatten().nonzero().flatten().tolist()
                raise StepAfterDoneError(f"rows {rows} are finished: reset(options={{'reset_mask': mask}}) them first.")
            restart = simulator.done
        action = self._read(actions, self.num_envs)
        if restart is not None and self._looks and bool(restart.all()):
            # No row takes a step, so none draws a step's noise: one row dreams what the single environment dreams.
            return *self._restarted(), {}
        step = self._out(simulator.step(action, restart=restart, lend=self._numpy))
        if resets_apart or not self._done(unseen=True):
            return *step, self._told(restart)
        final, reward, terminated, truncated = step
        done, unknown = simulator.done, self._told(None)
        infos = self._final_infos(final, done)
        if unknown:  # of an episode that ended it is told with what ended
            infos["final_info"] = self._told(~done)
            infos |= self._told(done)
        return self._seen(simulator.reset(simulator.done)), reward, terminated, truncated, infos

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Ask every row for an attribute, or call a method of it, as Gymnasium's own vector environments do.

        All rows are one dream, so a method is called once. Where it gives a tuple, list, array or tensor with one entry
        for each row, each row's own is told; anything else is told for every row.

        Args:
            name: of a method or attribute of this environment; ``observation_space`` and ``action_space`` are a row's.
            *args: of the method.
            **kwargs: of the method.

        Returns:
            One answer for each row.
        """
        of_one_row = {"observation_space": self.single_observation_space, "action_space": self.single_action_space}
        if name in of_one_row:
            return (of_one_row[name],) * self.num_envs
        value = getattr(self, name)
        if not callable(value):
            return (value,) * self.num_envs
        answer: Any = value(*args, **kwargs)
        if isinstance(answer, (tuple, list, np.ndarray, Tensor)) and len(answer) == self.num_envs:
            return tuple(answer)
        return (answer,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute, once for each row."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of the dream.

        Args:
            name: of the attribute.
            values: one value, or a list or tuple with one for each row; rows of one dream cannot differ.

        Raises:
            ValueError: if a list has another length, or its values differ.
        """
        if isinstance(values, (list, tuple)):
            if len(values) != self.num_envs or any(value is not values[0] and value != values[0] for value in values):
                raise ValueError(
                    f"the {self.num_envs} rows are one dream: give one value of {name!r}, or the same for each row; "
                    f"got {values!r:.80}."
                )
            values = values[0]
        setattr(self, name, values)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current decoded observations, one uint8 frame ``(H, W, 3)`` for each row."""
        return None if self.render_mode is None else tuple(simulator_frames(self.simulator))

    def _done(self, *, unseen: bool) -> bool:
        """Whether a row is done; ``unseen`` where the answer would make a host wait that otherwise would not."""
        if self.simulator.all_running:
            return False
        return bool(self.simulator.done.any()) if self._looks else unseen

    def _restarted(self) -> tuple[Any, Any, Any, Any]:
        """The step in which every row only begins anew."""
        seen = self._seen(self.simulator.reset())
        if self._numpy:
            rewards, ends = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
            return seen, rewards, ends, ends.copy()
        reward = torch.zeros(self.num_envs, device=self.simulator.device)
        return seen, reward, torch.zeros_like(reward, dtype=torch.bool), torch.zeros_like(reward, dtype=torch.bool)

    def _told(self, idle: Tensor | None) -> dict[str, Any]:
        """The uncertainty of the step just taken, in Gymnasium's layout; nothing where none is measured.

        Args:
            idle: bool ``[N, 1]``: rows of which none is told; all are if not given.
        """
        unknown = self.simulator.uncertainty
        if unknown is None:
            return {}
        told = torch.ones_like(unknown, dtype=torch.bool) if idle is None else ~idle
        pair = unknown.masked_fill(~told, 0.0).squeeze(-1), told.squeeze(-1)
        value, mask = (part.cpu().numpy() for part in pair) if self._numpy else pair
        return {UNCERTAINTY: value, f"_{UNCERTAINTY}": mask}

    def _final_infos(self, final: Any, done: Tensor) -> dict[str, Any]:
        """What ended with the episodes: arrays of objects in Gymnasium's layout, or stacked tensors."""
        if not self._numpy:
            mask = done.squeeze(-1)
            return {"final_obs": final, "_final_obs": mask, "final_info": {}, "_final_info": mask.clone()}
        mask = done.squeeze(-1).cpu().numpy()
        rows = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(mask):
            rows[i] = row_of(final, int(i), self.single_observation_space)
        return {"final_obs": rows, "_final_obs": mask, "final_info": {}, "_final_info": mask.copy()}

    def _seen(self, observation: dict[str, Tensor]) -> Any:
        return self._host.observation(observation) if self._numpy else self._host.write(observation)

    def _out(self, step: DreamStep) -> tuple[Any, Any, Any, Any]:
        if self._numpy:
            return self._host.step(step)
        observation, reward, terminated, truncated = step
        if self.simulator.device.type == "cpu":
            self.simulator.check_shown(observation, reward)
        return self._host.write(observation), reward.squeeze(-1), terminated.squeeze(-1), truncated.squeeze(-1)

    def _mask(self, mask: Any) -> Tensor | None:
        if mask is None:
            return None
        tensor = mask if isinstance(mask, Tensor) else torch.as_tensor(np.asarray(mask))
        if tensor.dtype is not torch.bool or tuple(tensor.shape) != (self.num_envs,):
            raise ValueError(
                f"reset_mask is a bool array of shape ({self.num_envs},); got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if not bool(tensor.any()):
            raise ValueError("reset_mask selects no row; leave out the call instead.")
        return tensor.to(self.simulator.device).reshape(-1, 1)


def _combined_seed(seeds: Sequence[int | None], rows: int) -> int | None:
    """One seed out of one for each row; rows share a generator."""
    if len(seeds) != rows:
        raise ValueError(f"a list of seeds has one for each of the {rows} rows; got {len(seeds)}.")
    known = [seed for seed in seeds if seed is not None]
    return int(np.random.SeedSequence(known).generate_state(1)[0]) if known else None


def _autoreset_mode(mode: Any) -> AutoresetMode:
    for known in AutoresetMode:
        if mode in (known, known.value, known.name):
            return known
    names = ", ".join(f"AutoresetMode.{known.name}" for known in AutoresetMode)
    raise ValueError(f"autoreset_mode is one of {names}; got {mode!r}.")
