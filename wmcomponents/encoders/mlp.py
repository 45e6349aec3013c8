"""Vector encoder."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.nn import MLP, Norm
from wmcomponents.nn.layers.activation import Activation


class MLPEncoder(Component):
    """Encoder of vectors: ``layers`` times linear, normalisation, activation.

    Missing values, marked by minus infinity, enter as zeros.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "observation" | [*B, in_features] | float | read |
        | "embed" | [*B, units] | float | written |

    Args:
        in_features: size of the vector.
        units: width of every layer and of the output.
        layers: number of layers.
        norm: normalisation before each activation.
        act: activation.
        bias: whether the layers have biases.
        in_keys: the observation.
        out_keys: the embedding.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3.

    Example:
        >>> import torch
        >>> MLPEncoder(24, units=64)(observation=torch.zeros(5, 24)).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 3,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("observation",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.mlp = MLP(in_features, units, layers, norm, act, bias)
        self.out_features = self.mlp.out_features

    def compute(self, observation: Tensor) -> Tensor:
        """``[*B, in_features]`` to ``[*B, units]``."""
        return self.mlp(torch.where(torch.isneginf(observation), 0.0, observation))
