"""The controller of World Models: one linear layer from features to actions, small enough to be evolved."""

from collections.abc import Callable, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents._arguments import whole
from wmcomponents.codecs import ActionVector, DiscreteCodec
from wmcomponents.component import Component


class LinearController(Component):
    """Acts by one linear layer of the features; a whole population of its kind acts at once by :meth:`act`.

    Numbers are squashed by tanh between their bounds; of alternatives the highest is taken.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, in_features] | float | read |
        | "action" | [*B, *action shape] | as the action spec says | written |

    Args:
        in_features: F, size of the features.
        action_spec: spec of one action.
        bias: add a bias.
        squash: from raw outputs ``[*B, A]`` to the action's vector, whose bounds are -1 and 1; tanh if not given.
        in_keys: the features.
        out_keys: the action.

    Attributes:
        size: N, numbers of a controller: the weight ``[A, F]``, then the bias ``[A]``.
        genome: the numbers of this one, ``[N]``; a buffer, since no gradient ever reaches it.

    Example:
        >>> from torchrl.data import Bounded
        >>> controller = LinearController(4, Bounded(-2.0, 2.0, (1,)))
        >>> controller.size, controller(latent=torch.ones(4))
        (5, tensor([0.]))

    Reference: Ha and Schmidhuber, World Models (2018), section 2.3.
    """

    genome: Tensor

    def __init__(
        self,
        in_features: int,
        action_spec: TensorSpec,
        *,
        bias: bool = True,
        squash: Callable[[Tensor], Tensor] | None = None,
        in_keys: Sequence[NestedKey] = ("latent",),
        out_keys: Sequence[NestedKey] = ("action",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.in_features = whole("in_features", in_features, 1, "a number of features, at least 1")
        self.action_vector = ActionVector(action_spec)
        self._outputs, self._bias = self.action_vector.size, bias
        self._squash = self._usual() if squash is None else squash
        self.size = self._outputs * (in_features + bias)
        self.register_buffer("genome", torch.zeros(self.size))

    def _usual(self) -> Callable[[Tensor], Tensor]:
        # The highest of alternatives is the highest after tanh too, but for ties where it saturates.
        return (lambda raw: raw) if isinstance(self.action_vector.codec, DiscreteCodec) else torch.tanh

    def act(self, features: Tensor, genomes: Tensor) -> Tensor:
        """Every controller of a population on rows of its own.

        Args:
            features: ``[P, R, F]``.
            genomes: ``[P, N]``.

        Returns:
            Actions ``[P, R, *action shape]``.
        """
        weight = genomes[:, : self._outputs * self.in_features].unflatten(-1, (self._outputs, self.in_features))
        raw = features @ weight.mT
        if self._bias:
            raw = raw + genomes[:, None, -self._outputs :]
        return self.action_vector.inverse(self._squash(raw))

    def compute(self, feat: Tensor) -> tuple[Tensor]:
        """The action ``[*B, *action shape]`` of features ``[*B, F]``."""
        acted = self.act(feat.reshape(1, -1, feat.shape[-1]), self.genome[None])[0]
        return (acted.reshape(feat.shape[:-1] + acted.shape[1:]),)
