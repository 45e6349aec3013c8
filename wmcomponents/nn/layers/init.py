"""Weight initialisation of DreamerV3's code."""

import math

from torch import Tensor, nn

# Standard deviation of a unit normal truncated at two sigma is 0.8796; its inverse restores unit variance.
TRUNCATION_GAIN = 1.1368


def trunc_normal_init_(weight: Tensor, fan_in: int | float, outscale: float = 1.0) -> Tensor:
    """Fill ``weight`` in place from a normal truncated at two sigma, with variance ``outscale^2 / fan_in``.

    Args:
        weight: ``[*shape]``.
        fan_in: inputs that reach one output. DreamerV3 counts the full input size of block-diagonal layers, too.
        outscale: factor on the standard deviation; 0 gives zeros.

    Returns:
        The same tensor.
    """
    if outscale == 0:
        return nn.init.zeros_(weight)
    std = TRUNCATION_GAIN * outscale / math.sqrt(fan_in)
    return nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


def glorot_init_(module: nn.Module) -> None:
    """Fill the weights of all linear and convolution layers uniformly as Keras does by default; biases are left alone.

    PlaNet, Dreamer V1 and Dreamer V2 begin so. Recurrent units that keep their weights otherwise are left alone too.

    Args:
        module: whatever holds the layers.

    Reference: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)


def fan_average_init_(module: nn.Module) -> None:
    """Fill the weights of all linear and convolution layers from a truncated normal whose variance is 1 / mean fan.

    The mean of fan-in and fan-out; biases are left alone. DreamerV3's preprint begins so.

    Args:
        module: whatever holds the layers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            # Either order of a kernel's channels gives the same sum of fans.
            fans = (layer.weight.shape[0] + layer.weight.shape[1]) * layer.weight[0, 0].numel()
            trunc_normal_init_(layer.weight, fans / 2)


def linear(in_features: int, out_features: int, outscale: float = 1.0, bias: bool = True) -> nn.Linear:
    """A ``Linear`` with a truncated-normal weight and zero bias, or none."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    trunc_normal_init_(layer.weight, in_features, outscale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
