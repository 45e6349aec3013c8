"""The model's states of a tree's nodes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from wmcomponents.world_model import State


class NodeStates:
    """States ``[B, ...]`` of up to N nodes for each of B roots.

    What a dream leaves empty, such as the past frames of a model that filters by frames, comes as one number without
    strides. It is kept as that number beside the root's own, and not N times.

    Args:
        root: the roots' states, ``[B, ...]``.
        nodes: room for so many.
    """

    def __init__(self, root: Mapping[str, Tensor], nodes: int) -> None:
        self.nodes = nodes
        self.roots: State = {key: value.clone() for key, value in root.items()}
        self.tables: State = {}
        self.constants: State = {}

    def write(self, place: Tensor, state: State) -> None:
        """Keep states ``[B, ...]`` of nodes other than the root.

        Args:
            place: where each lies in a table of all nodes, ``[B]``.
            state: every key of the roots' states.
        """
        for key, value in state.items():
            if key not in self.tables:
                if is_one_number(value):
                    self.constants[key] = value.as_strided((1,), (1,)).reshape(())
                    continue
                self._make_room(key, value)
            self.tables[key].index_copy_(0, place, value.to(self.tables[key].dtype))

    def read(self, place: Tensor) -> State:
        """States ``[B, ...]``, in memory of their own; arguments as :meth:`write`."""
        found = {}
        for key, root in self.roots.items():
            if key in self.tables:
                found[key] = self.tables[key].index_select(0, place)
            elif key in self.constants:
                is_root = (place % self.nodes == 0).reshape(-1, *(1,) * (root.ndim - 1))
                found[key] = torch.where(is_root, root, self.constants[key])
            else:
                found[key] = root.clone()
        return found

    def moved(self, source: Tensor, is_used: Tensor) -> "NodeStates":
        """The states of other nodes: node j is this one's ``source[:, j]``, both ``[B, N']``."""
        batch, nodes = source.shape
        rows = torch.arange(batch, device=source.device) * self.nodes
        kept = NodeStates(self.read(rows + source[:, 0]), nodes)
        kept.constants = dict(self.constants)
        flat = (rows.unsqueeze(1) + source).flatten()
        kept.tables = {key: table.index_select(0, flat) for key, table in self.tables.items()}
        return kept

    def set_root(self, state: Mapping[str, Tensor]) -> None:
        """Put other states ``[B, ...]`` at the roots."""
        for key, value in state.items():
            self.roots[key] = value.clone()
            if key in self.tables:
                self.tables[key].view(-1, self.nodes, *value.shape[1:])[:, 0] = value

    def _make_room(self, key: str, like: Tensor) -> None:
        root = self.roots[key]
        table = root.new_zeros(root.shape[0] * self.nodes, *root.shape[1:])
        if key in self.constants:
            table += self.constants.pop(key)
        table.view(-1, self.nodes, *root.shape[1:])[:, 0] = root
        self.tables[key] = table


def is_one_number(value: Tensor) -> bool:
    """Whether a tensor of many numbers is one number, repeated without memory of its own."""
    return value.numel() > 1 and not any(value.stride())
