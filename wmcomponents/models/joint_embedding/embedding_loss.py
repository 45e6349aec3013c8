"""What the objectives of predicted embeddings share: an error of prediction, and terms that keep from collapsing."""

from abc import abstractmethod
from typing import Any, NamedTuple, TypeVar

from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import channel_std, participation_ratio
from wmcomponents.objectives import ProbedLoss, Terms, TrainableModel
from wmcomponents.objectives.collapse.sequences import AgainstCollapse
from wmcomponents.objectives.windows import Windows, windows_of
from wmcomponents.optim import ClippedAdamW

M = TypeVar("M", bound=TrainableModel)


class Embedded(NamedTuple):
    """What an objective makes of N windows of H transitions.

    Attributes:
        expected: embeddings that the predictor expects after each transition, ``[N, H, L]``.
        target: what they are held to, ``[N, H, L]``.
        embed: embeddings along each window, with their gradient, ``[N, H + 1, L]``; read where it lies in one episode.
        action: actions between them, as vectors, ``[N, H, A]``.
        weight: of each transition, ``[N, H]``.
    """

    expected: Tensor
    target: Tensor
    embed: Tensor
    action: Tensor
    weight: Tensor


class EmbeddingLoss(ProbedLoss[M]):
    """Base: the mean squared error of predicted embeddings, and terms against collapse of windows in one episode.

    Sequences ``[B, T]`` are cut into windows of H transitions, side by side; what is left over at the end is not used,
    and a shorter sequence is one window.

    Keys written: ``loss_prediction`` and a loss for each term against collapse, weighted and meant to be summed; and
    detached: ``embedding_rank`` (the participation ratio of the batch's embeddings) and ``embedding_std`` (mean
    deviation of a channel), which tell a collapse.

    Args:
        world_model: the model.
        against: the terms against collapse; parameters of theirs that are not the model's are trained too.
        horizon: H.
        seed: of this module's noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[N, H]``).
        own: whether the terms' parameters are the model's already.

    Raises:
        ValueError: for an unknown reduction, or no transition; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    def __init__(
        self,
        world_model: M,
        against: AgainstCollapse,
        *,
        horizon: int,
        own: bool,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if horizon < 1:
            raise ValueError(f"horizon is at least 1; got {horizon}.")
        self._terms = against.names
        super().__init__(world_model, seed=seed, reduction=reduction)
        self.horizon = horizon
        # A list hides it from this module's parameters: those of its head are the model's, which are here already.
        self._against = [against]
        self.against = None if own else against

    def _written(self) -> list[NestedKey]:
        return ["loss_prediction", *(f"loss_{name}" for name in self._terms), "embedding_rank", "embedding_std"]

    def _optimizer(self, numbers: Any, lr: float | None, warmup: int | None) -> Optimizer:
        """AdamW behind a clipped gradient.

        Args:
            numbers: a config with ``lr``, ``weight_decay``, ``max_norm`` and ``warmup``.
            lr: learning rate; the config's if not given.
            warmup: updates over which the rate grows from 0; the config's if not given.
        """
        return ClippedAdamW(
            [p for p in self.parameters() if p.requires_grad],
            numbers.lr if lr is None else lr,
            weight_decay=numbers.weight_decay,
            max_norm=numbers.max_norm,
            warmup=numbers.warmup if warmup is None else warmup,
        )

    @abstractmethod
    def embedded(self, windows: Windows) -> Embedded:
        """Embeddings, and what the predictor expects, of windows."""

    def windows(self, tensordict: TensorDictBase) -> Windows:
        """Sequences ``[B, T]``, cut into windows.

        Raises:
            ValueError: if the batch is not ``[B, T]``.
            KeyError: if a key is missing.
        """
        return windows_of(self, tensordict, self.horizon)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``: ``[N, H]`` each."""
        windows = self.windows(tensordict)
        found = self.embedded(windows)
        losses = {"prediction": (found.expected - found.target).square().mean(-1)}
        rows = windows.whole.nonzero().squeeze(-1)
        embed = found.embed[rows]
        terms = self._against[0](embed, found.action[rows]) if len(rows) > 1 else {}
        nothing, shape = embed.sum() * 0.0, found.weight
        losses.update({name: terms.get(name, nothing).expand_as(shape) for name in self._terms})
        flat = found.embed[:, 1:].detach().flatten(0, 1)
        info = {"embedding_rank": participation_ratio(flat), "embedding_std": channel_std(flat)}
        return Terms(losses, {name: value.expand_as(shape) for name, value in info.items()}, found.weight)
