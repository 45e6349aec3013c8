"""What TD-MPC2's objective reads of its model, which imports the objective."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from wmcomponents.dynamics import SimNormDynamics
from wmcomponents.encoders import SimNormEncoder
from wmcomponents.heads import CategoricalPolicyPrior, GaussianPolicyPrior, QEnsemble, SymlogTwoHotHead, TerminationHead
from wmcomponents.nn import TaskEmbedding
from wmcomponents.objectives import TrainableModel


class TDMPC2Model(TrainableModel, Protocol):
    """What the objective reads of a :class:`wmcomponents.models.TDMPC2`.

    Attributes:
        tasks: number of tasks; 0 for a model of one task without an embedding.
        task_embedding: vectors of the tasks, ``None`` if there is one alone.
        encoder: observation to latent.
        dynamics: latent and action to the next latent.
        reward_head: latent and action to the reward.
        termination_head: latent to P(terminated), or ``None``.
        policy: policy prior.
        q: value functions.
        target_q: their running average.
    """

    tasks: int
    task_embedding: TaskEmbedding | None
    encoder: SimNormEncoder
    dynamics: SimNormDynamics
    reward_head: SymlogTwoHotHead
    termination_head: TerminationHead | None
    policy: GaussianPolicyPrior | CategoricalPolicyPrior
    q: QEnsemble
    target_q: QEnsemble

    def task_of(self, observation: Mapping[str, Tensor]) -> Tensor | None:
        """Index of the task, ``[*B]``."""
        ...

    def mask_of(self, task: Tensor | None) -> Tensor | None:
        """1 for the entries of the action vector that a task has, ``[*B, A]``."""
        ...

    def vector_of(self, action: Tensor, task: Tensor | None) -> Tensor:
        """The action vector, ``[*B, A]``."""
        ...

    def embedding_of(self, task: Tensor | None) -> Tensor | None:
        """The embedding of a task, ``[*B, E]``."""
        ...

    def joined(self, latent: Tensor, task: Tensor | None) -> Tensor:
        """Latent ``[*B, L]`` and embedding, ``[*B, F]``."""
        ...

    def encode(self, observation: Mapping[str, Tensor], task: Tensor | None) -> Tensor:
        """The latent of an observation, ``[*B, L]``."""
        ...
