"""Receding horizon: a few actions of each plan are executed before the next one is searched for."""

from typing import Any, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import Binary, Composite, TensorSpec, Unbounded, UnboundedDiscrete
from torchrl.envs import TensorDictPrimer

from wmcomponents._arguments import whole
from wmcomponents.agents.planners.planner import Planned, Planner
from wmcomponents.agents.planners.warm_start import ShiftedPlan
from wmcomponents.world_model import Needs, WorldModel

AHEAD, LEFT = "plan_ahead", "plan_left"
"""Beside what the planner carries: the actions of the last plan that are still to come, and how many there are."""


class RecedingHorizon(TensorDictModuleBase):
    """A planner that searches only after several of its actions, as DINO-WM, jepa-wms and LeWorldModel do.

    It is a policy as the planner is. Only rows whose plan is at its end, or whose episode begins, are planned for.

    Args:
        planner: searches.
        executed: how many actions of a plan are executed.

    Raises:
        ValueError: if a plan has fewer actions, or the next one would begin with the last one shifted by another
            number of steps.

    Example:
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> from wmcomponents.agents.planners import planet_cem
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)))
        >>> RecedingHorizon(planet_cem(model, horizon=6), executed=3).executed
        3
    """

    def __init__(self, planner: Planner, executed: int) -> None:
        super().__init__()
        self.executed = whole("executed", executed, 1, "a number of actions of each plan, at least 1")
        if self.executed > planner.horizon:
            raise ValueError(f"a plan has {planner.horizon} actions, of which {executed} cannot be executed.")
        warm = planner.warm_start
        if isinstance(warm, ShiftedPlan) and warm.steps != self.executed:
            raise ValueError(
                f"the next plan begins with the last one shifted by {warm.steps}, and {executed} steps are executed: "
                f"give the planner warm_start=ShiftedPlan(steps={executed})."
            )
        self.planner = planner
        carried = list(self.carried_spec().keys())
        read = [str(key) for key in planner.in_keys]
        self.in_keys = read + [key for key in carried if key not in read]  # pyright: ignore[reportIncompatibleVariableOverride]
        self.out_keys = ["action", *carried]  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.planner.model

    @property
    def needs(self) -> Needs:
        """What it asks of its world model."""
        return self.planner.needs

    @property
    def dreamed_steps(self) -> int:
        """Steps dreamt in all plans."""
        return self.planner.dreamed_steps

    @dreamed_steps.setter
    def dreamed_steps(self, count: int) -> None:
        self.planner.dreamed_steps = count

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Plan for the rows that have nothing left, write the next ``action`` and what is carried."""
        ahead, left = self._ahead(tensordict)
        waits = (left == 0).squeeze(-1)
        kept = {key: cast("Tensor | None", tensordict.get(cast(Any, key), None)) for key in self._own()}
        if bool(waits.all()):
            planned = self.planner.planned(tensordict)
            ahead, kept = self._first(planned), dict(planned.carried)
        elif bool(waits.any()):
            planned = self.planner.planned(cast(TensorDictBase, tensordict[waits]))
            ahead[waits] = self._first(planned)
            for key, value in planned.carried.items():
                whole_batch = value.new_zeros(*waits.shape, *value.shape[1:]) if kept[key] is None else kept[key]
                kept[key] = cast(Tensor, whole_batch).clone()
                kept[key][waits] = value  # pyright: ignore[reportOptionalSubscript]
        left = torch.where(waits.unsqueeze(-1), torch.full_like(left, self.executed), left) - 1
        axis = waits.ndim
        tensordict.set("action", ahead.select(axis, 0).clone())
        for key, value in {**kept, AHEAD: ahead.roll(-1, axis), LEFT: left}.items():
            if value is not None:
                tensordict.set(key, value)
        return tensordict

    def carried_spec(self) -> Composite:
        """What passes from step to step, for one row."""
        spec = self.planner.model.action_spec
        shape, dtype = torch.Size([self.executed, *spec.shape]), cast(torch.dtype, spec.dtype)
        actions: TensorSpec = UnboundedDiscrete(shape=shape, dtype=dtype)
        if dtype.is_floating_point:
            actions = Unbounded(shape, dtype=dtype)
        elif dtype == torch.bool:
            actions = Binary(shape[-1], shape=shape, dtype=dtype)
        left = UnboundedDiscrete(shape=torch.Size([1]), dtype=torch.int64)
        return Composite({**dict(self.planner.carried_spec().items()), AHEAD: actions, LEFT: left})

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """The transform that carries plans from step to step; an episode's first step has none."""
        return TensorDictPrimer(self.carried_spec(), default_value=0.0, expand_specs=True)

    def generator_state(self) -> Tensor:
        """Where the planner's draws are."""
        return self.planner.generator_state()

    def set_generator_state(self, state: Tensor) -> None:
        """Go on with the draws from there.

        Args:
            state: of :meth:`generator_state`.
        """
        self.planner.set_generator_state(state)

    def _own(self) -> list[str]:
        return [str(key) for key in self.planner.carried_spec().keys()]

    def _first(self, planned: Planned) -> Tensor:
        """The actions that will be executed, ``[*B, executed, ...]``, the first one as an explorer takes it."""
        axis = planned.action.ndim - len(self.model.action_spec.shape)
        actions = planned.actions.narrow(axis, 0, self.executed).clone()
        actions.select(axis, 0).copy_(planned.action)
        return actions

    def _ahead(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """The actions still to come, in memory of their own, and how many there are: none where an episode begins."""
        spec, device = self.model.action_spec, tensordict.get(self.planner.in_keys[0]).device
        shape = (*tensordict.batch_size, self.executed, *spec.shape)
        ahead, left = tensordict.get(AHEAD, None), tensordict.get(LEFT, None)
        if ahead is None or left is None:
            left = torch.zeros(*tensordict.batch_size, 1, dtype=torch.int64, device=device)
            return torch.zeros(shape, dtype=spec.dtype, device=device), left
        is_init = tensordict.get("is_init", None)
        return ahead.clone(), left if is_init is None else left * ~cast(Tensor, is_init)
