"""The recurrent cell of PlaNet, Dreamer V1, Dreamer V2 and the first DreamerV3."""

import torch.nn.functional as F
from torch import Tensor

from wmcomponents.dynamics.rssm.cell import Cell
from wmcomponents.nn import Dense, GatedUnit, Norm
from wmcomponents.nn.layers.activation import Activation


class DenseGRUCell(Cell):
    r"""A dense layer on (stoch, action) in front of a gated recurrent unit: ``h' = GRU(act(norm(W [z, a])), h)``.

    ======================  ==================================  ========  ===============  =====
    paper                   gru                                 act       norm             bias
    ======================  ==================================  ========  ===============  =====
    PlaNet                  :class:`~nn.ResetBeforeGRU`         relu      none             yes
    Dreamer V1              :class:`~nn.ResetAfterGRU`          elu       none             yes
    Dreamer V2              :class:`~nn.NormGRU`                elu       none             yes
    DreamerV3 of 2023       :class:`~nn.NormGRU` (bias=False)   silu      keras_layer      no
    ======================  ==================================  ========  ===============  =====

    Args:
        stoch: flat size of the stochastic state.
        action: size of the action vector.
        gru: the recurrent unit; its input is the dense layer, its size that of the recurrent state.
        norm: normalisation of the dense layer.
        act: activation of the dense layer.
        bias: whether the dense layer has a bias.
    """

    def __init__(
        self,
        stoch: int,
        action: int,
        gru: GatedUnit,
        norm: Norm = "none",
        act: Activation = "elu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.deter, self.stoch = gru.size, stoch
        self.input = Dense(stoch + action, gru.in_features, norm, act, bias)
        self.gru = gru

    def prepare(self, action: Tensor) -> Tensor:
        """The action's share of the dense layer, bias included: ``[*B, A]`` to ``[*B, gru.in_features]``."""
        layer = self.input.linear
        return F.linear(action, layer.weight[:, self.stoch :], layer.bias)

    def step(self, deter: Tensor, stoch: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]``, flat ``[*B, S]`` and ``[*B, gru.in_features]`` to the next ``[*B, deter]``."""
        x = prepared + F.linear(stoch, self.input.linear.weight[:, : self.stoch])
        return self.gru(self.input.act(self.input.norm(x)), deter)
