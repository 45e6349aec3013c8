"""The observations of an environment, sorted by what reads them."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.codecs.keyed import KeyedModules
from wmcomponents.codecs.likelihood import Likelihood
from wmcomponents.codecs.observation import BoardCodec, ImageCodec, ObservationCodec, VectorCodec


class ObservationGroups(nn.Module):
    """Images, boards, and everything flat (numbers, bits, categories), each by its key.

    A network for images reads all of them stacked along their channels, one for vectors all that is flat side by side,
    and each board is read by itself. Every group keeps the order of the keys.

    Args:
        codecs: of each observation, by its key; those of :func:`codecs_from_spec` are sorted.

    Attributes:
        codecs: of each observation.
        keys: all of them.
        image_keys: keys of images.
        board_keys: keys of boards.
        spatial_shapes: (H, W, C) of each image and board.
        flat_sizes: features of all that is neither, by its key.
        vector_sizes: those of numbers alone.
        image_channels: channels of each image.

    Example:
        >>> from torchrl.data import Binary, Bounded, Unbounded
        >>> images = {"left": Bounded(0, 255, (32, 32, 3), dtype=torch.uint8)}
        >>> groups = ObservationGroups.from_spec(Composite(pos=Unbounded(2), on=Binary(3), **images))
        >>> groups.image_keys, groups.flat_sizes, groups.vector_sizes
        (('left',), {'on': 3, 'pos': 2}, {'pos': 2})
    """

    def __init__(self, codecs: Mapping[str, ObservationCodec]) -> None:
        super().__init__()
        self.codecs = KeyedModules(codecs)
        self.keys = tuple(codecs)
        self.image_keys = tuple(key for key, codec in codecs.items() if isinstance(codec, ImageCodec))
        self.board_keys = tuple(key for key, codec in codecs.items() if isinstance(codec, BoardCodec))
        self.spatial_shapes = {
            key: codec.image_shape for key, codec in codecs.items() if isinstance(codec, ImageCodec | BoardCodec)
        }
        self.flat_sizes = {key: codec.size for key, codec in codecs.items() if key not in self.spatial_shapes}
        self.vector_sizes = {key: codec.size for key, codec in codecs.items() if isinstance(codec, VectorCodec)}
        self.image_channels = {key: codec.image_shape[2] for key, codec in self.images.items()}

    @classmethod
    def from_spec(cls, observation_spec: Composite) -> "ObservationGroups":
        """Those of one observation, in sorted key order.

        Args:
            observation_spec: of one observation, without batch dimensions.

        Raises:
            ValueError: if there is nothing to observe, or a key cannot be encoded.
        """
        return cls(codecs_from_spec(observation_spec))

    @property
    def flat_size(self) -> int:
        """Features of all that is flat."""
        return sum(self.flat_sizes.values())

    @property
    def vector_size(self) -> int:
        """How many numbers there are."""
        return sum(self.vector_sizes.values())

    @property
    def images(self) -> dict[str, ImageCodec]:
        """Codecs of the images."""
        return {key: cast(ImageCodec, self.codecs[key]) for key in self.image_keys}

    @property
    def boards(self) -> dict[str, BoardCodec]:
        """Codecs of the boards."""
        return {key: cast(BoardCodec, self.codecs[key]) for key in self.board_keys}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and summed channels of the images.

        Raises:
            ValueError: if their heights or widths differ.
        """
        return stacked_shape({key: codec.image_shape for key, codec in self.images.items()})

    def judge(self, vectors: Likelihood | None = None, images: Likelihood | None = None) -> None:
        """Put likelihoods in place of the codecs' own.

        Args:
            vectors: of numbers; theirs if not given.
            images: of images; theirs if not given.
        """
        for key in self.vector_sizes if vectors is not None else ():
            cast(VectorCodec, self.codecs[key]).likelihood = cast(Likelihood, vectors)
        for codec in self.images.values() if images is not None else ():
            codec.likelihood = cast(Likelihood, images)

    def encode(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features of each of ``{key: [*B, *shape]}``: ``[*B, size]``, ``[*B, H, W, C]`` of images and boards."""
        return {key: codec.encode(observation[key]) for key, codec in self.codecs.items()}

    def numbers(self, observation: Mapping[str, Tensor]) -> Tensor:
        """All numbers of ``{key: [*B, *shape]}`` side by side, ``[*B, vector_size]``.

        Raises:
            ValueError: if the environment shows no numbers.
        """
        if not self.vector_sizes:
            raise ValueError(f"No numeric vector among the observations {list(self.keys)}.")
        return torch.cat([self.codecs[key].encode(observation[key]) for key in self.vector_sizes], -1)

    def number_bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of :meth:`numbers`, ``[vector_size]`` each; infinite where there is none."""
        nothing_yet, sides = torch.empty(0), []
        for name, nothing in (("low", -math.inf), ("high", math.inf)):
            bounds = [
                torch.full((size,), nothing) if (bound := getattr(self.codecs[key], name)) is None else bound.flatten()
                for key, size in self.vector_sizes.items()
            ]
            sides.append(torch.cat([nothing_yet, *(bound.to(nothing_yet) for bound in bounds)]))
        return sides[0], sides[1]

    def flat(self, observation: Mapping[str, Tensor], transform: Callable[[Tensor], Tensor]) -> Tensor:
        """Numbers, bits and one-hot vectors of ``{key: [*B, *shape]}`` side by side, ``[*B, flat_size]``.

        Args:
            observation: the environment's, by key.
            transform: of all numbers together, ``[*B, vector_size]``; bits and categories stay as they are.
        """
        parts = {key: self.codecs[key].encode(observation[key]) for key in self.flat_sizes}
        if len(self.vector_sizes) == len(parts):
            return transform(torch.cat(list(parts.values()), -1))
        return torch.cat(list((parts | self.over_numbers(transform, parts)).values()), -1)

    def levels(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The images of ``{key: [*B, *shape]}`` stacked along their channels, from 0 to 255, ``[*B, H, W, C]``."""
        images = [codec.levels(observation[key]) for key, codec in self.images.items()]
        return images[0] if len(images) == 1 else torch.cat(images, -1)

    def over_numbers(self, function: Callable[[Tensor], Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A map over all numbers together, of numbers that come key by key.

        Args:
            function: ``[*B, vector_size]`` to the same shape.
            tensors: ``{key: [*B, size]}``, those of numbers among them.

        Returns:
            ``{key: [*B, size]}`` for the keys of numbers; empty if there are none.
        """
        if not self.vector_sizes:
            return {}
        joined = function(torch.cat([tensors[key] for key in self.vector_sizes], -1))
        return dict(zip(self.vector_sizes, joined.split(list(self.vector_sizes.values()), -1), strict=True))


def stacked_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int]:
    """Height, width and summed channels of images and boards (H, W, C) that are stacked along their channels.

    Raises:
        ValueError: if their heights or widths differ.
    """
    sizes = {key: shape[:2] for key, shape in shapes.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"Images that are observed together need one size; got {sizes}. Resize them to one.")
    height, width = next(iter(sizes.values()))
    return height, width, sum(shape[2] for shape in shapes.values())
