"""The objective of an ensemble: each member's own, on rows of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor, nn
from torch.optim import Optimizer

from wmcomponents.objectives.model_loss import ModelLoss, Terms
from wmcomponents.optim import LaProp, SideBySide

if TYPE_CHECKING:
    from wmcomponents.models.ensemble.model import Ensemble

Rows = Callable[[int, torch.Generator], Tensor]
"""Which of B rows a member learns from, int64 ``[B]``."""


def bootstrap_rows(count: int, generator: torch.Generator) -> Tensor:
    """As many rows as there are, drawn with replacement: about two thirds of them, some more than once.

    Args:
        count: number of rows.
        generator: draws them.

    Reference: Chua et al., PETS (2018), section 4 (a bootstrap of the data for each member).
    """
    return torch.randint(count, (count,), generator=generator, device=generator.device)


def all_rows(count: int, generator: torch.Generator) -> Tensor:
    """Every row once: members then differ by their first weights and their noise alone.

    Args:
        count: number of rows.
        generator: not drawn from.
    """
    return torch.arange(count, device=generator.device)


class EnsembleLoss(ModelLoss["Ensemble"]):
    """Trains every member of an ensemble by its own objective, each on its own draw of a batch's rows.

    Each ``loss_*`` is the sum over members, so that every member's gradient is what it would be alone; diagnostics are
    means. The optimiser is that of each member's objective, side by side: clipping does not mix members.

    Keys are those of the members' objectives, and are renamed in all of them by ``set_keys``. All noise, and the rows,
    come from this module's one generator.

    Args:
        world_model: the ensemble.
        rows: which rows of a batch a member learns from.
        seed: of the rows and of the members' noise.
    """

    member_losses: nn.ModuleList

    def __init__(self, world_model: Ensemble, *, rows: Rows = bootstrap_rows, seed: int = 0) -> None:
        losses = [cast(Any, member).objective() for member in world_model.members]
        self._names = [str(key) for key in losses[0].out_keys]
        super().__init__(world_model, seed=seed)
        self.member_losses = nn.ModuleList(losses)
        self.rows = rows

    def set_keys(self, **keys: Any) -> None:
        """Rename what is read, in the objective of every member."""
        super().set_keys(**keys)
        for loss in cast(Any, self._modules.get("member_losses", ())):
            loss.set_keys(**keys)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """Refused: each member's objective has elements of its own (``member_losses``)."""
        raise NotImplementedError("ask an objective of `member_losses` for its elements: members see different rows.")

    def _written(self) -> list[NestedKey]:
        return [*self._names]

    @dispatch()
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The losses of a batch of sequences ``[B, T]``; the input is left as it is."""
        count, found = len(tensordict), []
        for loss in self._own():
            if isinstance(loss, ModelLoss):
                loss.generator = self.generator
            rows = self.rows(count, self.generator)
            found.append(cast(Any, loss)(tensordict[rows.to(tensordict.device or rows.device)]))
        out = {}
        for key in found[0].keys():
            values = torch.stack([one[key] for one in found])
            out[key] = values.sum(0) if str(key).startswith("loss_") else values.mean(0)
        return TensorDict(out)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """What each member's objective makes, side by side.

        Args:
            lr: learning rate; the paper's if not given.
            warmup: steps of the rise; the paper's if not given.
        """
        parts: list[Optimizer] = []
        for loss in self._own():
            if isinstance(loss, ModelLoss):
                parts.append(loss.make_optimizer(lr, warmup))
            else:
                params = [p for p in loss.parameters() if p.requires_grad]
                parts.append(LaProp(params, 4e-5 if lr is None else lr, warmup=1000 if warmup is None else warmup))
        return SideBySide(parts)

    def before_update(self, step: int) -> None:
        """Stages and schedules of every member."""
        for loss in self._own():
            if isinstance(loss, ModelLoss):
                loss.before_update(step)
        self.out_keys = cast(Any, list(cast(Any, self._own()[0]).out_keys))

    def after_update(self, step: int) -> None:
        """Target networks of every member."""
        for loss in self._own():
            if isinstance(loss, ModelLoss):
                loss.after_update(step)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile every member's objective, where it can be."""
        for loss in self._own():
            loss.compile(*args, **kwargs)

    def _own(self) -> list[nn.Module]:
        return list(self.member_losses)
