"""Gated recurrent units: the three that the recurrent world models are built on, which are not interchangeable."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.layers.init import linear
from wmcomponents.nn.layers.norm import Norm, make_norm


class GatedUnit(nn.Module, ABC):
    """One step of a gated recurrent unit.

    Attributes:
        in_features: size of the input.
        size: size of the recurrent state.
    """

    in_features: int
    size: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "*batch i"], h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Input and previous state to the next state."""


class ResetBeforeGRU(GatedUnit):
    r"""The original unit, in which the reset gate acts on the state before the matrix product (PlaNet).

    .. math::
        r, u &= \sigma(W_{ru} [x, h] + b_{ru}), \quad c = \tanh(W_c [x, r h] + b_c) \\
        h' &= u h + (1 - u) c

    The bias of the gates starts at 1. TensorFlow's ``GRUBlockCell`` is this unit; ``torch.nn.GRUCell`` is not.

    Args:
        in_features: size of the input.
        size: size of the recurrent state.

    Reference: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014).
    """

    def __init__(self, in_features: int, size: int) -> None:
        super().__init__()
        self.in_features, self.size = in_features, size
        self.gates = linear(in_features + size, 2 * size)
        self.candidate = linear(in_features + size, size)
        nn.init.ones_(self.gates.bias)

    def forward(self, x: Float[Tensor, "*batch i"], h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Input and previous state to the next state."""
        reset, update = self.gates(torch.cat([x, h], -1)).sigmoid().chunk(2, -1)
        candidate = self.candidate(torch.cat([x, reset * h], -1)).tanh()
        return torch.lerp(candidate.to(h.dtype), h, update.to(h.dtype))  # the state keeps its precision


class ResetAfterGRU(GatedUnit):
    r"""The unit of cuDNN, Keras and torch, in which the reset gate acts after the matrix product (Dreamer V1).

    .. math::
        r, z &= \sigma(W_{rz} x + U_{rz} h + b_{rz}), \quad c = \tanh(W_c x + b_c + r (U_c h + b'_c)) \\
        h' &= z h + (1 - z) c

    Gates are kept in torch's order (reset, update, candidate); Keras has the update gate first.

    Args:
        in_features: size of the input.
        size: size of the recurrent state.
    """

    def __init__(self, in_features: int, size: int) -> None:
        super().__init__()
        self.in_features, self.size = in_features, size
        self.unit = nn.GRUCell(in_features, size)
        nn.init.xavier_uniform_(self.unit.weight_ih)
        nn.init.orthogonal_(self.unit.weight_hh)
        nn.init.zeros_(self.unit.bias_ih)
        nn.init.zeros_(self.unit.bias_hh)

    def forward(self, x: Float[Tensor, "*batch i"], h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Input and previous state to the next state."""
        if h.ndim == 2:
            return self.unit(x, h)
        return self.unit(x.reshape(-1, x.shape[-1]), h.reshape(-1, self.size)).view(h.shape)


class NormGRU(GatedUnit):
    r"""One dense layer, normalised as a whole, gives all three gates (Dreamer V2, and DreamerV3 of 2023).

    .. math::
        r, c, u = norm(W [x, h]), \quad
        h' = \sigma(u - 1) \tanh(\sigma(r) c) + (1 - \sigma(u - 1)) h

    Args:
        in_features: size of the input.
        size: size of the recurrent state.
        norm: normalisation of the gates.
        bias: whether the dense layer has a bias: in Dreamer V2 it has, in DreamerV3 of 2023 it has none.
        update_bias: added to the update gate at every step: a memory that changes slowly at first.
    """

    def __init__(
        self,
        in_features: int,
        size: int,
        norm: Norm = "keras_layer",
        bias: bool = True,
        update_bias: float = -1.0,
    ) -> None:
        super().__init__()
        self.in_features, self.size, self.update_bias = in_features, size, update_bias
        self.linear = linear(in_features + size, 3 * size, bias=bias)
        self.norm = make_norm(norm, 3 * size)

    def forward(self, x: Float[Tensor, "*batch i"], h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Input and previous state to the next state."""
        gates = self.norm(self.linear(torch.cat([x, h], -1)))
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update + self.update_bias)
        return torch.lerp(h, candidate.to(h.dtype), update.to(h.dtype))  # the state keeps its precision
