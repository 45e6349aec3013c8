"""Dreams as TorchRL environments, in two forms; and the way back, the filter in front of a real policy."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase, TensorDictPrimer
from typing_extensions import Unpack

from wmcomponents._arguments import of_kind, whole
from wmcomponents.codecs import ActionBounds
from wmcomponents.component import Component
from wmcomponents.dream.make import Model, make_simulator
from wmcomponents.dream.options import DreamOptions, refuse_unknown
from wmcomponents.dream.simulator import Simulator
from wmcomponents.functional.broadcast import aligned
from wmcomponents.nn.mode import EvalMode
from wmcomponents.rendering.frames import simulator_frames, state_frames
from wmcomponents.world_model import NoiseSource, WorldModel

PAST_KNOWN, FILTERED = "past_known", "filtered"
"""Beside a filter's carried state: whether the filter ran in the step before, and whether it ran in this one."""


class _DreamEnvBase(EnvBase):
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


class TorchRLDreamEnv(_DreamEnvBase):
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
            horizon (``StepCounter`` truncates too), view, termination, reward, penalty and noise (given noise is of as
            many rows as the batch has, and begins again after each ``set_seed``).

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
        self.observation_spec = simulator.observation_spec.expand(batch) if batch else simulator.observation_spec
        action = simulator.model.action_spec.to(simulator.device)
        self.action_spec = _expanded(action, batch)
        self._bounds = ActionBounds(simulator.model.action_spec, simulator.device)
        self._on_host = simulator.device.type == "cpu"
        self._set_flag_specs(batch, simulator.device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        observation = self.simulator.reset(None if mask is None else mask.reshape(-1, 1))
        ended = torch.zeros(self.simulator.batch_size, 1, dtype=torch.bool, device=self.device)
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


class TorchRLStatelessDreamEnv(_DreamEnvBase):
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
            keys), termination, reward, penalty and noise (of given noise of N rows each step of a batch of N takes the
            next; ``set_seed`` begins it again).

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
        self.observation_spec = Composite({**dict(simulator.observation_spec.items()), **dict(carried.clone().items())})
        self.state_spec = carried
        self.action_spec = simulator.model.action_spec.to(device).clone()
        self._bounds = ActionBounds(simulator.model.action_spec, device)
        self._set_flag_specs((), device)

    def _reset(self, tensordict: TensorDictBase | None = None, *, set_state: bool = False, **kwargs: Any) -> TensorDict:
        size = torch.Size([]) if tensordict is None else tensordict.batch_size
        keys = [str(key) for key in self.simulator.model.state_spec.keys()]
        if set_state and tensordict is not None:
            lacking = [key for key in keys if key not in tensordict.keys()]
            if lacking:
                raise KeyError(
                    f"reset(set_state=True) begins in the given state, and it lacks {lacking} of "
                    f"{type(self.simulator.model).__name__}'s {keys}. Leave set_state out to begin anew."
                )
            state = {key: cast(Tensor, tensordict[key]).clone() for key in keys}
        else:
            mask = None if tensordict is None else tensordict.get("_reset", None)
            fresh = self.simulator.draw_starts(size.numel(), None if mask is None else mask.reshape(-1))
            state = {key: value.reshape((*size, *value.shape[1:])) for key, value in fresh.items()}
        begun = tensordict.get("elapsed", None) if set_state and tensordict is not None else None
        zeros = torch.zeros(*size, 1, dtype=torch.int64, device=self.device)
        elapsed = zeros if begun is None else cast(Tensor, begun).clone()
        flags = {key: torch.zeros_like(zeros, dtype=torch.bool) for key in ("terminated", "truncated", "done")}
        entries = {**self.simulator.look(state), **state, "elapsed": elapsed, **flags}
        return TensorDict(entries, batch_size=size, device=self.device)

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
        after, reward, terminated = simulator.predict(state, action, size)
        truncated = torch.zeros_like(terminated) if simulator.horizon is None else elapsed >= simulator.horizon
        flags = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
        entries = {**simulator.look(after), **after, "elapsed": elapsed, "reward": reward, **flags}
        return TensorDict(entries, batch_size=size, device=self.device)


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
        """One filtering step."""
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
            for key, value in observation.items():
                if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
                    raise ValueError(
                        f"observation {key!r} of the real environment is not finite; check the environment."
                    )
        noise = None
        if self._noise is not None:
            if self._generator is None or self._generator.device != is_init.device:
                self._generator = torch.Generator(is_init.device)
                self._generator.seed() if self._seed is None else self._generator.manual_seed(self._seed)
            noise = self._noise(is_init.shape[:-1], self._generator)
        with self._mode:
            state = self.model.observe(state, action, observation, is_init | ~past_known, noise)
            seen = (self.model.features(state),) if self._with_features else ()
        return (*(state[key] for key in self._keys), torch.ones_like(is_init), *seen)


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
    """

    def __init__(
        self, model: WorldModel, policy: TensorDictModuleBase, *, sample: bool = False, seed: int | None = None
    ) -> None:
        modules: list[Any] = [Filter(model, sample=sample, seed=seed), policy]
        super().__init__(*modules)
        self._specs = Composite({**dict(model.state_spec.clone().items()), "prev_action": model.action_spec.clone()})

    def make_tensordict_primer(self) -> FilterPrimer:
        """The transform that carries the filter's state; an episode's first step gets zeros."""
        return FilterPrimer(self._specs)


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


def _expanded(spec: TensorSpec, batch: torch.Size) -> TensorSpec:
    return spec.expand(torch.Size([*batch, *spec.shape])) if batch else spec.clone()
