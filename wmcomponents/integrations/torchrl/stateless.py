"""A dream as a TorchRL environment whose state travels in its TensorDict."""

from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded
from typing_extensions import Unpack

from wmcomponents.codecs import ActionBounds
from wmcomponents.dream.make import Model, make_simulator
from wmcomponents.dream.options import DreamOptions, refuse_unknown
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.uncertainty import UNCERTAINTY
from wmcomponents.integrations.torchrl.base import DreamEnvBase, told_spec
from wmcomponents.rendering.frames import state_frames
from wmcomponents.world_model import State


class TorchRLStatelessDreamEnv(DreamEnvBase):
    """A dream as a TorchRL ``EnvBase`` that carries the model's whole state in its TensorDict, from any batch.

    For planners and branching: every input row is a complete situation, so a TensorDict of any batch size can be
    stepped, kept, indexed and stepped again. Gradients flow through steps.

    Args:
        model: a world model, or the path of a saved one.
        seed: of the generator; fresh entropy if not given.
        run_type_checks: let ``EnvBase`` look at what each step gives.
        allow_done_after_reset: let ``EnvBase`` take a reset after which a row is done.
        **options: where ``reset()`` begins and how dreams go on, as :class:`~wmcomponents.dream.DreamOptions` says:
            starts, horizon (counted in the key ``elapsed``), view (``"latent"`` by default here, beside the state
            keys), termination, reward, penalty, noise (of given noise of N rows each step of a batch of N takes the
            next; ``set_seed`` begins it again) and uncertainty (told under the key ``uncertainty``, 0 after a reset).

    Raises:
        CapabilityError: if the model lacks what these options need.
        TypeError: if an option is unknown.
    """

    _supports_set_state = True

    def __init__(
        self,
        model: Model,
        *,
        seed: int | None = None,
        run_type_checks: bool = False,
        allow_done_after_reset: bool = False,
        **options: Unpack[DreamOptions],
    ) -> None:
        refuse_unknown(options, type(self))
        options.setdefault("view", "latent")
        simulator = make_simulator(model, seed=seed, **options)
        super().__init__(
            device=simulator.device,
            batch_size=(),
            run_type_checks=run_type_checks,
            allow_done_after_reset=allow_done_after_reset,
        )
        # EnvBase keeps this flag on the class; on the instance it leaves every other environment alone.
        self._batch_locked = False
        self.simulator = simulator
        device = simulator.device
        _check_names(simulator)
        carried = Composite({key: leaf.clone() for key, leaf in simulator.model.state_spec.items()}).to(device)
        carried["elapsed"] = Unbounded(torch.Size([1]), dtype=torch.int64, device=device)
        self.observation_spec = Composite({**dict(told_spec(simulator).items()), **dict(carried.clone().items())})
        self.state_spec = carried
        self.action_spec = simulator.model.action_spec.to(device).clone()
        self._bounds = ActionBounds(simulator.model.action_spec, device)
        self._set_flag_specs((), device)

    def _reset(self, tensordict: TensorDictBase | None = None, *, set_state: bool = False, **kwargs: Any) -> TensorDict:
        size = torch.Size([]) if tensordict is None else tensordict.batch_size
        elapsed = torch.zeros(*size, 1, dtype=torch.int64, device=self.device)
        if set_state and tensordict is not None:
            state = self._given(tensordict)
            elapsed = tensordict.get("elapsed", elapsed).clone()
        else:
            mask = None if tensordict is None else tensordict.get("_reset", None)
            fresh = self.simulator.draw_starts(size.numel(), None if mask is None else mask.reshape(-1))
            state = {key: value.reshape((*size, *value.shape[1:])) for key, value in fresh.items()}
        flags = {key: torch.zeros_like(elapsed, dtype=torch.bool) for key in ("terminated", "truncated", "done")}
        entries = {**self.simulator.look(state), **state, "elapsed": elapsed, **flags}
        if self.simulator.rules.choices.uncertainty is not None:
            entries[UNCERTAINTY] = torch.zeros(*size, 1, device=self.device)
        return TensorDict(entries, batch_size=size, device=self.device)

    def _given(self, tensordict: TensorDictBase) -> State:
        """The state in a TensorDict, copied.

        Raises:
            KeyError: naming what it lacks.
        """
        keys = [str(key) for key in self.simulator.model.state_spec.keys()]
        lacking = [key for key in keys if key not in tensordict.keys()]
        if lacking:
            raise KeyError(
                f"reset(set_state=True) begins in the given state, and it lacks {lacking} of "
                f"{type(self.simulator.model).__name__}'s {keys}. Leave set_state out to begin anew."
            )
        return {key: cast(Tensor, tensordict[key]).clone() for key in keys}

    def render(self, tensordict: TensorDictBase) -> Tensor:
        """The situations of a TensorDict as frames, uint8 ``[*B, H, W, 3]`` on the host.

        What TorchRL's ``PixelRenderTransform(pass_tensordict=True)`` asks of an environment.
        """
        size = tensordict.batch_size
        keys = self.simulator.model.state_spec.keys()
        rows = {str(key): tensordict[key].reshape(-1, *tensordict[key].shape[len(size) :]) for key in keys}
        frames = torch.from_numpy(np.stack(state_frames(self.simulator, rows)))
        return frames.reshape(*size, *frames.shape[1:])

    def _resolve_set_state(self, set_state: bool | None, tensordict: Any, select_reset_only: bool) -> bool:
        # A reset mask asks for fresh rows, and so does saying nothing: only set_state=True keeps the given state.
        if set_state is None or (tensordict is not None and tensordict.get("_reset", None) is not None):
            return False
        return bool(super()._resolve_set_state(set_state, tensordict, select_reset_only))

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        simulator, size = self.simulator, tensordict.batch_size
        state = {str(key): cast(Tensor, tensordict[key]) for key in simulator.model.state_spec.keys()}
        action = self._bounds(cast(Tensor, tensordict["action"]))
        # A TensorDict that comes from elsewhere (a real environment, for a planner) has no clock: it begins at 0.
        begun = tensordict.get("elapsed", None)
        elapsed = torch.ones(*size, 1, dtype=torch.int64, device=self.device) if begun is None else begun + 1
        after, reward, terminated, unknown = simulator.foresee(state, action, size)
        truncated = torch.zeros_like(terminated) if simulator.horizon is None else elapsed >= simulator.horizon
        flags = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
        entries = {**simulator.look(after), **after, "elapsed": elapsed, "reward": reward, **flags}
        if unknown is not None:
            entries[UNCERTAINTY] = unknown
        return TensorDict(entries, batch_size=size, device=self.device)


def _check_names(simulator: Simulator) -> None:
    """One name, one thing: state, view and TorchRL's own entries lie side by side in one TensorDict.

    A state entry called ``latent`` is what ``features`` returns, so the view shows that very entry.
    """
    carried, shown = simulator.model.state_spec, simulator.observation_spec
    clash = sorted({"elapsed", "terminated", "truncated", "done"} & set(map(str, carried.keys())))
    if "latent" in carried.keys() and "latent" in shown.keys() and carried["latent"].shape != shown["latent"].shape:
        clash.append("latent")
    if clash:
        raise ValueError(
            f"the stateless dream carries the state beside its own entries, and both use the names {clash}: rename "
            f"these state entries of {type(simulator.model).__name__}."
        )
