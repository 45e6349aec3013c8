"""What LeWorldModel minimises: errors of predicted embeddings, and their distance from a normal distribution."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from tensordict import TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.models.joint_embedding.embedding_loss import Embedded, EmbeddingLoss
from wmcomponents.models.joint_embedding.lewm.config import LeWMLossConfig, LeWMOptimizerConfig
from wmcomponents.objectives import TrainableModel, check_model
from wmcomponents.objectives.collapse.sequences import AgainstCollapse, SIGReg
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.windows import Windows


class WindowedEmbeddings(TrainableModel, Protocol):
    """What objectives read of worlds of one embedding a frame, which import them.

    Attributes:
        frames: most frames that the predictor reads.
    """

    frames: int

    def embed(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The embedding of an observation, ``[*B, L]``."""
        ...

    def action_numbers(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, A]``."""
        ...

    def following(self, embed: Tensor, action: Tensor) -> Tensor:
        """The embedding that follows each of windows ``[*B, T, L]``, ``[*B, T, L]``."""
        ...


M = TypeVar("M", bound=WindowedEmbeddings)


class TeacherForcedLoss(EmbeddingLoss[M]):
    """Base of losses that predict each embedding of a window out of the real ones before it, gradients everywhere.

    Windows in which another episode begins are left out.
    """

    def probed(self, tensordict: TensorDictBase) -> Tensor:
        """The embeddings of a batch's observations, ``[B, T, L]``."""
        return self.world_model.embed({key: tensordict.get(key) for key in self.observation_keys})

    def embedded(self, windows: Windows) -> Embedded:
        """See :class:`EmbeddingLoss`."""
        model = self.world_model
        embed, action = model.embed(windows.frames), model.action_numbers(windows.action)
        expected = model.following(embed[:, :-1], action)
        return Embedded(expected, embed[:, 1:], embed, action, windows.weight * windows.unbroken.unsqueeze(1))


class LeWMLoss(TeacherForcedLoss[WindowedEmbeddings]):
    """LeWorldModel's loss: teacher-forced predictions, and SIGReg of the embeddings at each time of the windows.

    Keys read and written: see :class:`EmbeddingLoss`; the term is ``loss_distribution``.

    Args:
        world_model: a :class:`~wmcomponents.models.LeWM`, or one made of the same parts.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        against: terms against collapse in place of SIGReg.
        seed: of this module's noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[N, H]``).

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Maes et al., LeWorldModel (2026), and stable-worldmodel.
    """

    def __init__(
        self,
        world_model: WindowedEmbeddings,
        config: LeWMLossConfig | None = None,
        *,
        optimizer: LeWMOptimizerConfig | None = None,
        against: AgainstCollapse | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, WindowedEmbeddings, type(self))
        c = loss_part(LeWMLossConfig, config)
        terms = SIGReg(c.distribution, c.directions) if against is None else against
        own, frames = against is None, world_model.frames
        super().__init__(world_model, terms, horizon=frames, own=own, seed=seed, reduction=reduction)
        self.optimizer_config = optimizer_part(LeWMOptimizerConfig, optimizer)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW behind a clipped gradient.

        Args:
            lr: learning rate; the config's if not given.
            warmup: updates over which the rate grows from 0; the config's if not given.
        """
        return self._optimizer(self.optimizer_config, lr, warmup)
