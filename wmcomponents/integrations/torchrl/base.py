"""What dreams are as TorchRL environments, whatever their form."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Composite, Unbounded
from torchrl.envs import EnvBase

from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.uncertainty import UNCERTAINTY


def told_spec(simulator: Simulator) -> Composite:
    """What a dream tells of one row beside reward and flags: its observation, and its uncertainty where it is measured.

    Args:
        simulator: the dream.
    """
    shown: dict[Any, Any] = dict(simulator.observation_spec.items())
    if simulator.rules.choices.uncertainty is not None:
        shown[UNCERTAINTY] = Unbounded(torch.Size([1]), device=simulator.device)
    return Composite(shown, device=simulator.device)


class DreamEnvBase(EnvBase):
    """What both forms share: specs of reward and flags, seeding, ownership of the model.

    The model is not registered as a submodule: ``parameters()``, ``train()`` and ``to()`` of the environment do not
    touch it. A deep copy or a pickle of the environment takes the model along.
    """

    simulator: Simulator

    def _set_flag_specs(self, batch: Sequence[int], device: torch.device) -> None:
        shape = torch.Size([*batch, 1])
        self.reward_spec = Unbounded(shape, device=device)
        flag = Binary(1, shape=shape, dtype=torch.bool, device=device)
        self.done_spec = Composite(
            done=flag.clone(), terminated=flag.clone(), truncated=flag.clone(), shape=tuple(batch), device=device
        )

    def to(self, device: Any) -> Any:
        """Stay: the environment stands on its model's device and does not own the model.

        Raises:
            ValueError: if another device is asked for.
        """
        wanted = torch.empty(0, device=device).device
        if wanted != self.simulator.device:
            raise ValueError(
                f"a dream stands on its model's device ({self.simulator.device}): move the model to {wanted}, then "
                f"build the dream."
            )
        return self

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self.simulator.seed(seed)

    def _step_proc_data(self, next_tensordict_out: TensorDictBase) -> TensorDictBase:
        # EnvBase mends what `_step` left out or misshaped; here each entry is exact, and looking for faults is slow.
        return super()._step_proc_data(next_tensordict_out) if self.run_type_checks else next_tensordict_out

    def get_extra_state(self) -> Tensor:
        """The generator's state, so that a ``state_dict`` resumes the same noise."""
        return self.simulator.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the generator's state."""
        self.simulator.generator.set_state(state.cpu())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a ``state_dict``; an empty one, which is what a collector keeps of a bare environment, changes nothing.

        A collector that resumes a bare dream goes on with other noise, as it goes on with other episodes: to go on with
        the same, save the environment's own ``state_dict`` beside the collector's.
        """
        return super().load_state_dict(state_dict, strict and bool(state_dict), assign)
