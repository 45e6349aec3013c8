"""How actor and critic are stepped."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from wmcomponents.optim import ClippedAdam, ClippedAdamW, LaProp


class ActorCriticOptimizer(ABC):
    """Makes the optimiser of an actor and a critic."""

    @abstractmethod
    def make(self, actor: nn.Module, critic: nn.Module, lr: float | None, warmup: int | None) -> Optimizer:
        """The optimiser over both.

        Args:
            actor: the actor.
            critic: the critic.
            lr: learning rate of both in place of the paper's.
            warmup: steps over which the rate grows from 0, in place of the paper's.
        """


@dataclass(frozen=True)
class OneLaProp(ActorCriticOptimizer):
    """LaProp behind adaptive gradient clipping, over both (DreamerV3).

    Attributes:
        lr: learning rate.
        warmup: steps over which the rate grows from 0.
        critic_lr: learning rate of the critic, if it has its own.
    """

    lr: float = 4e-5
    warmup: int = 1000
    critic_lr: float | None = None

    def make(self, actor: nn.Module, critic: nn.Module, lr: float | None, warmup: int | None) -> Optimizer:
        """LaProp."""
        rate, steps = self.lr if lr is None else lr, self.warmup if warmup is None else warmup
        own = rate if self.critic_lr is None else self.critic_lr
        groups: Any = [{"params": list(actor.parameters())}, {"params": list(critic.parameters()), "lr": own}]
        return LaProp([*actor.parameters(), *critic.parameters()] if own == rate else groups, rate, warmup=steps)


@dataclass(frozen=True)
class OneAdam(ActorCriticOptimizer):
    """Adam over both, behind a gradient clipped by its whole norm (STORM).

    Attributes:
        lr: learning rate.
        eps: number added to the root of the mean square.
        max_norm: largest norm of the gradient of both together.
        warmup: steps over which the rate grows from 0.
        critic_lr: learning rate of the critic, if it has its own.
    """

    lr: float = 3e-5
    eps: float = 1e-5
    max_norm: float = 100.0
    warmup: int = 0
    critic_lr: float | None = None

    def make(self, actor: nn.Module, critic: nn.Module, lr: float | None, warmup: int | None) -> Optimizer:
        """Adam."""
        rate = self.lr if lr is None else lr
        own = rate if self.critic_lr is None else self.critic_lr
        groups = [{"params": list(actor.parameters()), "lr": rate}, {"params": list(critic.parameters()), "lr": own}]
        steps = self.warmup if warmup is None else warmup
        return ClippedAdam(groups, rate, eps=self.eps, max_norm=self.max_norm, warmup=steps)


@dataclass(frozen=True)
class TwoAdams(ActorCriticOptimizer):
    """Adam with a rate for each, and each clipped by its own norm (Dreamer, DreamerV2, DreamerV3's preprint).

    Attributes:
        actor_lr: learning rate of the actor.
        critic_lr: learning rate of the critic.
        eps: number added to the root of the mean square.
        max_norm: largest norm of the gradient of either.
        decay: share of every weight that a step takes away.
    """

    actor_lr: float
    critic_lr: float
    eps: float
    max_norm: float = 100.0
    decay: float = 0.0

    def make(self, actor: nn.Module, critic: nn.Module, lr: float | None, warmup: int | None) -> Optimizer:
        """Adam."""
        parts = (("actor", actor, self.actor_lr), ("critic", critic, self.critic_lr))
        groups = [
            {"params": list(part.parameters()), "lr": rate if lr is None else lr, "clip": name}
            for name, part, rate in parts
        ]
        return ClippedAdam(groups, eps=self.eps, max_norm=self.max_norm, decay=self.decay, warmup=warmup or 0)


@dataclass(frozen=True)
class SharedAdam:
    """Adam behind gradient clipping, over a network that actor and critic share (IRIS, Delta-IRIS, DIAMOND).

    Attributes:
        lr: learning rate.
        max_norm: largest norm of the whole gradient.
        warmup: steps over which the rate grows from 0; step k (from 0) uses ``lr * min(1, k / warmup)``.
    """

    lr: float = 1e-4
    max_norm: float = 10.0
    warmup: int = 0

    def make(self, network: nn.Module, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam.

        Args:
            network: whose parameters.
            lr: learning rate in place of the paper's.
            warmup: steps of the rise in place of the paper's.
        """
        return ClippedAdamW(
            network.parameters(),
            self.lr if lr is None else lr,
            weight_decay=0.0,
            max_norm=self.max_norm,
            warmup=self.warmup if warmup is None else warmup,
        )
