"""Which actions the edges of a node stand for."""

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents._arguments import whole
from wmcomponents.agents.search.gumbel_noise import gumbel
from wmcomponents.codecs import ActionVector, CategoricalPolicy, PolicyDistribution, SquashedGaussianPolicy
from wmcomponents.codecs import policy_distribution as policy_of
from wmcomponents.functional import normal_log_prob

MOST_CHOICES = 4096


class Edges(Protocol):
    """Turns the raw policy of a node into its edges.

    Attributes:
        count: edges of every node, K.
        vectors: the action of each edge as a vector, ``[K, A]``, where it is the same at every node, else ``None``.
        params: raw outputs of the policy that is read.
    """

    count: int
    vectors: Tensor | None
    params: int

    def draw(self, batch: int, nodes: int, generator: torch.Generator) -> Tensor | None:
        """Noise for so many nodes of each root, ``[batch, nodes, ...]``; ``None`` where nothing is drawn."""
        ...

    def __call__(self, raw: Tensor, noise: Tensor | None, is_root: bool) -> tuple[Tensor, Tensor | None]:
        """Logits ``[B, K]``, and vectors ``[B, K, A]`` where each node has its own.

        Args:
            raw: of the policy, ``[B, params]``.
            noise: of these nodes, ``[B, ...]``, or ``None`` for none.
            is_root: whether these are roots.
        """
        ...

    def target(self, policy: Tensor, edge: Tensor, vectors: Tensor) -> Tensor:
        """What the policy is to learn, ``[B, A]``: probabilities of choices, or the best action where it is numbers.

        Args:
            policy: share of each edge, ``[B, K]``.
            edge: the one that is taken, ``[B]``.
            vectors: of the edges, ``[B, K, A]``.
        """
        ...


class AllChoices:
    """Every choice is an edge; of several choices every combination.

    Args:
        action_spec: spec of one action.

    Raises:
        ValueError: if actions are numbers, or there are too many combinations: :class:`SampledActions` searches those.
    """

    def __init__(self, action_spec: TensorSpec) -> None:
        policy = policy_of(ActionVector(action_spec))
        if not isinstance(policy, CategoricalPolicy):
            raise ValueError(
                "every choice is an edge only where actions are choices, and these are numbers: search sampled ones "
                "(sampled_search, or edges=SampledActions(model.action_spec, 16))."
            )
        self.params, self.count = policy.params, math.prod(policy.classes)
        if self.count > MOST_CHOICES:
            raise ValueError(
                f"{len(policy.classes)} choices have {self.count} combinations, more than {MOST_CHOICES} edges of a "
                f"node: search sampled ones (edges=SampledActions(model.action_spec, 16))."
            )
        self.is_single = len(policy.classes) == 1
        eyes = [torch.eye(n).unbind() for n in policy.classes]
        self.vectors: Tensor | None = torch.stack([torch.cat(rows) for rows in itertools.product(*eyes)])
        self.classes = policy.classes

    def draw(self, batch: int, nodes: int, generator: torch.Generator) -> Tensor | None:
        """Nothing is drawn."""
        return None

    def __call__(self, raw: Tensor, noise: Tensor | None, is_root: bool) -> tuple[Tensor, Tensor | None]:
        """Logits ``[B, K]``: the raw policy itself, or the sum over choices."""
        if self.is_single:
            return raw, None
        logits = raw.split(self.classes, -1)
        joint = logits[0]
        for following in logits[1:]:
            joint = (joint.unsqueeze(-1) + following.unsqueeze(-2)).flatten(-2)
        return joint, None

    def target(self, policy: Tensor, edge: Tensor, vectors: Tensor) -> Tensor:
        """Probabilities of each choice, ``[B, A]``."""
        return policy if self.is_single else (policy.unsqueeze(-1) * vectors).sum(1)


def density_prior(log_density: Tensor) -> Tensor:
    """Sampled actions weighed by their density (LightZero): logits ``[B, K]`` of log densities ``[B, K]``."""
    return log_density


def empirical_prior(log_density: Tensor) -> Tensor:
    """Sampled actions that all weigh the same, for they were drawn as often as the policy would have it.

    Reference: Hubert et al., Sampled MuZero (2021), equation 5 with beta = pi; EfficientZero V2.
    """
    return torch.zeros_like(log_density)


class SampledActions:
    """K actions drawn from the policy at every node; choices without drawing one twice.

    The policy of numbers is a squashed Gaussian. Its first action without noise is the mean, and so are the others.

    Args:
        action_spec: spec of one action.
        count: K.
        prior: weighs the drawn numbers; the prior of drawn choices is the policy's own, over what was drawn.

    Reference: Hubert et al., Learning and planning in complex action spaces (2021); LightZero.

    Raises:
        ValueError: for several choices at once, or more draws than there are choices.
    """

    vectors: Tensor | None = None

    def __init__(
        self, action_spec: TensorSpec, count: int = 20, prior: Callable[[Tensor], Tensor] = density_prior
    ) -> None:
        self.policy: PolicyDistribution = policy_of(ActionVector(action_spec))
        self.count, self.params, self.prior = whole("count", count, 1, "a number of actions"), self.policy.params, prior
        if isinstance(self.policy, CategoricalPolicy):
            if len(self.policy.classes) > 1 or count > self.params:
                raise ValueError(
                    f"{count} different actions of choices {self.policy.classes} cannot be drawn: there must be one "
                    f"choice, of at least as many alternatives. AllChoices searches them all."
                )
        elif not isinstance(self.policy, SquashedGaussianPolicy):
            raise ValueError(f"no samples of a {type(self.policy).__name__} are known; write an Edges of your own.")

    def draw(self, batch: int, nodes: int, generator: torch.Generator) -> Tensor | None:
        """Gumbel ``[batch, nodes, choices]`` or normal ``[batch, nodes, K, A]``."""
        if isinstance(self.policy, CategoricalPolicy):
            return gumbel((batch, nodes, self.params), generator)
        size = self.params // 2
        return torch.randn(batch, nodes, self.count, size, generator=generator, device=generator.device)

    def __call__(self, raw: Tensor, noise: Tensor | None, is_root: bool) -> tuple[Tensor, Tensor | None]:
        """Logits ``[B, K]`` and vectors ``[B, K, A]``."""
        if isinstance(self.policy, SquashedGaussianPolicy):
            return squashed_samples(self.policy, raw, noise, self.count, self.prior)
        score = raw.log_softmax(-1) if noise is None else raw.log_softmax(-1) + noise
        index = score.topk(self.count, -1).indices
        return raw.gather(-1, index), torch.nn.functional.one_hot(index, self.params).to(raw.dtype)

    def target(self, policy: Tensor, edge: Tensor, vectors: Tensor) -> Tensor:
        """Probabilities of each choice, or the action that is taken, ``[B, A]``."""
        if isinstance(self.policy, CategoricalPolicy):
            return (policy.unsqueeze(-1) * vectors).sum(1)
        return vectors[torch.arange(len(edge), device=edge.device), edge]


class WidenedRootActions:
    """EfficientZero V2's actions: at the root some of the policy and more of a wider one, below only a few.

    All weigh the same. Nodes below the root have fewer edges; the others cannot be taken.

    Args:
        action_spec: spec of one action, numbers.
        count: actions of the root.
        narrow: of these from the policy itself.
        below: actions of every other node.
        widening: of the standard deviation before squashing, for the root's others.

    Raises:
        ValueError: if actions are choices.
    """

    vectors: Tensor | None = None

    def __init__(
        self, action_spec: TensorSpec, count: int = 16, narrow: int = 4, below: int = 2, widening: float = 3.0
    ) -> None:
        policy = policy_of(ActionVector(action_spec))
        if not isinstance(policy, SquashedGaussianPolicy):
            raise ValueError("a policy is widened where actions are numbers, and these are choices: use AllChoices.")
        if not 0 <= narrow <= count or not 1 <= below <= count:
            raise ValueError(f"narrow and below are parts of count={count}; got {narrow} and {below}.")
        self.policy, self.params, self.count, self.below = policy, policy.params, count, below
        self.width = torch.cat([torch.ones(narrow), torch.full((count - narrow,), widening)]).unsqueeze(-1)

    def draw(self, batch: int, nodes: int, generator: torch.Generator) -> Tensor | None:
        """Normal ``[batch, nodes, K, A]``."""
        size = self.params // 2
        return torch.randn(batch, nodes, self.count, size, generator=generator, device=generator.device)

    def __call__(self, raw: Tensor, noise: Tensor | None, is_root: bool) -> tuple[Tensor, Tensor | None]:
        """Logits ``[B, K]`` and vectors ``[B, K, A]``."""
        if is_root and noise is not None:
            noise = noise * self.width.to(noise)
        logits, vectors = squashed_samples(self.policy, raw, noise, self.count, empirical_prior)
        if not is_root:
            logits[..., self.below :] = -torch.inf
        return logits, vectors.clamp(-0.999, 0.999)

    def target(self, policy: Tensor, edge: Tensor, vectors: Tensor) -> Tensor:
        """The action that is taken, ``[B, A]``."""
        return vectors[torch.arange(len(edge), device=edge.device), edge]


def squashed_samples(
    policy: SquashedGaussianPolicy, raw: Tensor, noise: Tensor | None, count: int, prior: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits ``[B, K]`` and vectors ``[B, K, A]`` of actions drawn from squashed Gaussians.

    The log density has the tanh correction of LightZero, -log(1 - a^2 + 1e-6).
    """
    mean, std = (part.unsqueeze(-2) for part in policy.distribution(raw))
    noise = torch.zeros_like(mean).expand(*mean.shape[:-2], count, mean.shape[-1]) if noise is None else noise
    before = mean + std * noise
    vectors = before.tanh()
    log_density = normal_log_prob(before, mean, std).sum(-1) - (1 - vectors.square() + 1e-6).log().sum(-1)
    return prior(log_density), vectors
