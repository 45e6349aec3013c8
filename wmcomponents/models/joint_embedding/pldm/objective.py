"""What PLDM minimises: errors of predicted embeddings, deviations and covariances, and what tells the action."""

from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from wmcomponents.models.joint_embedding.embedding_loss import Embedded
from wmcomponents.models.joint_embedding.lewm.objective import TeacherForcedLoss, WindowedEmbeddings
from wmcomponents.models.joint_embedding.pldm.config import PLDMLossConfig, PLDMOptimizerConfig
from wmcomponents.objectives import check_model
from wmcomponents.objectives.collapse.sequences import (
    AgainstCollapse,
    InverseDynamics,
    PLDMRegularizer,
    TemporalStraightening,
    Together,
)
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.windows import Windows


class PLDMModel(WindowedEmbeddings, Protocol):
    """What the objective reads of a :class:`wmcomponents.models.PLDM`, which imports the objective.

    Attributes:
        inverse_dynamics: a later and an earlier embedding, side by side, to the action between them.
    """

    inverse_dynamics: nn.Sequential


class PLDMLoss(TeacherForcedLoss[PLDMModel]):
    """PLDM's loss: predictions with gradients everywhere, and its terms of the embeddings of windows.

    A predictor that reads several frames is teacher forced, as in stable-worldmodel. One that reads the newest alone
    goes on from its own predictions, from the first embedding of the window on, as in the paper. Windows in which
    another episode begins are left out.

    Keys read and written: see :class:`EmbeddingLoss`; the terms are ``std``, ``std_t``, ``cov``, ``cov_t`` and
    ``temp_align``, and ``inverse_dynamics`` and ``straightening`` where the config weighs them.

    Args:
        world_model: a :class:`~wmcomponents.models.PLDM`, or one made of the same parts.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        against: terms against collapse in place of those that the config names.
        seed: of this module's noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[N, H]``).

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, or no transition; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Sobal et al., Learning from Reward-Free Offline Data (PLDM, 2025), and stable-worldmodel.
    """

    def __init__(
        self,
        world_model: PLDMModel,
        config: PLDMLossConfig | None = None,
        *,
        optimizer: PLDMOptimizerConfig | None = None,
        against: AgainstCollapse | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, PLDMModel, type(self))
        c = loss_part(PLDMLossConfig, config)
        terms = _terms(c, world_model.inverse_dynamics) if against is None else against
        horizon = c.horizon if world_model.frames == 1 else world_model.frames
        super().__init__(world_model, terms, horizon=horizon, own=against is None, seed=seed, reduction=reduction)
        self.optimizer_config = optimizer_part(PLDMOptimizerConfig, optimizer)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW behind a clipped gradient.

        Args:
            lr: learning rate; the config's if not given.
            warmup: updates over which the rate grows from 0; the config's if not given.
        """
        return self._optimizer(self.optimizer_config, lr, warmup)

    def embedded(self, windows: Windows) -> Embedded:
        """See :class:`EmbeddingLoss`."""
        if self.world_model.frames > 1:
            return super().embedded(windows)
        model = self.world_model
        embed, action = model.embed(windows.frames), model.action_numbers(windows.action)
        expected = [embed[:, :1]]
        for t in range(action.shape[1]):
            expected.append(model.following(expected[-1], action[:, t : t + 1]))
        weight = windows.weight * windows.unbroken.unsqueeze(1)
        return Embedded(torch.cat(expected[1:], 1), embed[:, 1:], embed, action, weight)


def _terms(config: PLDMLossConfig, inverse_dynamics: nn.Module) -> AgainstCollapse:
    """The terms beside the prediction that a config weighs."""
    c = config
    parts: list[AgainstCollapse] = [PLDMRegularizer(c.std, c.std_t, c.cov, c.cov_t, c.temp_align)]
    if c.inverse_dynamics:
        parts.append(InverseDynamics(inverse_dynamics, c.inverse_dynamics, next_first=True))
    if c.straightening:
        parts.append(TemporalStraightening(c.straightening))
    return Together(parts)
