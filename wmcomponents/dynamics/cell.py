"""Recurrent cells: from (deter, stoch, action) to the next deter."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wmcomponents.nn import BlockLinear, Dense, Norm, make_norm
from wmcomponents.nn.activation import Activation, make_activation


class Cell(nn.Module, ABC):
    """The deterministic path of a recurrent state-space model.

    A sequence calls :meth:`prepare` once for all its actions and :meth:`step` for each time step, so that whatever does
    not depend on the state is computed in one batch. One time step is ``step(deter, stoch, prepare(action))``.

    Attributes:
        deter: size of the recurrent state.
    """

    deter: int

    @abstractmethod
    def prepare(self, action: Tensor) -> Tensor:
        """The action's part of the step, ``[*B, A]`` to ``[*B, P]``."""

    @abstractmethod
    def step(self, deter: Tensor, stoch: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]``, flat ``[*B, S]`` and ``[*B, P]`` to the next ``[*B, deter]``."""

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """One step: ``[*B, deter]``, flat ``[*B, S]`` and ``[*B, A]`` to the next ``[*B, deter]``."""
        return self.step(deter, stoch, self.prepare(action))


class BlockGRUCell(Cell):
    r"""DreamerV3's recurrent cell: a GRU whose weights are block diagonal.

    State, sample and action are embedded by one dense layer each; every block sees its own part of the state and all
    three embeddings.

    .. math::
        x &= [d_0(h), d_1(z), d_2(a)], \quad y_g = act(norm(B_1 [h_g, x]))_g \\
        r, c, u &= B_2 y, \quad h' = \sigma(u - 1) \tanh(\sigma(r) c) + (1 - \sigma(u - 1)) h

    Actions outside [-1, 1] are scaled back to its border.

    Args:
        deter: size of the recurrent state.
        stoch: flat size of the stochastic state.
        action: size of the action vector.
        hidden: width of the three embeddings.
        blocks: number of blocks; divides ``deter``.
        layers: block-diagonal hidden layers between embeddings and gates.
        norm: normalisation.
        act: activation.

    Raises:
        ValueError: if ``blocks`` does not divide ``deter``, or there is no hidden layer.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3, 2024), section "World model".
    """

    def __init__(
        self,
        deter: int,
        stoch: int,
        action: int,
        hidden: int = 1024,
        blocks: int = 8,
        layers: int = 1,
        norm: Norm = "rms",
        act: Activation = "silu",
    ) -> None:
        super().__init__()
        if deter % blocks:
            raise ValueError(f"blocks (={blocks}) must divide deter (={deter}).")
        if layers < 1:
            raise ValueError(f"Need at least one hidden layer; got layers={layers}.")
        self.deter, self.blocks = deter, blocks
        self.deter_in = Dense(deter, hidden, norm, act)
        self.stoch_in = Dense(stoch, hidden, norm, act)
        self.action_in = Dense(action, hidden, norm, act)
        sizes = [deter + 3 * hidden * blocks] + [deter] * (layers - 1)
        self.hidden = nn.ModuleList(BlockLinear(size, deter, blocks) for size in sizes)
        self.norms = nn.ModuleList(make_norm(norm, deter) for _ in sizes)
        self.act = make_activation(act)
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def prepare(self, action: Tensor) -> Tensor:
        """The action's embedding, ``[*B, A]`` to ``[*B, hidden]``."""
        return self.action_in(action / action.detach().abs().clamp(min=1.0))

    def step(self, deter: Tensor, stoch: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]``, flat ``[*B, S]`` and ``[*B, hidden]`` to the next ``[*B, deter]``."""
        shared = torch.cat([self.deter_in(deter), self.stoch_in(stoch), prepared], -1).unsqueeze(-2)
        own = deter.unflatten(-1, (self.blocks, -1))
        x = torch.cat([own, shared.expand(*own.shape[:-1], -1)], -1).flatten(-2)
        for hidden, norm in zip(self.hidden, self.norms, strict=True):
            x = self.act(norm(hidden(x)))
        reset, candidate, update = self.gates(x).unflatten(-1, (self.blocks, -1)).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(own, candidate, torch.sigmoid(update - 1.0)).flatten(-2)
