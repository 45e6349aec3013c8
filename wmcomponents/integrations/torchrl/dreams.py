"""A dream as a TorchRL environment that keeps the model's state inside."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import TensorSpec
from typing_extensions import Unpack

from wmcomponents._arguments import of_kind, whole
from wmcomponents.codecs import ActionBounds
from wmcomponents.dream.make import Model, make_simulator
from wmcomponents.dream.options import DreamOptions, refuse_unknown
from wmcomponents.dream.uncertainty import UNCERTAINTY
from wmcomponents.functional.broadcast import aligned
from wmcomponents.integrations.torchrl.base import DreamEnvBase, told_spec
from wmcomponents.rendering.frames import simulator_frames


class TorchRLDreamEnv(DreamEnvBase):
    """A dream as a TorchRL ``EnvBase`` with a locked batch: the model's state stays inside, as in a real environment.

    A rollout stores observations, not key-value caches. The model is not registered as a submodule: ``parameters()``,
    ``train()`` and ``to()`` of the environment do not touch it.

    Args:
        model: a world model, or the path of a saved one.
        batch_size: the batch of rows, for example ``[64]``; ``[]`` is a single row.
        seed: of the rows' common generator; fresh entropy if not given.
        compile_model: compile the model's step. (``compile=`` is TorchRL's own option of every environment, which
            compiles ``step_and_maybe_reset`` as a whole: that of a dream breaks the graph.)
        run_type_checks: let ``EnvBase`` look at what each step gives.
        allow_done_after_reset: let ``EnvBase`` take a reset after which a row is done.
        **options: where dreams begin and how they go on, as :class:`~wmcomponents.dream.DreamOptions` says: starts,
            horizon (``StepCounter`` truncates too), view, termination, reward, penalty, noise (given noise is of as
            many rows as the batch has, and begins again after each ``set_seed``) and uncertainty (told under the key
            ``uncertainty``, 0 after a reset).

    Raises:
        CapabilityError: if the model lacks what these options need.
        TypeError: if an option is unknown.
    """

    def __init__(
        self,
        model: Model,
        batch_size: Sequence[int] = (1,),
        *,
        seed: int | None = None,
        compile_model: bool = False,
        run_type_checks: bool = False,
        allow_done_after_reset: bool = False,
        **options: Unpack[DreamOptions],
    ) -> None:
        refuse_unknown(options, type(self))
        of_kind("batch_size", batch_size, Sequence, "a sequence: [64] for 64 rows, [] for a single one")
        batch = torch.Size([whole("each of batch_size", n, 1, "a number of rows, at least 1") for n in batch_size])
        simulator = make_simulator(model, batch_size=batch.numel(), seed=seed, compile=compile_model, **options)
        super().__init__(
            device=simulator.device,
            batch_size=batch,
            run_type_checks=run_type_checks,
            allow_done_after_reset=allow_done_after_reset,
        )
        self.simulator = simulator
        shown = told_spec(simulator)
        self.observation_spec = shown.expand(batch) if batch else shown
        action = simulator.model.action_spec.to(simulator.device)
        self.action_spec = _expanded(action, batch)
        self._bounds = ActionBounds(simulator.model.action_spec, simulator.device)
        self._on_host = simulator.device.type == "cpu"
        self._set_flag_specs(batch, simulator.device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        observation = self.simulator.reset(None if mask is None else mask.reshape(-1, 1))
        ended = torch.zeros(self.simulator.batch_size, 1, dtype=torch.bool, device=self.device)
        if self.simulator.rules.choices.uncertainty is not None:
            observation[UNCERTAINTY] = torch.zeros(self.simulator.batch_size, 1, device=self.device)
        rows = {**observation, "terminated": ended, "truncated": ended.clone(), "done": ended.clone()}
        return TensorDict(self._laid_out(rows), batch_size=self.batch_size, device=self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        action = cast(Tensor, tensordict.get("action"))
        stepped = cast("Tensor | None", tensordict.get("_step", None))
        hold = None if stepped is None else ~stepped.reshape(-1, 1)
        rows = self.simulator.batch_size
        if len(self.batch_size) != 1:
            action = action.reshape(rows, *action.shape[len(self.batch_size) :])
        if hold is not None:
            # What a row that does not step holds as its action means nothing.
            action = action.masked_fill(aligned(hold, action), 0)
        step = self.simulator.step(self._bounds(action), hold=hold)
        observation, reward, terminated, truncated = step
        if self._on_host:
            self.simulator.check_shown(observation, reward)
        if self.simulator.uncertainty is not None:
            observation = {**observation, UNCERTAINTY: self.simulator.uncertainty}
        done = terminated.clone() if self.simulator.all_running else terminated | truncated
        flags = {"terminated": terminated, "truncated": truncated, "done": done}
        if hold is not None:
            # A row that does not step shows the flags that it came with.
            here = {key: tensordict.get(key, None) for key in flags}
            flags = {
                key: flag if here[key] is None else torch.where(hold, cast(Tensor, here[key]).reshape(rows, 1), flag)
                for key, flag in flags.items()
            }
        # Its entries are those of a reset, which were looked at: as TorchRL's own environments build theirs.
        rows_shown = self._laid_out({**observation, "reward": reward, **flags})
        return TensorDict._new_unsafe(rows_shown, batch_size=self.batch_size, device=self.device)

    def render(self) -> Tensor:
        """The current decoded observations as frames, uint8 ``[*batch, H, W, 3]`` on the host.

        What TorchRL's ``PixelRenderTransform`` and ``VideoRecorder`` ask of an environment.
        """
        frames = torch.from_numpy(np.stack(simulator_frames(self.simulator)))
        return frames.reshape(*self.batch_size, *frames.shape[1:])

    def _laid_out(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        size = self.batch_size
        return rows if len(size) == 1 else {key: value.reshape(*size, *value.shape[1:]) for key, value in rows.items()}


def _expanded(spec: TensorSpec, batch: torch.Size) -> TensorSpec:
    return spec.expand(torch.Size([*batch, *spec.shape])) if batch else spec.clone()
