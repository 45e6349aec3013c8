"""Has what is learned collapsed? Numbers that the training loop logs beside the losses, which do not show it."""

from abc import abstractmethod
from typing import TypeVar, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from wmcomponents.functional.collapse_probes import channel_std, participation_ratio, rankme
from wmcomponents.nn import EvalMode
from wmcomponents.objectives.model_loss import ModelLoss, TrainableModel

M = TypeVar("M", bound=TrainableModel)

MOST_ROWS = 1024
"""Embeddings that are looked at."""


@torch.no_grad()
def collapse_probes(embeddings: Tensor) -> dict[str, Tensor]:
    """RankMe, participation ratio and mean deviation of embeddings; NaN where they are not finite, or not two.

    Args:
        embeddings: ``[..., D]``; of many, so many evenly spread ones count.

    Returns:
        ``embedding_rankme``, ``embedding_rank`` and ``embedding_std``, scalars: 1, 0 and 0 where all are alike.

    Reference: Garrido et al., RankMe (2023); Gao et al. (2017).

    >>> collapse_probes(torch.eye(4))["embedding_rankme"].round()
    tensor(4.)
    """
    rows = embeddings.detach().reshape(-1, embeddings.shape[-1])
    rows = rows[:: -(-len(rows) // MOST_ROWS)].float() if len(rows) else rows
    if len(rows) < 2 or not bool(rows.isfinite().all()):
        return dict.fromkeys(("embedding_rankme", "embedding_rank", "embedding_std"), rows.new_full((), torch.nan))
    return {
        "embedding_rankme": rankme(rows),
        "embedding_rank": participation_ratio(rows),
        "embedding_std": channel_std(rows),
    }


class ProbedLoss(ModelLoss[M]):
    """Base of the losses whose embeddings may collapse: they are probed where the training loop logs.

    A family writes :meth:`probed`; ``embedding_rankme``, ``embedding_rank`` and ``embedding_std`` then stand in the
    logs of every training (:func:`collapse_probes`).
    """

    @abstractmethod
    def probed(self, tensordict: TensorDictBase) -> Tensor:
        """What the model makes of each observation of a batch ``[B, T]``: ``[B, T, D]``, or ``[N, D]``."""

    def probes(self, tensordict: TensorDictBase) -> dict[str, Tensor]:
        """The probes of a batch ``[B, T]``, in eval mode and without gradients."""
        tensordict = tensordict.to(next(self.parameters()).device)
        with torch.no_grad(), self._placed(), EvalMode(cast(nn.Module, self.world_model)):
            found = self.probed(tensordict)
        mask = tensordict.get(self.tensor_keys.mask, None)
        if mask is not None and found.shape[:2] == tensordict.batch_size:  # padding may hold anything
            found = found[mask.reshape(tensordict.batch_size).bool()]
        return collapse_probes(found)
