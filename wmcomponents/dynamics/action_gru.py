"""A recurrent unit whose state is the latent and whose input is the action."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component


class ActionGRU(Component):
    """The next latent as the next state of a gated recurrent unit that reads the action. Deterministic.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, latent] | float | read |
        | "action" | [*B, action] | float: the action vector | read |
        | "next_latent" | [*B, latent] | float | written |

    Args:
        latent: size of the latent.
        action: size of the action vector.
        in_keys: latent and action.
        out_keys: the next latent.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026),
    the action-conditioned example.

    Example:
        >>> ActionGRU(8, 2)(latent=torch.zeros(5, 8), action=torch.zeros(5, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        latent: int,
        action: int,
        in_keys: Sequence[NestedKey] = ("latent", "action"),
        out_keys: Sequence[NestedKey] = ("next_latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.unit = nn.GRUCell(action, latent)

    def compute(self, latent: Tensor, action: Tensor) -> Tensor:
        """``[*B, latent]`` and ``[*B, action]`` to ``[*B, latent]``."""
        lead = torch.broadcast_shapes(latent.shape[:-1], action.shape[:-1])
        flat = [x.expand(*lead, x.shape[-1]).reshape(-1, x.shape[-1]) for x in (action, latent)]
        return self.unit(*flat).reshape(*lead, latent.shape[-1])


class ResidualPredictor(Component):
    """The next latent as the latent and a change that a perceptron reads off latent and action. Deterministic.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, latent] | float | read |
        | "action" | [*B, action] | float: the action vector | read |
        | "next_latent" | [*B, latent] | float | written |

    Args:
        latent: size of the latent.
        action: size of the action vector.
        units: width of the two hidden layers.
        in_keys: latent and action.
        out_keys: the next latent.

    Example:
        >>> ResidualPredictor(8, 2, units=16)(latent=torch.zeros(5, 8), action=torch.zeros(5, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        latent: int,
        action: int,
        units: int = 512,
        in_keys: Sequence[NestedKey] = ("latent", "action"),
        out_keys: Sequence[NestedKey] = ("next_latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.net = nn.Sequential(
            nn.Linear(latent + action, units), nn.LayerNorm(units), nn.Mish(),
            nn.Linear(units, units), nn.LayerNorm(units), nn.Mish(), nn.Linear(units, latent),
        )  # fmt: skip

    def compute(self, latent: Tensor, action: Tensor) -> Tensor:
        """``[*B, latent]`` and ``[*B, action]`` to ``[*B, latent]``."""
        return latent + self.net(torch.cat([latent, action], -1))
