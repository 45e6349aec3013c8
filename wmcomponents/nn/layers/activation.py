"""Activations by name."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["silu", "gelu", "relu", "elu", "tanh"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": lambda: nn.GELU(approximate="tanh"),  # the default of jax.nn.gelu
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


def make_activation(act: Activation) -> nn.Module:
    """The activation of a name; "gelu" is the tanh approximation, as in the JAX codes of the Dreamer papers.

    Raises:
        ValueError: for an unknown name.
    """
    if act not in _ACTIVATIONS:
        raise ValueError(f"act must be one of {list(_ACTIVATIONS)}; got {act!r}.")
    return _ACTIVATIONS[act]()


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """SiLU; in place where no gradient is recorded: for tensors that nothing else reads."""
    return F.silu(x, inplace=not x.requires_grad)
