"""Layers of any widths with a plain linear layer at the end."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.layers.activation import Activation, make_activation
from wmcomponents.nn.layers.batch_norm import BatchNorm1d
from wmcomponents.nn.layers.norm import Norm, make_norm


def normalization(norm: Norm | str, units: int) -> nn.Module:
    """What stands between a linear layer and its activation, on ``[n, units]``: batch normalisation, or one by name."""
    return BatchNorm1d(units) if norm == "batch" else make_norm(norm, units)  # pyright: ignore[reportArgumentType]


class Perceptron(nn.Sequential):
    """``[Linear, norm, activation]`` for each hidden width, then ``Linear``; torch's own initialisation.

    Its entries are numbered as in the codes of MuZero's family: without a norm the linear layers are 0, 2, ...; with
    one they are 0, 3, ....

    Args:
        in_features: size of the input.
        hidden: widths of the hidden layers; may be empty.
        out_features: size of the output.
        norm: ``"none"``, ``"batch"``, ``"layer"`` or ``"rms"``.
        act: activation.
        zero: whether the last layer begins at zero, weight and bias (EfficientZero's heads).

    Example:
        >>> import torch
        >>> Perceptron(4, [8], 3)(torch.zeros(2, 5, 4)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        norm: Norm | str = "none",
        act: Activation = "elu",
        zero: bool = False,
    ) -> None:
        layers: list[nn.Module] = []
        size = in_features
        for units in hidden:
            layers += [nn.Linear(size, units), *([] if norm == "none" else [normalization(norm, units)])]
            layers.append(make_activation(act))
            size = units
        out = nn.Linear(size, out_features)
        if zero:
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)
        super().__init__(*layers, out)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, input: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply the layers to the last dimension."""
        lead = input.shape[:-1]
        return super().forward(input.reshape(-1, self.in_features)).reshape(*lead, self.out_features)


class ResidualPerceptron(nn.Module):
    """``x + W2 relu(W1 norm(x))``: a residual block on vectors, normalised at its entrance (EfficientZero-V2).

    Args:
        units: size of input and output.
        hidden: width in between.
    """

    def __init__(self, units: int, hidden: int) -> None:
        super().__init__()
        self.norm = make_norm("layer", units, eps=1e-5)
        self.net = Perceptron(units, [hidden], units, act="relu")

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Same size out as in."""
        return x + self.net(self.norm(x))
