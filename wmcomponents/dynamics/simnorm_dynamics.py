"""TD-MPC2's latent dynamics."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.nn.layers.simnorm import NormedMLP, SimNorm


class SimNormDynamics(Component):
    """The next latent from latent and action: an MLP that ends in simplices. Deterministic.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "state_action" | [*B, in_features] | float: latent, task embedding if any, action vector | read |
        | "latent" | [*B, latent] | float, groups that sum to 1 | written |

    Args:
        in_features: size of the input.
        latent: size of the latent.
        units: width of the two hidden layers.
        group: size of a simplex.
        in_keys: the input.
        out_keys: the next latent.

    Raises:
        ValueError: if the latent is no multiple of the group.

    Reference: Hansen et al., TD-MPC2 (2024), eq. 1 and 5.

    Example:
        >>> import torch
        >>> SimNormDynamics(18, latent=16, units=8)(state_action=torch.randn(5, 18)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        in_features: int,
        latent: int = 512,
        units: int = 512,
        group: int = 8,
        in_keys: Sequence[NestedKey] = ("state_action",),
        out_keys: Sequence[NestedKey] = ("latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if latent % group:
            raise ValueError(f"latent ({latent}) must be a multiple of group ({group}), the size of a simplex.")
        self.mlp = NormedMLP(in_features, units, units, latent, act=SimNorm(group))

    def compute(self, x: Tensor) -> Tensor:
        """``[*B, in_features]`` to ``[*B, latent]``."""
        return self.mlp(x)
