"""How the gradient of a return reaches the actor."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class GradientEstimator(nn.Module, ABC):
    """What is maximised for each action, element by element.

    Attributes:
        needs_dynamics: whether gradients flow through the dream into the actions that made it.
    """

    needs_dynamics: bool = False

    @abstractmethod
    def forward(
        self,
        log_prob: Float[Tensor, "*batch a"],
        action_value: Float[Tensor, "*batch a"],
        advantage: Float[Tensor, "*batch a"],
    ) -> Float[Tensor, "*batch a"]:
        """The objective of each action.

        Args:
            log_prob: of the actions taken, differentiable in the actor alone.
            action_value: return that each action earned, differentiable through the dream.
            advantage: the same return less what was expected, normalised.
        """


class Reinforce(GradientEstimator):
    """The score function: unbiased, for any action and any world (DreamerV2 on Atari, DreamerV3).

    Reference: Williams, Simple Statistical Gradient-Following Algorithms (1992).
    """

    def forward(
        self,
        log_prob: Float[Tensor, "*batch a"],
        action_value: Float[Tensor, "*batch a"],
        advantage: Float[Tensor, "*batch a"],
    ) -> Float[Tensor, "*batch a"]:
        """``log_prob * advantage``, where the advantage is a number."""
        return log_prob * advantage.detach()


class DynamicsGradient(GradientEstimator):
    """The return itself, through the dream: of low variance, for differentiable worlds (Dreamer; DreamerV2 on DMC)."""

    needs_dynamics = True

    def forward(
        self,
        log_prob: Float[Tensor, "*batch a"],
        action_value: Float[Tensor, "*batch a"],
        advantage: Float[Tensor, "*batch a"],
    ) -> Float[Tensor, "*batch a"]:
        """``action_value``."""
        return action_value


class NormalizedDynamicsGradient(GradientEstimator):
    """The normalised advantage through the dream: continuous actions of DreamerV3's preprint."""

    needs_dynamics = True

    def forward(
        self,
        log_prob: Float[Tensor, "*batch a"],
        action_value: Float[Tensor, "*batch a"],
        advantage: Float[Tensor, "*batch a"],
    ) -> Float[Tensor, "*batch a"]:
        """``advantage``."""
        return advantage


class MixedGradient(GradientEstimator):
    """A share of the return through the dream, the rest by the score function (DreamerV2).

    Args:
        dynamics: share through the dream, in [0, 1].

    Raises:
        ValueError: if it is none.
    """

    needs_dynamics = True

    def __init__(self, dynamics: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= dynamics <= 1.0:
            raise ValueError(f"dynamics is a share in [0, 1]; got {dynamics}.")
        self.dynamics = dynamics

    def forward(
        self,
        log_prob: Float[Tensor, "*batch a"],
        action_value: Float[Tensor, "*batch a"],
        advantage: Float[Tensor, "*batch a"],
    ) -> Float[Tensor, "*batch a"]:
        """``dynamics * action_value + (1 - dynamics) * log_prob * advantage``."""
        return self.dynamics * action_value + (1.0 - self.dynamics) * log_prob * advantage.detach()
