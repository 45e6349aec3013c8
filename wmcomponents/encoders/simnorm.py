"""TD-MPC2's encoders: vectors and pictures as points of simplices."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from tensordict import NestedKey
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.component import Component
from wmcomponents.encoders.planes import PlanesEncoder
from wmcomponents.functional.image_shift import shifted_images
from wmcomponents.nn import (
    ImageObservation,
    KeyedModules,
    PlanesObservation,
    Transform,
    VectorObservation,
    describe_observations,
)
from wmcomponents.nn.observation import common_image_shape
from wmcomponents.nn.simnorm import NormedMLP, SimNorm

KERNELS, STRIDES = (7, 5, 3, 3), (2, 2, 2, 1)
PAD = 3


class ShiftConvEncoder(Component):
    """TD-MPC2's image encoder: four convolutions without padding, flattened; no linear layer, no normalisation.

    In training the picture is moved by up to three pixels first; by how many comes from outside (:meth:`draw_shift`).

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, out_features] | float: [channels, h, w], flattened | written |

    Args:
        shape: (H, W, C); the paper stacks three colour frames, C = 9.
        channels: of every convolution.
        in_keys: the picture.
        out_keys: the features.

    Raises:
        ValueError: if the picture is too small for the convolutions.

    Reference: Hansen et al., TD-MPC2 (2024), appendix on the architecture.

    Example:
        >>> import torch
        >>> ShiftConvEncoder((64, 64, 9))(pixels=torch.zeros(5, 64, 64, 9, dtype=torch.uint8)).shape
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
        height, width, colours = shape
        self.shape = (height, width, colours)
        sides = [height, width]
        for kernel, stride in zip(KERNELS, STRIDES, strict=True):
            sides = [(side - kernel) // stride + 1 for side in sides]
        if min(sides) < 1:
            raise ValueError(
                f"a picture of {height}x{width} is too small for TD-MPC2's convolutions, which leave {sides}; resize "
                f"it to 64x64, as in the paper."
            )
        widths = (colours, *[channels] * len(KERNELS))
        self.conv = nn.ModuleList(
            nn.Conv2d(*pair, kernel, stride)
            for *pair, kernel, stride in zip(widths[:-1], widths[1:], KERNELS, STRIDES, strict=True)
        )
        self.out_features = channels * sides[0] * sides[1]

    def draw_shift(self, batch_size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Where pictures are moved to, for :meth:`embed`: int64 ``[*batch_size, 2]``, (x, y) in 0..6; 3 is nowhere."""
        return torch.randint(2 * PAD + 1, (*batch_size, 2), generator=generator, device=generator.device)

    def embed(self, images: Tensor, shift: Tensor | None = None) -> Tensor:
        """``[*B, H, W, C]`` to ``[*B, out_features]``.

        Args:
            images: in 0..255.
            shift: as :meth:`draw_shift` gives it, ``[*B, 2]``; none if not given.
        """
        lead = images.shape[:-3]
        x = images.reshape(-1, *self.shape).permute(0, 3, 1, 2)
        if shift is not None:
            x = shifted_images(x, shift.reshape(-1, 2), PAD)
        x = x.to(cast(nn.Conv2d, self.conv[0]).weight.dtype) / 255.0 - 0.5
        for i, conv in enumerate(self.conv):
            x = conv(x if i == 0 else x.relu())
        return x.reshape(*lead, -1)

    def compute(self, images: Tensor) -> Tensor:
        """``[*B, H, W, C]`` to ``[*B, out_features]``."""
        return self.embed(images)


class SimNormEncoder(Component):
    """Every observation of an environment as one latent whose groups are points of simplices.

    As in the paper: a vector passes through a :class:`NormedMLP`; a picture through a :class:`ShiftConvEncoder`, whose
    flattened output is normalised as it is. Ours: boards (MinAtar) pass through a :class:`PlanesEncoder`; and where
    there are several observations, or a board, what was read from them is concatenated, [numbers, categories and bits,
    pictures, boards], for the MLP.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | each observation key, sorted | [*B, *its shape] | its dtype | read |
        | "latent" | [*B, latent] | float, groups that sum to 1 | written |

    Args:
        observation_spec: of one observation, without batch dimensions.
        latent: size of the latent; for a picture alone it is given by the picture, 512 for 64x64 and 32 channels.
        units: width of the hidden layers.
        layers: layers of the MLP, the last one included; at least 2.
        channels: of the image encoder.
        group: size of a simplex.
        context: size of a vector (a task's) that :meth:`embed` takes beside the observation; 0 for none.
        transform: of the numbers; none if not given, as in the paper.
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
        observations = describe_observations(observation_spec)
        super().__init__(tuple(observations) if in_keys is None else in_keys, out_keys)
        if len(self.in_keys) != len(observations):
            raise ValueError(f"Need one in_key for each of {list(observations)}; got {self.in_keys}.")
        if latent % group:
            raise ValueError(f"latent ({latent}) must be a multiple of group ({group}), the size of a simplex.")
        self.keys = tuple(observations)
        self.observations = KeyedModules(observations)
        self.transform = transform
        images = {key: each for key, each in observations.items() if isinstance(each, ImageObservation)}
        boards = {key: each for key, each in observations.items() if isinstance(each, PlanesObservation)}
        self.image_keys = tuple(images)
        self.vector_sizes = {
            key: each.size for key, each in observations.items() if isinstance(each, VectorObservation)
        }
        read = {*images, *boards, *self.vector_sizes}
        self.symbol_keys = tuple(key for key in observations if key not in read)
        self.conv = ShiftConvEncoder(common_image_shape(images), channels) if images else None
        self.planes = KeyedModules(
            {key: PlanesEncoder(each.shape, units=units, norm="layer") for key, each in boards.items()}
        )
        embed = context + self.vector_size + sum(observations[key].size for key in self.symbol_keys)
        embed += sum(encoder.out_features for _, encoder in self.planes.items())
        self.mlp = self.norm = None
        if self.conv is not None and embed == 0:
            self.norm = SimNorm(group)
            if self.conv.out_features != latent:
                raise ValueError(
                    f"pictures of {self.conv.shape[0]}x{self.conv.shape[1]} with {channels} channels give a latent of "
                    f"{self.conv.out_features}; got latent={latent}. TD-MPC2 has no linear layer after its image "
                    f"encoder: set latent to that."
                )
        else:
            embed += 0 if self.conv is None else self.conv.out_features
            self.mlp = NormedMLP(embed, *[units] * max(layers - 1, 1), latent, act=SimNorm(group))

    @property
    def vector_size(self) -> int:
        """How many numbers :attr:`transform` sees."""
        return sum(self.vector_sizes.values())

    def vectors(self, observation: Mapping[str, Tensor]) -> Tensor:
        """All numbers, untransformed, concatenated in sorted key order: ``[*B, vector_size]``."""
        return torch.cat([self.observations[key].encode(observation[key]) for key in self.vector_sizes], -1)

    def draw_shift(self, batch_size: Sequence[int], generator: torch.Generator) -> Tensor | None:
        """See :meth:`ShiftConvEncoder.draw_shift`; ``None`` where there are no pictures."""
        return None if self.conv is None else self.conv.draw_shift(batch_size, generator)

    def embed(
        self, observation: Mapping[str, Tensor], context: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """``{key: [*B, *shape]}``, by the keys of the spec, to ``[*B, latent]``.

        Args:
            observation: by the keys of the spec.
            context: ``[*B, context]``.
            shift: of the pictures, ``[*B, 2]``; for training.
        """
        parts = []
        if self.vector_sizes:
            numbers = self.vectors(observation)
            parts.append(numbers if self.transform is None else self.transform(numbers))
        parts += [self.observations[key].encode(observation[key]) for key in self.symbol_keys]
        if self.conv is not None:
            parts.append(self.conv.embed(torch.cat([observation[key] for key in self.image_keys], -1), shift))
        parts += [
            encoder.compute(self.observations[key].encode(observation[key])) for key, encoder in self.planes.items()
        ]
        parts += [] if context is None else [context]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return self.norm(x) if self.mlp is None else self.mlp(x)

    def compute(self, *observations: Tensor) -> Tensor:
        """Observations in the order of the sorted spec keys to ``[*B, latent]``."""
        return self.embed(dict(zip(self.keys, observations, strict=True)))
