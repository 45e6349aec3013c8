"""The objective of a joint-embedding world model: predicted embeddings, and terms that keep them from collapsing."""

import copy
from collections.abc import Mapping
from typing import Protocol, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer

from wmcomponents.codecs.action import ActionVector
from wmcomponents.dynamics import ActionGRU, ConvPredictor, ResidualPredictor
from wmcomponents.models.joint_embedding.embedding_loss import Embedded, EmbeddingLoss
from wmcomponents.models.joint_embedding.jepa.config import JEPALossConfig, JEPAOptimizerConfig
from wmcomponents.objectives import ExponentialAverage, TrainableModel, check_model
from wmcomponents.objectives.collapse.sequences import (
    AgainstCollapse,
    InverseDynamics,
    PLDMRegularizer,
    SIGReg,
    TemporalSimilarity,
    Together,
    VarianceCovariance,
)
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.windows import Windows


class JointEmbeddingModel(TrainableModel, Protocol):
    """What the objective reads of a :class:`~wmcomponents.models.JEPA`, which imports the objective.

    Attributes:
        predictor: embedding and action vector to the next embedding.
        inverse_dynamics: two embeddings side by side to the action vector between them.
        action_vector: actions as vectors.
    """

    predictor: ActionGRU | ConvPredictor | ResidualPredictor
    inverse_dynamics: nn.Sequential
    action_vector: ActionVector

    def encode(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The embedding of an observation, ``[*B, L]``."""
        ...


def against_collapse(config: JEPALossConfig, inverse_dynamics: nn.Module) -> AgainstCollapse:
    """The terms beside the prediction that a config names.

    Args:
        config: their kinds and weights.
        inverse_dynamics: tells the action from two embeddings.

    Raises:
        ValueError: for an unknown kind.
    """
    c = config
    parts: list[AgainstCollapse] = []
    if c.against_collapse == "variance_covariance":
        parts.append(VarianceCovariance(c.variance, c.covariance))
    elif c.against_collapse == "distribution":
        parts.append(SIGReg(c.distribution))
    elif c.against_collapse == "pldm":
        parts.append(PLDMRegularizer())
    elif c.against_collapse != "none":
        kinds = "'variance_covariance', 'distribution', 'pldm' or 'none'"
        raise ValueError(f"against_collapse is {kinds}; got {c.against_collapse!r}.")
    if c.similarity and c.against_collapse != "pldm":
        parts.append(TemporalSimilarity(c.similarity))
    if c.inverse_dynamics:
        parts.append(InverseDynamics(inverse_dynamics, c.inverse_dynamics))
    return Together(parts)


class JEPALoss(EmbeddingLoss[JointEmbeddingModel]):
    r"""Objective of a joint-embedding world model on TorchRL-layout sequences.

    .. math:: L = \tfrac{1}{H} \sum_{t=0}^{H-1} \|\hat z_{t+1} - z_{t+1}\|^2 / \dim z + R(z_0, \dots, z_H, a)

    Here z_t embeds the observation at t, and the prediction begins at z_0 and goes on from itself. R are the terms
    against collapse, of windows that lie in one episode.

    Sequences ``[B, T]`` are cut into windows of H transitions, side by side; what is left over at the end is not used,
    and a shorter sequence is one window. Where another episode begins inside a window, the prediction begins anew.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done`` (the reward is not used). Honoured where present:
    ``("collector", "mask")`` and ``priority_weight``, one for each transition.

    Keys written: ``loss_prediction`` and a loss for each term against collapse, weighted and meant to be summed; and
    detached: ``embedding_rank`` (the participation ratio of the batch's embeddings) and ``embedding_std`` (mean
    deviation of a channel), which tell a collapse.

    Args:
        world_model: a :class:`~wmcomponents.models.JEPA`, or one made of the same parts.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        against: the terms against collapse, in place of those that the config names.
        seed: of this module's noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[N, H]``).

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, target or kind; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026).
    """

    def __init__(
        self,
        world_model: JointEmbeddingModel,
        config: JEPALossConfig | None = None,
        *,
        optimizer: JEPAOptimizerConfig | None = None,
        against: AgainstCollapse | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, JointEmbeddingModel, type(self))
        c = loss_part(JEPALossConfig, config)
        if c.target not in ("online", "stopped", "average"):
            raise ValueError(f"target is 'online', 'stopped' or 'average'; got {c.target!r}.")
        terms = against_collapse(c, world_model.inverse_dynamics) if against is None else against
        follower = copy.deepcopy(cast(nn.Module, world_model)) if c.target == "average" else None
        super().__init__(world_model, terms, horizon=c.horizon, own=against is None, seed=seed, reduction=reduction)
        self.target, self.average = c.target, ExponentialAverage(c.tau)
        self.optimizer_config = optimizer_part(JEPAOptimizerConfig, optimizer)
        self.follower = None if follower is None else follower.requires_grad_(False)

    # -- what the training loop asks ---------------------------------------------------------------------------------

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW behind a clipped gradient.

        Args:
            lr: learning rate; the config's if not given.
            warmup: updates over which the rate grows from 0; the config's if not given.
        """
        return self._optimizer(self.optimizer_config, lr, warmup)

    @torch.no_grad()
    def after_update(self, step: int) -> None:
        """Move the averaged encoder, where there is one."""
        if self.follower is not None:
            with self._placed():
                self.average.update(self.follower, cast(nn.Module, self.world_model), step)

    def probed(self, tensordict: TensorDictBase) -> Tensor:
        """The embeddings of a batch's observations, ``[B, T, L]``."""
        return self.world_model.encode({key: tensordict.get(key) for key in self.observation_keys})

    # -- the objective -------------------------------------------------------------------------------------------------

    def embedded(self, windows: Windows) -> Embedded:
        """See :class:`EmbeddingLoss`: the prediction goes on from itself."""
        action = self.world_model.action_vector(windows.action)
        before, after = self.embeddings(windows)
        expected, embed = self.roll_out(before, action, windows.begins), torch.cat([before[:, :1], after], 1)
        return Embedded(expected, self.targets(windows, after), embed, action, windows.weight)

    def embeddings(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """The embeddings before and after each transition, ``[N, H, L]`` each; every observation is encoded once."""
        model, begins = self.world_model, windows.begins
        rows, steps = begins.nonzero(as_tuple=True)
        after = model.encode(windows.following)
        fresh = model.encode({key: value[rows, steps] for key, value in windows.observation.items()})
        before = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], 1).index_put((rows, steps), fresh)
        return before, after

    def roll_out(self, before: Tensor, action: Tensor, begins: Tensor) -> Tensor:
        """Embeddings that the predictor expects, each from the one that it expected before, ``[N, H, L]``.

        Args:
            before: embeddings before each transition, ``[N, H, L]``; read where ``begins``.
            action: action vectors, ``[N, H, A]``.
            begins: where the prediction begins anew, bool ``[N, H]``.
        """
        expected: list[Tensor] = []
        for t in range(begins.shape[1]):
            z = before[:, t] if t == 0 else torch.where(begins[:, t, None], before[:, t], expected[-1])
            expected.append(self.world_model.predictor.compute(z, action[:, t]))
        return torch.stack(expected, 1)

    def targets(self, windows: Windows, after: Tensor) -> Tensor:
        """What predictions are held to, ``[N, H, L]``."""
        if self.follower is not None:
            with torch.no_grad():
                return cast(JointEmbeddingModel, self.follower).encode(windows.following)
        return after if self.target == "online" else after.detach()
