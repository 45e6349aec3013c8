"""Vector decoder."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.codecs import KeyedModules, Likelihood, SquaredError
from wmcomponents.component import Component
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class MLPDecoder(Component):
    """Decoder of vectors: one MLP on (stoch, deter), stochastic part FIRST, and one linear layer a key.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, deter] | float | read |
        | "stoch" | [*B, *stoch_shape] | float | read |
        | ("raw", name) for each name | [*B, sizes[name]] | float | written |

    Args:
        deter: size of the recurrent part.
        stoch_shape: shape of the stochastic part.
        sizes: output size for each name.
        units: width of the MLP.
        layers: layers of the MLP.
        norm: normalisation.
        act: activation.
        outscale: factor on the initial weight of the output layers.
        bias: whether the MLP's layers have biases.
        likelihood: how the outputs for numbers are judged: squared error (DreamerV3) or ``UnitNormal()``.
        in_keys: recurrent and stochastic part.
        out_keys: one for each name; default ``("raw", name)``.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3.

    Example:
        >>> import torch
        >>> decoder = MLPDecoder(8, (4, 3), {"pos": 2}, units=16)
        >>> decoder(deter=torch.zeros(5, 8), stoch=torch.zeros(5, 4, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        deter: int,
        stoch_shape: Sequence[int],
        sizes: Mapping[str, int],
        units: int = 1024,
        layers: int = 3,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        bias: bool = True,
        likelihood: Likelihood | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> None:
        super().__init__(in_keys, [("raw", name) for name in sizes] if out_keys is None else out_keys)
        self.likelihood = SquaredError() if likelihood is None else likelihood
        self.stoch_dims = len(stoch_shape)
        self.mlp = MLP(deter + torch.Size(stoch_shape).numel(), units, layers, norm, act, bias)
        outs = {name: linear(self.mlp.out_features, size, outscale) for name, size in sizes.items()}
        self.outs = KeyedModules(outs)

    def compute(self, deter: Tensor, stoch: Tensor) -> tuple[Tensor, ...]:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to one ``[*B, size]`` for each name, in order."""
        x = self.mlp(torch.cat([stoch.flatten(-self.stoch_dims), deter], -1))
        return tuple(out(x) for _, out in self.outs.items())
