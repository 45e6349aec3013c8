"""A predictor of maps: convolutions over the embedding's map and planes of the action."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component


class ConvPredictor(Component):
    """The next map as the map and a change that convolutions read off it and the action. Deterministic.

    The action is the same at every place of the map, so that what happens at one place is told from what is near it.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, C * H * W] | float: a map, flat | read |
        | "action" | [*B, action] | float: the action vector | read |
        | "next_latent" | [*B, C * H * W] | float | written |

    Args:
        shape: (C, H, W) of the map.
        action: size of the action vector.
        units: channels between the convolutions.
        layers: convolutions of 3x3 before the last one, all but the first with a skip.
        in_keys: latent and action.
        out_keys: the next latent.

    Raises:
        ValueError: if there is no layer.

    Reference: Sobal et al., Learning from Reward-Free Offline Data (PLDM, 2025), whose predictor in mazes is made of
    convolutions over map and action.

    Example:
        >>> ConvPredictor((4, 8, 8), 2, units=16)(latent=torch.zeros(5, 256), action=torch.zeros(5, 2)).shape
        torch.Size([5, 256])
    """

    def __init__(
        self,
        shape: Sequence[int],
        action: int,
        units: int = 32,
        layers: int = 3,
        in_keys: Sequence[NestedKey] = ("latent", "action"),
        out_keys: Sequence[NestedKey] = ("next_latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if layers < 1:
            raise ValueError(f"layers is the number of convolutions before the last, at least 1; got {layers}.")
        channels, height, width = shape
        self.shape = (channels, height, width)
        self.first = nn.Conv2d(channels + action, units, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(units, units, 3, padding=1) for _ in range(layers - 1))
        self.last = nn.Conv2d(units, channels, 3, padding=1)

    def compute(self, latent: Tensor, action: Tensor) -> Tensor:
        """``[*B, C * H * W]`` and ``[*B, action]`` to ``[*B, C * H * W]``."""
        lead = torch.broadcast_shapes(latent.shape[:-1], action.shape[:-1])
        maps = latent.expand(*lead, latent.shape[-1]).reshape(-1, *self.shape)
        planes = action.expand(*lead, action.shape[-1]).reshape(len(maps), -1, 1, 1).expand(-1, -1, *self.shape[1:])
        x = self.first(torch.cat([maps, planes], 1)).relu()
        for convolution in self.middle:
            x = x + convolution(x).relu()
        return (maps + self.last(x)).reshape(*lead, latent.shape[-1])
