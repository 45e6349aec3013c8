"""Rewards as classes: what a number of logits says of a reward, and how wrong that is."""

import warnings
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.codecs.reward_unit import RewardRangeWarning
from wmcomponents.functional.distributions.categorical import cross_entropy, inverse_cdf_index, softmax
from wmcomponents.functional.symlog import symexp, symlog
from wmcomponents.functional.two_hot import even_bins, two_hot_cross_entropy, two_hot_mean


class RewardDistribution(nn.Module):
    """Rewards by classes.

    Attributes:
        size: number of classes.
        draws: whether a reward is drawn, and so wants a uniform number.
    """

    size: int
    draws: bool

    def prepare(self, reward: Tensor) -> None:
        """Warn of rewards that these classes do not tell apart; of none here.

        Args:
            reward: of the data, ``[*B]``.
        """

    @abstractmethod
    def reward(
        self, logits: Float[Tensor, "*batch k"], noise: Float[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch"]:
        """A reward.

        Args:
            logits: of the classes.
            noise: uniform in [0, 1); none takes the likeliest. Not looked at where nothing is drawn.
        """

    def loss(self, logits: Float[Tensor, "*batch k"], reward: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Cross entropy with the classes of real rewards; NaN where the reward is."""
        return torch.where(reward.isnan(), reward, self._loss(logits, reward.nan_to_num()))

    @abstractmethod
    def _loss(self, logits: Tensor, reward: Tensor) -> Tensor:
        """The same of rewards that are numbers."""


class SignReward(RewardDistribution):
    """The sign of the reward: one class each for -1, 0 and 1, drawn.

    Example:
        >>> SignReward().reward(torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]]))
        tensor([-1.,  1.])
    """

    size, draws = 3, True

    def prepare(self, reward: Tensor) -> None:
        """Warn of rewards ``[*B]`` that are neither 0 nor of size 1."""
        size = reward[reward.isfinite() & (reward != 0)].abs()
        if size.numel() and not bool((size == 1).all()):
            warnings.warn(
                f"rewards of the data lie between {float(size.min()):.6g} and {float(size.max()):.6g}, and this "
                f"model learns their signs, as published: its dreams pay -1, 0 or 1. Scale the environment's "
                f"rewards if that is too little, or take a family that learns any size.",
                RewardRangeWarning,
                stacklevel=2,
            )

    def reward(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        """-1, 0 or 1, ``[*B]``."""
        chosen = logits.argmax(-1) if noise is None else inverse_cdf_index(softmax(logits), noise)
        return (chosen - 1).to(torch.float32)

    def _loss(self, logits: Tensor, reward: Tensor) -> Tensor:
        """Cross entropy with the sign."""
        return cross_entropy(logits, reward.sign().long() + 1)


class SymlogReward(RewardDistribution):
    """Two-hot over bins that are even in symlog space; the expected value there, not drawn (Delta-IRIS, for Crafter).

    Args:
        bins: how many.
        limit: the outermost, in symlog space.
    """

    draws = False
    bins: Tensor

    def __init__(self, bins: int = 255, limit: float = 20.0) -> None:
        super().__init__()
        self.size = bins
        self.register_buffer("bins", even_bins(bins, limit), persistent=False)

    def reward(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mean in symlog space, in plain units, ``[*B]``."""
        return symexp(two_hot_mean(logits, self.bins))

    def _loss(self, logits: Tensor, reward: Tensor) -> Tensor:
        """Cross entropy with the two bins around symlog of the reward."""
        return two_hot_cross_entropy(logits, symlog(reward), self.bins)
