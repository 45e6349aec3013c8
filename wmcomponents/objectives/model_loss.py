"""What all world-model losses share: keys, noise, reduction, and what the training loop asks of them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictParams, dispatch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import Composite
from torchrl.envs.utils import ExplorationType
from torchrl.objectives import LossModule
from typing_extensions import get_protocol_members, is_protocol

from wmcomponents._global_batch import global_mean
from wmcomponents.objectives.arrivals import Arrivals, Transitions, arrivals_from, check_sequences, under_next
from wmcomponents.objectives.weights import placed
from wmcomponents.optim import LaProp
from wmcomponents.world_model import keys_of


class TrainableModel(Protocol):
    """What every loss reads of its model; the least a lineage's own protocol or model class offers.

    Attributes:
        observation_spec: spec of one real observation.
    """

    observation_spec: Composite

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The weights."""
        ...


M = TypeVar("M", bound=TrainableModel)
"""The kind of model that a loss trains: a class, or a protocol where the class imports the loss."""


class Terms(NamedTuple):
    """What an objective computes, element by element.

    Attributes:
        losses: the weighted terms whose sum is minimised, by name, each ``[B, L]`` like ``weight``, or shorter in time.
        info: diagnostics by name, each ``[B, L]`` like ``weight``, or shorter in time.
        weight: weight of each element, ``[B, L]``; 0 in padding. By name where terms have elements of their
            own, each of its term's shape.
    """

    losses: dict[str, Tensor]
    info: dict[str, Tensor]
    weight: Tensor | Mapping[str, Tensor]


class ModelLoss(LossModule, Generic[M]):
    """Base of the world-model losses: TorchRL-layout sequences in, ``loss_*`` scalars and detached diagnostics out.

    A family says which kind of model it trains (``class MyLoss(ModelLoss[MyModel])``; :func:`check_model` refuses the
    others), writes :meth:`elements`, and names in :meth:`_written` what that returns.

    Args:
        world_model: the model to train.
        coefficients: numbers of the objective, kept as buffers under their names.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (element by element). Diagnostics
            are means.

    Raises:
        ValueError: for an unknown reduction.
    """

    @dataclass
    class _AcceptedKeys:
        action: NestedKey = "action"
        is_init: NestedKey = "is_init"
        reward: NestedKey = "reward"
        terminated: NestedKey = "terminated"
        done: NestedKey = "done"
        mask: NestedKey = ("collector", "mask")
        priority_weight: NestedKey = "priority_weight"

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys
    # LossModule.forward runs in deterministic mode by default, which would silently train on modes.
    deterministic_sampling_mode: Any = ExplorationType.RANDOM

    world_model: M
    world_model_params: TensorDictParams
    target_world_model_params: TensorDictParams

    def __init__(
        self,
        world_model: M,
        *,
        coefficients: Mapping[str, float] | None = None,
        seed: int = 0,
        reduction: str = "mean",
        create_target_params: bool = False,
    ) -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction is 'mean', 'sum' or 'none'; got {reduction!r}.")
        self.observation_keys = keys_of(world_model.observation_spec)
        super().__init__()
        module = cast(TensorDictModule, world_model)  # any nn.Module will do
        self.convert_to_functional(module, "world_model", create_target_params=create_target_params)
        device = next(world_model.parameters()).device
        for name, value in (coefficients or {}).items():
            self.register_coeff_buffer(name, float(value), device=device)
        self.reduction = reduction
        self._seed = seed
        self._generator: torch.Generator | None = None
        self.out_keys = cast(Any, self._written())
        self.set_keys()

    @abstractmethod
    def elements(self, tensordict: TensorDictBase) -> Terms:
        """Every weighted term of a batch of sequences ``[B, T]``; the model's parameters are in place meanwhile."""

    def arrivals(self, tensordict: TensorDictBase, further: Sequence[str] = ()) -> Arrivals:
        """Sequences ``[B, T]`` of transitions as T + 1 arrivals, read under the keys of this objective.

        Args:
            tensordict: the sequences.
            further: keys of what else is gathered like observations.

        Raises:
            ValueError, KeyError: see :func:`wmcomponents.objectives.arrivals.arrivals_from`.
        """
        keys = self.tensor_keys
        return arrivals_from(
            tensordict,
            [*self.observation_keys, *further],
            action=keys.action,
            is_init=keys.is_init,
            reward=keys.reward,
            terminated=keys.terminated,
            done=keys.done,
            mask=keys.mask,
            priority_weight=keys.priority_weight,
        )

    def transitions(self, tensordict: TensorDictBase, further: Sequence[NestedKey] = ()) -> Transitions:
        """Rewards, ends and weights of sequences ``[B, T]``, read under the keys of this objective.

        Args:
            tensordict: the sequences.
            further: keys that must be there too.

        Raises:
            ValueError: if the sequences have no batch ``[B, T]``.
            KeyError: if a key is missing.
        """
        keys = self.tensor_keys
        outcome = [under_next(key) for key in (keys.reward, keys.terminated, keys.done)]
        check_sequences(tensordict, [keys.action, keys.is_init, *outcome, *further])
        shape = tensordict.batch_size
        reward, terminated, done, first = (tensordict.get(key).reshape(shape) for key in (*outcome, keys.is_init))
        mask, priority = tensordict.get(keys.mask, None), tensordict.get(keys.priority_weight, None)
        real = torch.ones_like(done) if mask is None else mask.reshape(shape).bool()
        weight = real.float() if priority is None else priority.reshape(shape).float() * real
        # Padding may hold anything, NaN included.
        return Transitions(torch.where(real, reward, 0.0), terminated & real, done | terminated, first, real, weight)

    @abstractmethod
    def _written(self) -> list[NestedKey]:
        """Keys written: ``loss_<name>`` and the diagnostics."""

    # -- what the training loop asks ---------------------------------------------------------------------------------

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """The paper's optimiser over this objective's parameters; LaProp unless a family says otherwise.

        Args:
            lr: learning rate; the paper's if not given.
            warmup: steps over which the rate grows from 0; the paper's if not given, often none.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        return LaProp(params, 4e-5 if lr is None else lr, warmup=1000 if warmup is None else warmup)

    def before_update(self, step: int) -> None:
        """Called by the training loop before it takes step ``step`` (from 0): stages and schedules; nothing here."""

    def after_update(self, step: int) -> None:
        """Called by the training loop after step ``step`` (from 0) was taken: target networks; nothing here."""

    def probes(self, tensordict: TensorDictBase) -> dict[str, Tensor]:
        """Diagnostics that are too dear for every update: asked where the training loop logs. None here.

        Args:
            tensordict: the newest batch, sequences ``[B, T]``.
        """
        return {}

    phases: ClassVar[int] = 1
    """Steps of the optimiser that an update has: one, unless a family trains one part behind another."""

    def phase(self, tensordict: TensorDictBase, number: int) -> TensorDict:
        """The losses on which the training loop steps in one phase of an update, at the weights that the last one gave.

        Each batch of an update comes once in every phase, in the same order.

        Args:
            tensordict: sequences ``[B, T]``.
            number: of the phase, from 0.
        """
        return self(tensordict)

    @property
    def generator(self) -> torch.Generator:
        """The generator of the noise, on the model's device: ``generator.manual_seed(0)`` repeats it."""
        device = next(self.parameters()).device
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return self._generator

    @generator.setter
    def generator(self, generator: torch.Generator) -> None:
        self._generator = generator

    # -- LossModule ----------------------------------------------------------------------------------------------------

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys read."""
        keys = self.tensor_keys
        below_next = map(under_next, (*self.observation_keys, keys.reward, keys.terminated, keys.done))
        return [*self.observation_keys, keys.action, keys.is_init, *below_next]

    @in_keys.setter
    def in_keys(self, value: Any) -> None:
        raise AttributeError("in_keys follow from the model and set_keys().")

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        """No value is estimated by TorchRL's estimators here."""

    @dispatch()
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The losses of a batch of sequences ``[B, T]``; the input is left as it is."""
        with self._placed():
            terms = self.elements(tensordict)
        return self._told(terms)

    def _placed(self) -> AbstractContextManager[None]:
        """The parameters of this objective in its model, for a while."""
        return placed(self.world_model_params, cast(nn.Module, self.world_model))

    def _told(self, terms: Terms) -> TensorDict:
        """Terms as what is returned: losses in the form asked for, and means of the diagnostics."""
        losses, info, weights = terms
        weight = {name: weights[name] if isinstance(weights, Mapping) else weights for name in (*losses, *info)}
        out = {f"loss_{name}": _reduced(value, weight[name], self.reduction) for name, value in losses.items()}
        out.update({name: _reduced(value.detach(), weight[name], "mean") for name, value in info.items()})
        return TensorDict(out)


def check_model(world_model: object, kind: type, loss: type) -> None:
    """Refuse a model of a kind that a loss does not train.

    A protocol is met by a model that has all its members. (``isinstance`` does not tell: from Python 3.12 on it looks
    for them in classes alone, where the parts of an ``nn.Module`` are not.)

    Args:
        world_model: the model that was given.
        kind: the class, or the protocol, of the models that the loss trains.
        loss: the loss's class, for the message.

    Raises:
        TypeError: naming both, and what is missing.
    """
    if is_protocol(kind):
        lacking = sorted(name for name in get_protocol_members(kind) if not hasattr(world_model, name))
        fault = f"has no {', '.join(lacking)}" if lacking else ""
    else:
        fault = "" if isinstance(world_model, kind) else f"is no {kind.__name__}"
    if fault:
        raise TypeError(
            f"{loss.__name__} trains a {kind.__name__}; {type(world_model).__name__} {fault}: use the loss that its "
            f"own objective() makes."
        )


def _reduced(value: Tensor, weight: Tensor, reduction: str) -> Tensor:
    weight = weight[:, : value.shape[1]]
    value = torch.where(weight > 0, value, torch.zeros_like(value)) * weight
    if reduction == "none":
        return value
    # Of a batch that is spread over processes, the mean of their means is that of the whole only with its mean weight.
    return value.sum() if reduction == "sum" else value.sum() / global_mean(weight.sum()).clamp_min(1.0e-8)
