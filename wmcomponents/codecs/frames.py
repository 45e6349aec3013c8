"""Everything that an environment shows, as one frame: channels first."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs.keyed import KeyedModules
from wmcomponents.codecs.normalize import Identity, Standardize
from wmcomponents.codecs.observation import (
    BoardCodec,
    ImageCodec,
    VectorCodec,
    codecs_from_spec,
    flat_features,
)


class Frames(nn.Module):
    """One frame ``[*B, C, *space]`` of all observations.

    Images and boards are stacked along their channels; numbers and categories beside them become constant planes.
    Where there are only numbers and categories, the frame is one row ``[1, F]``, in sorted key order.

    Args:
        observation_spec: of one observation, without batch dims.
        standardize: whether numbers are brought to zero mean and unit variance, fitted to data; else they stay.

    Attributes:
        shape: of one frame, (C, *space).
        dtype: of a frame that is kept: uint8 for images of bytes alone, whose floats are made by :meth:`floats`; else
            float32.
        is_image: whether there are images among the observations.

    Raises:
        ValueError: if an observation cannot be encoded, or images and boards differ in size.
    """

    def __init__(self, observation_spec: Composite, standardize: bool = False) -> None:
        super().__init__()
        described = codecs_from_spec(observation_spec)
        self.observations = KeyedModules(described)
        spatial = {k: o for k, o in described.items() if isinstance(o, ImageCodec | BoardCodec)}
        self.spatial_keys = tuple(spatial)
        self.vector_keys = tuple(k for k, o in described.items() if isinstance(o, VectorCodec))
        self.flat_keys = tuple(k for k in described if k not in spatial)
        numbers = sum(described[k].size for k in self.vector_keys)
        self.transform = Standardize(numbers) if standardize and numbers else Identity()
        features = sum(described[k].size for k in self.flat_keys)
        self.is_image = any(isinstance(o, ImageCodec) for o in spatial.values())
        self.space: tuple[int, ...] = (features,)
        channels = 1
        if spatial:
            shapes = {k: o.image_shape if isinstance(o, ImageCodec) else o.shape for k, o in spatial.items()}
            sizes = {k: shape[:2] for k, shape in shapes.items()}
            if len(set(sizes.values())) > 1:
                raise ValueError(f"images and boards that are seen together need one size; got {sizes}.")
            self.space = next(iter(sizes.values()))
            channels = sum(shape[2] for shape in shapes.values()) + features
        self.shape = (channels, *self.space)
        images = [o for o in described.values() if isinstance(o, ImageCodec) and o.dtype == torch.uint8]
        self.dtype = torch.uint8 if len(images) == len(described) else torch.float32

    def vectors(self, observation: Mapping[str, Tensor]) -> Tensor:
        """All numbers as the environment shows them, ``[*B, numbers]``."""
        return torch.cat([self.observations[key].encode(observation[key]) for key in self.vector_keys], -1)

    def prepare(self, observation: Mapping[str, Tensor]) -> None:
        """Let the transform of numbers estimate what it estimates from data, once."""
        if self.vector_keys:
            self.transform.prepare(self.vectors(observation))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Observations, by key, to a frame ``[*B, C, *space]`` of :attr:`dtype`."""
        if self.dtype == torch.uint8:
            shown = cast("Mapping[str, ImageCodec]", self.observations)
            images = [shown[key].levels(observation[key]) for key in self.spatial_keys]
            return torch.cat([image.movedim(-1, -3) for image in images], -3)
        parts = [self.observations[key].encode(observation[key]).movedim(-1, -3) for key in self.spatial_keys]
        if not self.flat_keys:
            return torch.cat(parts, -3)
        flat = flat_features(observation, self.observations, self.flat_keys, self.transform)
        if not parts:
            return flat.unsqueeze(-2)
        return torch.cat([*parts, flat[..., None, None].expand(*flat.shape, *self.space)], -3)

    def floats(self, frame: Tensor) -> Tensor:
        """A kept frame as a network reads it: images in [0, 1]."""
        return frame.to(torch.float32) / 255.0 if self.dtype == torch.uint8 else frame
