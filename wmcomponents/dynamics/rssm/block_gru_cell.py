"""DreamerV3's recurrent cell."""

from typing import cast

import torch
from torch import Tensor, nn

from wmcomponents.dynamics.rssm.block_gru_scan import BlockGRULayers, BlockGRUScan
from wmcomponents.dynamics.rssm.cell import Cell
from wmcomponents.dynamics.rssm.scan import CellScan, is_norm_act, is_scannable
from wmcomponents.nn import BlockLinear, Dense, Norm, make_norm
from wmcomponents.nn.layers.activation import Activation, make_activation


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

    @property
    def first(self) -> BlockLinear:
        """The hidden layer that mixes state, sample and action."""
        return cast(BlockLinear, self.hidden[0])

    @property
    def can_scan(self) -> bool:
        """Yes, with one hidden layer, RMS normalisation and SiLU."""
        has_one_kind = is_scannable(self.deter_in) and is_scannable(self.stoch_in)
        return has_one_kind and len(self.hidden) == 1 and is_norm_act(self.norms[0], self.act)

    def scan(self, deter: Tensor, stoch: Tensor, prepared: Tensor, out: Tensor) -> CellScan:
        """The cell unrolled over time, on ``[T, B, D]`` each but ``stoch``, which is ``[T, B, S]``."""
        layers = BlockGRULayers(self.deter_in, self.stoch_in, self.first, self.norms[0], self.gates)
        return BlockGRUScan(layers, deter, stoch, prepared, out)

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """One step: ``[*B, deter]``, flat ``[*B, S]`` and ``[*B, A]`` to the next ``[*B, deter]``."""
        shared = torch.cat([self.deter_in(deter), self.stoch_in(stoch), self._embed(action)], -1)
        return self._update(deter, shared, self.first.bias.view(self.blocks, 1, -1))

    def prepare(self, action: Tensor) -> Tensor:
        """The action's share of the first hidden layer, bias included: ``[*B, A]`` to ``[*B, deter]``."""
        embed, layer = self._embed(action), self.first
        rows = embed.reshape(-1, embed.shape[-1]).expand(self.blocks, -1, -1)
        share = torch.baddbmm(layer.bias.view(self.blocks, 1, -1), rows, layer.weight[:, -embed.shape[-1] :])
        return share.transpose(0, 1).reshape(*embed.shape[:-1], self.deter)

    def step(self, deter: Tensor, stoch: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]``, flat ``[*B, S]`` and ``[*B, deter]`` to the next ``[*B, deter]``."""
        shared = torch.cat([self.deter_in(deter), self.stoch_in(stoch)], -1)
        return self._update(deter, shared, self._by_block(prepared))

    def _embed(self, action: Tensor) -> Tensor:
        return self.action_in(action / action.detach().abs().clamp(min=1.0))

    def _by_block(self, x: Tensor) -> Tensor:
        """``[*B, n]`` seen as ``[G, B, n/G]``."""
        return x.reshape(-1, self.blocks, x.shape[-1] // self.blocks).transpose(0, 1)

    def _update(self, deter: Tensor, shared: Tensor, base: Tensor) -> Tensor:
        """The gated update, from what all blocks share ``[*B, n]`` and what is added to the first hidden layer."""
        own = self._by_block(deter)
        x = torch.cat([own, shared.reshape(-1, shared.shape[-1]).expand(self.blocks, -1, -1)], -1)
        weight = self.first.weight
        if x.shape[-1] < weight.shape[1]:
            weight = weight[:, : x.shape[-1]]
        x = torch.baddbmm(base, x, weight).transpose(0, 1).flatten(1)
        x = self.act(self.norms[0](x))
        for hidden, norm in zip(self.hidden[1:], self.norms[1:], strict=True):
            x = self.act(norm(hidden(x)))
        gates = torch.baddbmm(self.gates.bias.view(self.blocks, 1, -1), self._by_block(x), self.gates.weight)
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1.0)
        out = torch.lerp(own, candidate.to(own.dtype), update.to(own.dtype))  # the state keeps its precision
        return out.transpose(0, 1).reshape(deter.shape)
