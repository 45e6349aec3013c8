"""Terms that keep the embeddings of sequences from becoming constant; any of them, or several, beside a prediction."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from wmcomponents.functional.sigreg import EppsPulley, random_directions, sigreg
from wmcomponents.functional.variance_covariance import (
    mean_covariance,
    pldm_terms,
    std_hinge,
    temporal_similarity,
    temporal_straightening,
)


class AgainstCollapse(nn.Module, ABC):
    """Interface of a part of an objective: weighted terms of embeddings, and of the actions between them.

    The embeddings keep their gradient: in these methods no side is stopped. A model whose target is an average of
    itself, or whose encoder is frozen, needs none of them. Statistics are those of the rows at hand, also where several
    processes share a batch.
    """

    names: tuple[str, ...]

    @abstractmethod
    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted terms, by :attr:`names`, each a scalar.

        Args:
            embed: ``[B, T, D]``, or ``[B, T, N, D]`` with a token for each place.
            action: taken between embeddings, ``[B, T - 1, A]``; some terms need it.

        Raises:
            ValueError: for too few samples or steps, or if actions are needed and missing.
        """


class Together(AgainstCollapse):
    """Several parts as one.

    Args:
        parts: whose terms have different names.

    Raises:
        ValueError: if two have a name in common.

    Example:
        >>> part = Together([VarianceCovariance(), TemporalSimilarity(12.0)])
        >>> sorted(part(torch.randn(4, 3, 8)))
        ['covariance', 'similarity', 'variance']
    """

    def __init__(self, parts: Sequence[AgainstCollapse]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.names = tuple(name for part in parts for name in part.names)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"parts that act together name their terms differently; got {', '.join(self.names)}.")

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        return {name: term for part in self.parts for name, term in part(embed, action).items()}


class VarianceCovariance(AgainstCollapse):
    """Deviations of at least 1 and uncorrelated channels, as eb_jepa has them.

    Args:
        variance: weight of the deviations' hinge.
        covariance: weight of the mean squared covariance.
        only_first: whether only the first embedding of each sequence is a sample; else all are.
        tokens_are_samples: whether each token is a sample of its own; else the tokens of a time are one long vector.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026);
    Bardes et al., VICReg (2022).
    """

    names = ("variance", "covariance")

    def __init__(
        self,
        variance: float = 16.0,
        covariance: float = 8.0,
        *,
        only_first: bool = False,
        tokens_are_samples: bool = False,
    ) -> None:
        super().__init__()
        self.weights = (variance, covariance)
        self.only_first, self.tokens_are_samples = only_first, tokens_are_samples

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        embed = embed[:, :1] if self.only_first else embed
        samples = embed.flatten(0, -2) if self.tokens_are_samples else embed.flatten(2).flatten(0, 1)
        return {
            "variance": self.weights[0] * std_hinge(samples),
            "covariance": self.weights[1] * mean_covariance(samples),
        }


class TemporalSimilarity(AgainstCollapse):
    """Embeddings that follow on each other are near each other.

    Args:
        scale: weight.

    Reference: Terver et al. (2026); Sobal et al., PLDM (2025).
    """

    names = ("similarity",)

    def __init__(self, scale: float = 12.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        return {"similarity": self.scale * temporal_similarity(embed.flatten(2))}


class TemporalStraightening(AgainstCollapse):
    """Embeddings move on straight lines.

    Args:
        scale: weight.

    Reference: the code of stable-worldmodel (2026).
    """

    names = ("straightening",)

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        return {"straightening": self.scale * temporal_straightening(embed.flatten(2))}


class InverseDynamics(AgainstCollapse):
    """What was done can be told from the embeddings before and after it: what moves by itself is worth nothing here.

    Args:
        head: from both embeddings, one behind the other, ``[B, T - 1, 2 D]``, to actions ``[B, T - 1, A]``.
        scale: weight of the mean squared error.
        next_first: whether the embedding that came later stands first (stable-worldmodel); else second (eb_jepa).

    Reference: Pathak et al., Curiosity-Driven Exploration by Self-Supervised Prediction (2017); Sobal et al., PLDM
    (2025).
    """

    names = ("inverse_dynamics",)

    def __init__(self, head: nn.Module, scale: float = 1.0, *, next_first: bool = False) -> None:
        super().__init__()
        self.head, self.scale, self.next_first = head, scale, next_first

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        if action is None or action.shape[1] != embed.shape[1] - 1:
            got = "none" if action is None else f"{action.shape[1]}"
            raise ValueError(f"inverse dynamics need the {embed.shape[1] - 1} actions between embeddings; got {got}.")
        before, after = embed.flatten(2)[:, :-1], embed.flatten(2)[:, 1:]
        told = self.head(torch.cat([after, before] if self.next_first else [before, after], -1))
        return {"inverse_dynamics": self.scale * mse_loss(told, action)}


class SIGReg(AgainstCollapse):
    """At each time, the embeddings of the batch are held to a standard normal distribution, times the batch's size.

    Args:
        scale: weight; halving the batch halves the term.
        directions: drawn anew at every call, from torch's global generator.
        statistic: of one direction.

    Reference: Balestriero and LeCun, LeJEPA (2025); Maes et al., LeWorldModel (2026).
    """

    names = ("distribution",)

    def __init__(self, scale: float = 0.09, directions: int = 1024, statistic: EppsPulley | None = None) -> None:
        super().__init__()
        self.scale, self.directions = scale, directions
        self.statistic = EppsPulley() if statistic is None else statistic

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        samples = embed.flatten(2).transpose(0, 1)  # (T, B, D)
        along = random_directions(samples.shape[-1], self.directions, device=embed.device)
        return {"distribution": self.scale * samples.shape[1] * sigreg(samples, along, self.statistic)}


class PLDMRegularizer(AgainstCollapse):
    """PLDM's terms: deviations and covariances over the batch and over time, and embeddings that stay near each other.

    Args:
        std: weight of the deviations over the batch.
        std_t: weight of the deviations over time.
        cov: weight of the covariances over the batch.
        cov_t: weight of the covariances over time.
        temp_align: weight of the similarity of embeddings that follow on each other.

    Reference: Sobal et al., PLDM (2025); the weights are stable-worldmodel's.
    """

    names = ("std", "std_t", "cov", "cov_t", "temp_align")

    def __init__(
        self, std: float = 18.0, std_t: float = 0.7, cov: float = 12.0, cov_t: float = 0.0, temp_align: float = 0.2
    ) -> None:
        super().__init__()
        self.weights = (std, std_t, cov, cov_t, temp_align)

    def forward(self, embed: Tensor, action: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`AgainstCollapse.forward`."""
        terms = pldm_terms(embed.flatten(2))._asdict().items()
        return {name: weight * term for weight, (name, term) in zip(self.weights, terms, strict=True)}
