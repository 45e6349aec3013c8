"""TD-MPC2's policy prior: actions as vectors in [-1, 1], and, for choices, one-hot vectors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.functional import (
    bounded_log_std,
    categorical_entropy,
    inverse_cdf_one_hot,
    mode_one_hot,
    noise_log_prob,
    straight_through,
    tanh_log_slope,
    unimix_log_probs,
    unimix_probs,
)
from wmcomponents.nn.layers.simnorm import NormedMLP, small_linear


class Choice(NamedTuple):
    """An action of a policy prior.

    Attributes:
        action: ``[*B, A]``, with a gradient to the policy.
        entropy: in nats, or one sample's estimate of it, ``[*B]``.
        bonus: what the policy's loss rewards as entropy, ``[*B]``.
    """

    action: Tensor
    entropy: Tensor
    bonus: Tensor


class GaussianPolicyPrior(Component):
    """TD-MPC2's policy prior: a Gaussian squashed by tanh.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | ("noise", "action") | [*B, actions] | float, standard normal | read, optional |
        | "action_vector" | [*B, actions] | float in [-1, 1] | written |

    Without noise the action is the mode before squashing, squashed.

    Args:
        in_features: size of the features.
        actions: size A of the action.
        units: width of the two hidden layers.
        low: smallest logarithm of the standard deviation.
        high: largest.
        in_keys: features and noise.
        out_keys: the action.

    Reference: Hansen et al., TD-MPC2 (2024), section 3.1, and the authors' code.

    Example:
        >>> import torch
        >>> GaussianPolicyPrior(16, actions=2, units=8)(feat=torch.randn(5, 16)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        in_features: int,
        actions: int,
        units: int = 512,
        low: float = -10.0,
        high: float = 2.0,
        in_keys: Sequence[NestedKey] = ("feat", ("noise", "action")),
        out_keys: Sequence[NestedKey] = ("action_vector",),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[1:])
        self.actions, self.low, self.high = actions, low, high
        self.mlp = NormedMLP(in_features, units, units)
        self.out = small_linear(units, 2 * actions)

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Noise for :meth:`choose`, ``[*batch_size, A]``."""
        return torch.randn(*batch_size, self.actions, generator=generator, device=generator.device)

    def gaussian(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation before squashing, each ``[*B, A]``."""
        mean, raw = self.out(self.mlp(feat)).chunk(2, -1)
        return mean, bounded_log_std(raw, self.low, self.high)

    def choose(self, feat: Tensor, noise: Tensor, mask: Tensor | None = None) -> Choice:
        """A random action as a function of noise.

        The bonus is A times the log density before squashing, negated: in the authors' code the term of the squashing
        cancels.

        Args:
            feat: ``[*B, in_features]``.
            noise: standard normal, ``[*B, A]``.
            mask: 1 for the entries of the action that a task has, 0 for those that it lacks, ``[*B, A]``.
        """
        mean, log_std = self.gaussian(feat)
        if mask is not None:
            mean, log_std, noise = mean * mask, log_std * mask, noise * mask
        log_prob = noise_log_prob(noise, log_std)
        action = torch.tanh(mean + noise * log_std.exp())
        size = self.actions if mask is None else mask.sum(-1)
        return Choice(action, tanh_log_slope(action) - log_prob, -size * log_prob)

    def mode(self, feat: Tensor, mask: Tensor | None = None) -> Tensor:
        """The squashed mean, ``[*B, A]``."""
        mean = self.gaussian(feat)[0].tanh()
        return mean if mask is None else mean * mask

    def compute(self, feat: Tensor, noise: Tensor | None = None) -> Tensor:
        """An action ``[*B, A]`` of features ``[*B, in_features]``."""
        return self.mode(feat) if noise is None else self.choose(feat, noise).action


class CategoricalPolicyPrior(Component):
    """A policy prior over choices (ours: the paper has continuous actions alone).

    Actions are one-hot vectors, several side by side where there are several choices. Their gradient is that of the
    probabilities (straight-through), in which 1 % of the uniform distribution is mixed.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | ("noise", "action") | [*B, choices] | float, uniform in [0, 1) | read, optional |
        | "action_vector" | [*B, sum of classes] | float, one-hot | written |

    Args:
        in_features: size of the features.
        classes: alternatives of each choice.
        units: width of the two hidden layers.
        unimix: share of the uniform distribution.
        in_keys: features and noise.
        out_keys: the action.

    Example:
        >>> import torch
        >>> CategoricalPolicyPrior(16, classes=(3,), units=8)(feat=torch.randn(5, 16)).sum(-1)
        tensor([1., 1., 1., 1., 1.])
    """

    def __init__(
        self,
        in_features: int,
        classes: Sequence[int],
        units: int = 512,
        unimix: float = 0.01,
        in_keys: Sequence[NestedKey] = ("feat", ("noise", "action")),
        out_keys: Sequence[NestedKey] = ("action_vector",),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[1:])
        self.classes, self.unimix = tuple(classes), unimix
        self.mlp = NormedMLP(in_features, units, units)
        self.out = small_linear(units, sum(self.classes))
        nn.init.zeros_(self.out.weight)

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Noise for :meth:`choose`, ``[*batch_size, choices]``."""
        return torch.rand(*batch_size, len(self.classes), generator=generator, device=generator.device)

    def logits(self, feat: Tensor) -> tuple[Tensor, ...]:
        """Of each choice, ``[*B, classes]``."""
        return self.out(self.mlp(feat)).split(self.classes, -1)

    def choose(self, feat: Tensor, noise: Tensor, mask: Tensor | None = None) -> Choice:
        """A random action as a function of noise; the bonus is the entropy.

        Args:
            feat: ``[*B, in_features]``.
            noise: uniform, ``[*B, choices]``.
            mask: not used: every task has every choice.
        """
        actions, entropies = [], []
        for logits, z in zip(self.logits(feat), noise.unbind(-1), strict=True):
            probs = unimix_probs(logits, self.unimix)
            actions.append(straight_through(inverse_cdf_one_hot(probs, z), probs))
            entropies.append(categorical_entropy(unimix_log_probs(logits, self.unimix)))
        entropy = torch.stack(entropies).sum(0)
        return Choice(torch.cat(actions, -1), entropy, entropy)

    def mode(self, feat: Tensor, mask: Tensor | None = None) -> Tensor:
        """The most likely choices, ``[*B, A]``."""
        return torch.cat([mode_one_hot(logits) for logits in self.logits(feat)], -1)

    def compute(self, feat: Tensor, noise: Tensor | None = None) -> Tensor:
        """An action ``[*B, A]`` of features ``[*B, in_features]``."""
        return self.mode(feat) if noise is None else self.choose(feat, noise).action
