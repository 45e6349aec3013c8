"""Everything that an environment shows, as one frame: channels first."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs.normalize import IdentityTransform, Transform
from wmcomponents.codecs.observation import ImageCodec
from wmcomponents.codecs.observation_groups import ObservationGroups, stacked_shape


class Frames(nn.Module):
    """One frame ``[*B, C, *space]`` of all observations.

    Images and boards are stacked along their channels; numbers and categories beside them become constant planes.
    Where there are only numbers and categories, the frame is one row ``[1, F]``, in sorted key order.

    Args:
        observation_spec: of one observation, without batch dims.
        transform: of all numbers together, such as :class:`~wmcomponents.codecs.Standardize`; they stay as they are if
            not given.

    Attributes:
        shape: of one frame, (C, *space).
        dtype: of a frame that is kept: uint8 for images of bytes alone, whose floats are made by :meth:`floats`; else
            float32.
        is_image: whether there are images among the observations.

    Raises:
        ValueError: if an observation cannot be encoded, or images and boards differ in size.
    """

    def __init__(self, observation_spec: Composite, transform: Transform | None = None) -> None:
        super().__init__()
        self.groups = groups = ObservationGroups.from_spec(observation_spec)
        features = groups.flat_size
        self.transform = IdentityTransform() if transform is None else transform
        self.is_image = bool(groups.image_keys)
        self.space, channels = (features,), 1
        if groups.spatial_shapes:
            height, width, channels = stacked_shape(groups.spatial_shapes)
            self.space, channels = (height, width), channels + features
        self.shape = (channels, *self.space)
        is_bytes = all(isinstance(o, ImageCodec) and o.dtype == torch.uint8 for _, o in groups.codecs.items())
        self.dtype = torch.uint8 if is_bytes else torch.float32

    def prepare(self, observation: Mapping[str, Tensor]) -> None:
        """Let the transform of numbers estimate what it estimates from data, ``[*B, *shape]`` by key, once."""
        if self.groups.vector_sizes:
            self.transform.prepare(self.groups.numbers(observation))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Observations ``{key: [*B, *shape]}`` to a frame ``[*B, C, *space]`` of :attr:`dtype`."""
        groups = self.groups
        if self.dtype == torch.uint8:
            images = [codec.levels(observation[key]) for key, codec in groups.images.items()]
            return torch.cat([image.movedim(-1, -3) for image in images], -3)
        parts = [groups.codecs[key].encode(observation[key]).movedim(-1, -3) for key in groups.spatial_shapes]
        if not groups.flat_sizes:
            return torch.cat(parts, -3)
        flat = groups.flat(observation, self.transform)
        if not parts:
            return flat.unsqueeze(-2)
        return torch.cat([*parts, flat[..., None, None].expand(*flat.shape, *self.space)], -3)

    def floats(self, frame: Tensor) -> Tensor:
        """A kept frame ``[*B, C, *space]`` as a network reads it: images in [0, 1]."""
        return frame.to(torch.float32) / 255.0 if self.dtype == torch.uint8 else frame
