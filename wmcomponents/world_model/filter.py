"""The way back: a world model's filter in front of a policy on a real environment."""

from itertools import chain
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor
from torchrl.data import Binary, Composite
from torchrl.envs import TensorDictPrimer

from wmcomponents.codecs import ActionBounds
from wmcomponents.component import Component
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model.noise import Noise, NoiseSource
from wmcomponents.world_model.protocol import Observation, WorldModel

PAST_KNOWN, FILTERED = "past_known", "filtered"
"""Beside a filter's carried state: whether the filter ran in the step before, and whether it ran in this one."""


class Filter(Component):
    """The world model's filter as the front of a policy on a real environment.

    Reads the carried state, the action that led here, the real observation, ``is_init`` (``InitTracker``) and
    ``past_known``: whether the filter also ran in the step before. Where it did not (a random policy acted until now),
    the observation is the first that is known of its episode, and what is carried is not a past. Writes the new state,
    ``filtered`` and, where the model offers features, ``latent``. Use it through :class:`LatentPolicy`, whose
    :class:`FilterPrimer` carries all this to the next step.

    Args:
        model: the world model; whatever mode it is in, it is used in eval mode.
        sample: draw the filter's z from ``generator`` instead of taking the mode.
        seed: of the drawn z; fresh entropy if not given.

    Raises:
        ValueError: if a state or observation of the model is called ``past_known`` or ``filtered``.
    """

    def __init__(self, model: WorldModel, *, sample: bool = False, seed: int | None = None) -> None:
        self._keys = [str(key) for key in model.state_spec.keys()]
        self._observed = [str(key) for key in model.observation_spec.keys()]
        clash = sorted({PAST_KNOWN, FILTERED} & {*self._keys, *self._observed})
        if clash:
            raise ValueError(f"the filter keeps {clash} beside the model's entries: rename these of its states.")
        # A state entry called `latent` is what `features` returns.
        self._with_features = "features" in model.capabilities and "latent" not in self._keys
        super().__init__(
            [*self._keys, "prev_action", *self._observed, "is_init", PAST_KNOWN],
            [*self._keys, FILTERED, *(["latent"] if self._with_features else [])],
        )
        self.model = model
        self._mode = EvalMode(model)
        self._noise: NoiseSource | None = model.noise_source("observe") if sample else None
        self._seed = seed
        self._generator: torch.Generator | None = None
        self._bounds: ActionBounds | None = None

    def compute(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """One filtering step.

        Args:
            *tensors: the entries of ``in_keys``: state, action that led here, observation, ``is_init`` and
                ``past_known``, ``[*B, ...]`` each.

        Returns:
            The entries of ``out_keys``: the new state, ``filtered`` bool ``[*B, 1]``, and the latent ``[*B, F]`` where
            the model has features.

        Raises:
            ValueError: if an observation is not finite (on a CPU).
        """
        values = list(tensors)
        state = {key: values.pop(0) for key in self._keys}
        action = values.pop(0)
        observation = {key: values.pop(0) for key in self._observed}
        is_init, past_known = values
        if self._bounds is None or self._bounds.device != action.device:
            self._bounds = ActionBounds(self.model.action_spec, action.device)
        action = self._bounds(action)
        # Asked on a CPU only: on an accelerator the answer would be waited for at every step.
        if is_init.device.type == "cpu":
            _check_finite(observation)
        noise = self._drawn(is_init)
        with self._mode:
            state = self.model.observe(state, action, observation, is_init | ~past_known, noise)
            seen = (self.model.features(state),) if self._with_features else ()
        return (*(state[key] for key in self._keys), torch.ones_like(is_init), *seen)

    def _drawn(self, is_init: Tensor) -> Noise | None:
        """The filter's z where it is drawn, for rows ``[*B, 1]``."""
        return None if self._noise is None else self._noise(is_init.shape[:-1], self.generator(is_init.device))

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator of the drawn z on a device."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
            self._generator.seed() if self._seed is None else self._generator.manual_seed(self._seed)
        return self._generator


def _check_finite(observation: Observation) -> None:
    for key, value in observation.items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            raise ValueError(f"observation {key!r} of the real environment is not finite; check the environment.")


class FilterPrimer(TensorDictPrimer):
    """Carries a filter's state, and the action that the environment took, from each step to the next.

    The action is read where the environment takes it, behind whatever stands between the policy and the environment
    (exploration noise, another policy), so that ``prev_action`` is what really happened. ``past_known`` tells whether
    the filter ran in this step. Append it after transforms that change actions.

    Args:
        specs: of what is carried, for one row: the state and ``prev_action``.
    """

    def __init__(self, specs: Composite) -> None:
        flag = Binary(1, shape=torch.Size([1]), dtype=torch.bool)
        carried = Composite({**dict(specs.clone().items()), PAST_KNOWN: flag, FILTERED: flag.clone()})
        super().__init__(carried, default_value=0.0, expand_specs=True)

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        # What goes into the environment's step, and is carried by `_step`; the caller's own entries stay as they are.
        if self.parent is None:  # in a replay buffer: nothing is stepped
            return tensordict
        filtered = cast(Tensor, tensordict.get(FILTERED))
        tensordict.set("prev_action", tensordict.get("action"))
        return tensordict.set(PAST_KNOWN, filtered).set(FILTERED, torch.zeros_like(filtered))

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        # As the base class, but with copies, so that the next step's entries share no memory with this step's.
        given = next_tensordict.keys(True)
        for key in cast(Composite, self.primers).keys(True, True):
            if key not in given:
                next_tensordict.set(key, cast(Tensor, tensordict.get(key)).clone())
        return next_tensordict


class LatentPolicy(TensorDictSequential):
    """The way back in TorchRL: filter the real observation, act on the latent.

    Use it as the policy of a rollout or ``Collector`` on the real environment, transformed by ``InitTracker`` and by
    :meth:`make_tensordict_primer`. It may take over in the middle of an episode, and exploration may follow it.

    Args:
        model: the world model.
        policy: a TensorDict module that reads ``latent`` (or state keys) and writes ``action``.
        sample: draw the filter's z instead of taking the mode.
        seed: of the drawn z; fresh entropy if not given.
        carried: what the policy itself carries from step to step beside the filter, such as a planner's plan
            (``planner.carried_spec()``), for one row.
    """

    def __init__(
        self,
        model: WorldModel,
        policy: TensorDictModuleBase,
        *,
        sample: bool = False,
        seed: int | None = None,
        carried: Composite | None = None,
    ) -> None:
        modules: list[Any] = [Filter(model, sample=sample, seed=seed), policy]
        super().__init__(*modules)
        own = {} if carried is None else dict(carried.clone().items())
        state = dict(model.state_spec.clone().items())
        self._specs = Composite({**own, **state, "prev_action": model.action_spec.clone()})

    def generator_state(self) -> Tensor:
        """Where the draws of the filter's z are."""
        return self._drawing().get_state()

    def set_generator_state(self, state: Tensor) -> None:
        """Go on with the draws from there.

        Args:
            state: of :meth:`generator_state`, on the same kind of device.
        """
        self._drawing().set_state(state)

    def _drawing(self) -> torch.Generator:
        front = cast(Filter, self.module[0])
        tensor = next(chain(front.model.parameters(), front.model.buffers()), None)
        return front.generator(torch.device("cpu") if tensor is None else tensor.device)

    def make_tensordict_primer(self) -> FilterPrimer:
        """The transform that carries the filter's state; an episode's first step gets zeros."""
        return FilterPrimer(self._specs)
