"""How an objective's gradient is computed: in one process, in replicas (DDP), or with its state in shards (FSDP2)."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictParams
from torch import Tensor, nn
from torch.optim import Optimizer

from wmcomponents._global_batch import average_gradients, spread_over_processes
from wmcomponents.objectives import ModelLoss
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.training.ranks import Ranks

ParallelKind = Literal["ddp", "fsdp"]


class Losses(nn.Module):
    """An objective as a module whose forward gives plain tensors by name, and whose parameters are those it trains.

    Args:
        objective: the objective; no part of this module.
    """

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self._objective = (objective,)
        for number, param in enumerate(p for p in objective.parameters() if p.requires_grad):
            self.register_parameter(f"p{number}", cast(nn.Parameter, param))

    def forward(self, sequences: TensorDictBase, phase: int) -> dict[str, Tensor]:
        """The losses and diagnostics of a batch."""
        return {str(key): value for key, value in losses_of(self._objective[0], sequences, phase).items()}


def losses_of(objective: nn.Module, sequences: TensorDictBase, phase: int) -> Mapping[str, Tensor]:
    """An objective's losses and diagnostics in one phase of an update.

    Args:
        objective: the objective; one that is no ``ModelLoss`` has one phase.
        sequences: the batch.
        phase: its number, from 0.
    """
    if isinstance(objective, ModelLoss) and objective.phases > 1:
        return cast(Any, objective.phase(sequences, phase))
    return cast(Any, objective)(sequences)


class OneProcess:
    """The objective as it is; what a trainer asks of its processes, where there is one.

    Args:
        objective: the objective.
        ranks: the processes.
    """

    def __init__(self, objective: nn.Module, ranks: Ranks) -> None:
        self.objective, self.ranks = objective, ranks

    def losses(self, sequences: TensorDictBase, phase: int = 0) -> Mapping[str, Tensor]:
        """The losses and diagnostics of this process's batch; their gradient is that of the global batch."""
        return losses_of(self.objective, sequences, phase)

    def without_exchange(self) -> contextlib.AbstractContextManager[Any]:
        """Gradients computed meanwhile are exchanged with the next ones that are computed outside."""
        return contextlib.nullcontext()

    def batch_is_shared(self) -> contextlib.AbstractContextManager[Any]:
        """Statistics of a batch are meanwhile those of the global one."""
        return spread_over_processes(self.ranks.count > 1)

    def exchanged(self) -> None:
        """All gradients of an update are computed, and none may be left that was not exchanged."""

    def stepped(self) -> None:
        """The optimiser has stepped: bring its result to where the model is used."""

    def changed(self) -> None:
        """Something else than the optimiser may have changed the model's weights."""


class Replicas(OneProcess):
    """The same weights in every process, whose gradients are averaged while they are computed (DDP).

    Args:
        objective: the objective.
        ranks: the processes.

    Reference: Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training (2020).
    """

    def __init__(self, objective: nn.Module, ranks: Ranks) -> None:
        super().__init__(objective, ranks)
        self._replicas: nn.parallel.DistributedDataParallel | None = None

    def losses(self, sequences: TensorDictBase, phase: int = 0) -> Mapping[str, Tensor]:
        """The losses and diagnostics of this process's batch."""
        return super().losses(sequences, phase) if self._replicas is None else self._replicas(sequences, phase)

    def without_exchange(self) -> contextlib.AbstractContextManager[Any]:
        """Gradients are kept."""
        return contextlib.nullcontext() if self._replicas is None else self._replicas.no_sync()

    def exchanged(self) -> None:
        """Average the gradients of the first update: it shows whether there are parameters that get none."""
        if self._replicas is None:
            params = [param for param in self.objective.parameters() if param.requires_grad]
            average_gradients(params)
            # In each stage of an objective, and in each phase of an update, other parameters get a gradient.
            is_partial = isinstance(self.objective, StagedModelLoss) or any(param.grad is None for param in params)
            self._replicas = nn.parallel.DistributedDataParallel(
                Losses(self.objective), find_unused_parameters=is_partial
            )


class Shards(OneProcess):
    """Gradients and the optimiser's state in shards, one in each process, which gather the weights they need (FSDP2).

    All parameters are one group of ``fully_shard``, for an objective calls verbs of its model in any order, and needs
    all of them. The model itself keeps whole weights, which follow the shards after each step: it acts, dreams and is
    saved as ever. Parameters that get no gradient are whole in every process.

    Args:
        objective: the objective.
        optimizer: of its parameters; steps the shards from here on.
        ranks: the processes.

    Raises:
        ValueError: if a parameter has no dimensions.

    Reference: Rajbhandari et al., ZeRO (2020); Zhao et al., PyTorch FSDP (2023).
    """

    def __init__(self, objective: nn.Module, optimizer: Optimizer, ranks: Ranks) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        super().__init__(objective, ranks)
        self._losses: Any = Losses(objective)
        self._own: dict[str, nn.Parameter] = dict(self._losses.named_parameters())
        for name, param in self._own.items():
            if param.ndim == 0:
                raise ValueError("a parameter without dimensions cannot be sharded: train with parallel='ddp'.")
            gathered = param.detach().clone(memory_format=torch.contiguous_format)  # FSDP takes no other
            setattr(self._losses, name, nn.Parameter(gathered))
        device = next(iter(self._own.values())).device.type
        fully_shard(self._losses, mesh=init_device_mesh(device, (ranks.count,)), reshard_after_forward=False)
        self._shards: dict[str, Any] = dict(self._losses.named_parameters())
        of = {id(param): self._shards[name] for name, param in self._own.items()}
        for group in optimizer.param_groups:
            group["params"] = [of.get(id(param), param) for param in group["params"]]
        self._losses.unshard()
        self._whole: dict[str, nn.Parameter] = dict(self._losses.named_parameters())
        by = {id(param): self._whole[name] for name, param in self._own.items()}
        self._places = list(_places(objective, by))

    def losses(self, sequences: TensorDictBase, phase: int = 0) -> Mapping[str, Tensor]:
        """The losses and diagnostics of this process's batch."""
        try:
            for part, name, _, gathered in self._places:
                setattr(part, name, gathered)
            return self._losses(sequences, phase)
        finally:
            for part, name, own, _ in self._places:
                setattr(part, name, own)

    @torch.no_grad()
    def stepped(self) -> None:
        """Gather the weights."""
        self._losses.unshard()
        for name, whole in self._whole.items():
            self._own[name].copy_(whole)

    @torch.no_grad()
    def changed(self) -> None:
        """Cut the weights into shards anew."""
        for name, whole in self._whole.items():
            own = self._shards[name].to_local()
            rows = -(-len(whole) // self.ranks.count)  # as FSDP cuts: all but the last ones are as long
            whole.copy_(self._own[name])
            own.copy_(whole[self.ranks.rank * rows :][: len(own)])


def parallel_of(kind: ParallelKind, objective: nn.Module, optimizer: Optimizer, ranks: Ranks) -> OneProcess:
    """What computes an objective's gradient.

    Args:
        kind: ``"ddp"`` or ``"fsdp"``; in one process there is no difference.
        objective: the objective.
        optimizer: of its parameters.
        ranks: the processes.

    Raises:
        ValueError: for another kind.
    """
    if kind not in ("ddp", "fsdp"):
        raise ValueError(f"parallel is 'ddp' or 'fsdp'; got {kind!r}.")
    if ranks.count == 1:
        return OneProcess(objective, ranks)
    return Replicas(objective, ranks) if kind == "ddp" else Shards(objective, optimizer, ranks)


def _places(module: nn.Module, by: Mapping[int, nn.Parameter]) -> Iterator[tuple[nn.Module, str, Any, Any]]:
    """Where a module holds parameters, in the weights of its functional parts too: what is there, and what by then.

    Args:
        module: the module.
        by: other parameters, by the identity of those that they stand for.
    """
    for part in module.modules():
        if isinstance(part, TensorDictParams):
            continue
        for name, param in part._parameters.items():
            if id(param) in by:
                yield part, name, param, by[id(param)]
        for name, child in part.named_children():
            if isinstance(child, TensorDictParams):
                swapped: Any = child.apply(lambda value: by.get(id(value), value), filter_empty=False)
                yield part, name, child, TensorDictParams(swapped, no_convert=True)
