"""What a policy's raw outputs mean."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.observation import DiscreteCodec
from wmcomponents.functional import at_least_float32
from wmcomponents.functional.distributions.tanh_normal import smoothed_tanh_normal_log_prob, tanh_normal

INIT_STD = math.log1p(math.e)  # softplus(1)


class PolicyDistribution(nn.Module, ABC):
    """Raw outputs ``[*B, params]`` as a distribution over an action's vector.

    Args:
        params: number of raw outputs.
    """

    def __init__(self, params: int) -> None:
        super().__init__()
        self.params = params

    @abstractmethod
    def loss(self, raw: Float[Tensor, "*batch p"], target: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Cross entropy with a target: a vector of probabilities, or the action itself where actions are numbers."""

    @abstractmethod
    def uniform(self, like: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch a"]:
        """The target that stands for no preference."""

    @abstractmethod
    def random(self, shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "*shape a"]:
        """Vectors of random actions, ``[*shape, A]``."""


class CategoricalPolicy(PolicyDistribution):
    """One or more choices.

    Args:
        classes: alternatives of each choice.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        super().__init__(sum(classes))
        self.classes = tuple(classes)

    def loss(self, raw: Float[Tensor, "*batch a"], target: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Cross entropy with probabilities, or a one-hot choice; summed over choices. A zero target costs nothing."""
        pairs = zip(raw.split(self.classes, -1), target.split(self.classes, -1), strict=True)
        errors = [-(at_least_float32(logits).log_softmax(-1) * wanted).sum(-1) for logits, wanted in pairs]
        return torch.stack(errors).sum(0)

    def uniform(self, like: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch a"]:
        """Equal probabilities."""
        return torch.cat([like.new_full((*like.shape[:-1], n), 1.0 / n) for n in self.classes], -1)

    def random(self, shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "*shape a"]:
        """One-hot choices."""
        parts = []
        for n in self.classes:
            index = torch.randint(n, tuple(shape), generator=generator, device=generator.device)
            parts.append(nn.functional.one_hot(index, n).to(torch.float32))
        return torch.cat(parts, -1)


class SquashedGaussianPolicy(PolicyDistribution):
    r"""A Gaussian squashed by tanh into [-1, 1] (EfficientZero-V2).

    Its mean before the squashing is ``5 tanh(m / 5)``, its standard deviation ``softplus(s + 1) + 0.1``. Its target is
    an action, the behaviour's or the search's best, as an action's vector, clipped to 0.999 in size.

    Args:
        size: numbers in an action.
    """

    def __init__(self, size: int) -> None:
        super().__init__(2 * size)
        self.size = size

    def distribution(self, raw: Float[Tensor, "*batch p"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation before the squashing, each ``[*B, A]``."""
        mean, std = raw.split(self.size, -1)
        return tanh_normal(mean, std, init_std=INIT_STD, min_std=0.1)

    def loss(self, raw: Float[Tensor, "*batch p"], target: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch"]:
        """Negative log density of the squashed action, summed over its numbers."""
        mean, std = self.distribution(raw)
        action = target.clamp(-0.999, 0.999)
        return -smoothed_tanh_normal_log_prob(action, mean, std)

    def uniform(self, like: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch a"]:
        """The middle of every interval."""
        return torch.zeros_like(like)

    def random(self, shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "*shape a"]:
        """Uniform in [-1, 1]."""
        drawn = torch.rand(*shape, self.size, generator=generator, device=generator.device)
        return 2.0 * drawn - 1.0


def policy_distribution(action: ActionVector) -> PolicyDistribution:
    """The policy of a kind of action: categorical for choices, a squashed Gaussian for numbers."""
    if isinstance(action.codec, DiscreteCodec):
        return CategoricalPolicy(action.codec.classes)
    return SquashedGaussianPolicy(action.size)
