"""The layer stack every Dreamer part is made of."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.layers.activation import Activation, make_activation
from wmcomponents.nn.layers.init import linear
from wmcomponents.nn.layers.norm import Norm, make_norm


class Dense(nn.Module):
    """Linear, normalisation, activation.

    Args:
        in_features: size of the input.
        units: size of the output.
        norm: normalisation between the two.
        act: activation.
        bias: whether the linear layer has a bias.
    """

    def __init__(
        self, in_features: int, units: int, norm: Norm = "rms", act: Activation = "silu", bias: bool = True
    ) -> None:
        super().__init__()
        self.linear = linear(in_features, units, bias=bias)
        self.norm = make_norm(norm, units)
        self.act = make_activation(act)

    def forward(self, x: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply the layer to the last dimension."""
        return self.act(self.norm(self.linear(x)))


class MLP(nn.Module):
    """``layers`` times :class:`Dense`; the identity when ``layers`` is 0.

    Args:
        in_features: size of the input.
        units: width of every layer.
        layers: number of layers.
        norm: normalisation before each activation.
        act: activation.
        bias: whether the linear layers have biases.
    """

    def __init__(
        self,
        in_features: int,
        units: int,
        layers: int,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        sizes = [in_features] + [units] * layers
        self.in_features, self.out_features = in_features, sizes[-1]
        self.layers = nn.ModuleList(Dense(i, o, norm, act, bias) for i, o in zip(sizes[:-1], sizes[1:], strict=True))

    def layer(self, index: int) -> Dense:
        """One layer."""
        return cast(Dense, self.layers[index])

    def forward(self, x: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply the stack to the last dimension."""
        for layer in self.layers:
            x = layer(x)
        return x
