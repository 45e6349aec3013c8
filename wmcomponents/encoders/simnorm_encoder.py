"""TD-MPC2's encoders: vectors and images as points of simplices."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from tensordict import NestedKey
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs import Transform
from wmcomponents.component import Component
from wmcomponents.encoders.board import BoardEncoder
from wmcomponents.encoders.multi import MultiEncoder
from wmcomponents.nn import NormedMLP, SimNorm

KERNELS, STRIDES = (7, 5, 3, 3), (2, 2, 2, 1)


class ShallowConvEncoder(Component):
    """TD-MPC2's image encoder: four convolutions without padding, flattened; no linear layer, no normalisation.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, out_features] | float: [channels, h, w], flattened | written |

    Args:
        shape: (H, W, C); the paper stacks three colour frames, C = 9.
        channels: of every convolution.
        in_keys: the image.
        out_keys: the features.

    Raises:
        ValueError: if the image is too small for the convolutions.

    Reference: Hansen et al., TD-MPC2 (2024), appendix on the architecture.

    Example:
        >>> import torch
        >>> ShallowConvEncoder((64, 64, 9))(pixels=torch.zeros(5, 64, 64, 9, dtype=torch.uint8)).shape
        torch.Size([5, 512])
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int = 32,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, image_channels = shape
        self.shape = (height, width, image_channels)
        sides = [height, width]
        for kernel, stride in zip(KERNELS, STRIDES, strict=True):
            sides = [(side - kernel) // stride + 1 for side in sides]
        if min(sides) < 1:
            raise ValueError(
                f"an image of {height}x{width} is too small for TD-MPC2's convolutions; resize it to 64x64, as in the "
                f"paper."
            )
        inputs = (image_channels, channels, channels, channels)
        self.conv = nn.ModuleList(
            nn.Conv2d(i, channels, kernel, stride) for i, kernel, stride in zip(inputs, KERNELS, STRIDES, strict=True)
        )
        self.out_features = channels * sides[0] * sides[1]

    def compute(self, images: Tensor) -> Tensor:
        """``[*B, H, W, C]`` in 0..255 to ``[*B, out_features]``."""
        x = images.reshape(-1, *self.shape).permute(0, 3, 1, 2)
        x = x.to(cast(nn.Conv2d, self.conv[0]).weight.dtype) / 255.0 - 0.5
        for i, conv in enumerate(self.conv):
            x = conv(x if i == 0 else x.relu())
        return x.reshape(*images.shape[:-3], -1)


class IdentityEncoder(nn.Module):
    """The encoder that does nothing.

    Args:
        size: of the vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.out_features = size

    def compute(self, vector: Tensor) -> Tensor:
        """``[*B, size]``, as it came."""
        return vector


class SimNormEncoder(MultiEncoder):
    """Every observation of an environment as one latent whose groups are points of simplices.

    As in the paper: a vector passes through a :class:`NormedMLP`; an image through a :class:`ShallowConvEncoder`,
    whose flattened output is normalised as it is. Ours: boards (MinAtar) pass through a :class:`BoardEncoder`; and
    where there are several observations, or a board, what was read from them is concatenated for the MLP.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | each observation key, sorted | [*B, *its shape] | its dtype | read |
        | "latent" | [*B, latent] | float, groups that sum to 1 | written |

    Args:
        observation_spec: of one observation, without batch dimensions.
        latent: size of the latent; for an image alone it is given by the image, 512 for 64x64 and 32 channels.
        units: width of the hidden layers.
        layers: layers of the MLP, the last one included; at least 2.
        channels: of the image encoder.
        group: size of a simplex.
        context: size of a vector (a task's) that :meth:`encode` takes beside the observation; 0 for none.
        transform: of the numbers; as they are if not given, as in the paper.
        in_keys: where each observation is found, in the order of the sorted spec keys; default: those keys.
        out_keys: the latent.

    Raises:
        ValueError: for a spec that cannot be encoded, or a latent of another size than the parts give.

    Reference: Hansen et al., TD-MPC2 (2024), eq. 1 and 5.

    Example:
        >>> import torch
        >>> from torchrl.data import Composite, Unbounded
        >>> SimNormEncoder(Composite(observation=Unbounded(4)), latent=16)(observation=torch.zeros(5, 4)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        observation_spec: Composite,
        latent: int = 512,
        units: int = 256,
        layers: int = 2,
        channels: int = 32,
        group: int = 8,
        context: int = 0,
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] = ("latent",),
    ) -> None:
        super().__init__(
            observation_spec,
            vectors=IdentityEncoder,
            images=partial(ShallowConvEncoder, channels=channels),
            boards=partial(BoardEncoder, units=units, norm="layer"),
            transform=transform,
            in_keys=in_keys,
            out_keys=out_keys,
        )
        if latent % group:
            raise ValueError(f"latent ({latent}) must be a multiple of group ({group}), the size of a simplex.")
        size = self.out_features + context
        if self.conv is None or self.conv.out_features != size:
            self.head = NormedMLP(size, *[units] * max(layers - 1, 1), latent, act=SimNorm(group))
        elif size == latent:
            self.head = SimNorm(group)
        else:
            raise ValueError(
                f"this image and {channels} channels give a latent of {size}; got latent={latent}. TD-MPC2 has no "
                f"linear layer after its image encoder: set latent to {size}."
            )
        self.out_features = latent

    def encode(self, observation: Mapping[str, Tensor], context: Tensor | None = None) -> Tensor:
        """``{key: [*B, *shape]}``, by the keys of the spec, to ``[*B, latent]``.

        Args:
            observation: by the keys of the spec.
            context: ``[*B, context]``.
        """
        read = self.embed(observation)
        return self.head(read if context is None else torch.cat([read, context], -1))

    def compute(self, *observations: Tensor) -> Tensor:
        """Observations in the order of the sorted spec keys to ``[*B, latent]``."""
        return self.encode(dict(zip(self.groups.keys, observations, strict=True)))
