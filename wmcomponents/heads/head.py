"""A distribution over what a network makes of features."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.heads.distribution import HeadDistribution


class Head(Component):
    """Any network and any distribution: one maps features to raw outputs, the other reads and judges them.

    The heads of the papers are this one with their parts (:class:`TwoHotHead`, :class:`BernoulliHead`, ...): a head
    that differs is given another part.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "raw" | [*B, size] | float | written |
        | "value" | [*B, N] | float | written |

    Args:
        mlp: hidden layers: features ``[*B, in_features]`` to ``[*B, units]``.
        out: last layer: ``[*B, units]`` to the raw outputs ``[*B, size]``.
        distribution: of the truth, given the raw outputs.
        in_keys: the features.
        out_keys: raw outputs, and the value they stand for.

    Example:
        >>> import torch
        >>> from wmcomponents.heads import BernoulliDistribution
        >>> from wmcomponents.nn import MLP
        >>> head = Head(MLP(16, 8, layers=1), torch.nn.Linear(8, 1), BernoulliDistribution())
        >>> raw, probability = head(feat=torch.randn(5, 16))
        >>> head.loss(raw, torch.ones(5, 1)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        mlp: nn.Module,
        out: nn.Module,
        distribution: HeadDistribution,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("raw", "value"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.mlp, self.out, self.distribution = mlp, out, distribution

    def prepare(self, target: Tensor) -> None:
        """Fit to data what is fitted, once; warn of targets that cannot be said well.

        Args:
            target: of the data, ``[*B, N]``.
        """
        self.distribution.prepare(target)

    def raw(self, feat: Tensor) -> Tensor:
        """Raw outputs ``[*B, size]`` of features ``[*B, in_features]``."""
        return self.out(self.mlp(feat))

    def mean(self, raw: Tensor) -> Tensor:
        """The value that raw outputs ``[*B, size]`` stand for, ``[*B, N]``."""
        return self.distribution.mean(raw)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Error of raw outputs ``[*B, size]`` against the truth ``[*B, N]``, which gets no gradient: ``[*B]``."""
        return self.distribution.loss(raw, target)

    def losses(self, raw: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """:meth:`loss` of the same raw outputs against several truths, which may share what they have in common."""
        return self.distribution.losses(raw, targets)

    def compute(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs ``[*B, size]`` and their value ``[*B, N]``, of features ``[*B, in_features]``."""
        raw = self.raw(feat)
        return raw, self.mean(raw)
