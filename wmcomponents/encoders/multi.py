"""Encoder of whatever an environment shows."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import torch
from tensordict import NestedKey
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs import IdentityTransform, KeyedModules, ObservationGroups, Symlog, Transform
from wmcomponents.component import Component
from wmcomponents.encoders.board import BoardEncoder
from wmcomponents.encoders.conv import ConvEncoder
from wmcomponents.encoders.mlp import MLPEncoder
from wmcomponents.nn import Norm, PoolStage, Stage, ValidStage
from wmcomponents.nn.layers.activation import Activation


class EncoderPart(Protocol):
    """What encodes one kind of observation: an :class:`MLPEncoder`, a :class:`ConvEncoder`, or one of your own."""

    out_features: int

    def compute(self, observation: Tensor, /) -> Tensor:
        """``[*B, *shape]`` to ``[*B, out_features]``."""
        ...


class MultiEncoder(Component):
    """Every observation of an environment in one embedding, built from its TorchRL spec.

    Numbers pass through ``transform``, categories become one-hot vectors, and all of them are concatenated in sorted
    key order for one vector encoder. Images, in any layout (``codecs.image_layout``), are stacked along
    their channels for one image encoder. Each small board has an encoder of its own. The embedding is [vectors,
    images, boards].

    The encoder of each kind is a part: whatever makes one from a size or shape, such as a class with some of its
    arguments given, ``partial(ConvEncoder, depth=16)``. :meth:`dreamer_v3` and :meth:`planet` are the papers' choices.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | each observation key, sorted | [*B, *its shape] | its dtype | read |
        | "embed" | [*B, out_features] | float | written |

    Args:
        observation_spec: of one observation, without batch dimensions.
        vectors: from the number of features to their encoder.
        images: from (H, W, C) to the encoder of images.
        boards: from (H, W, C) to the encoder of a small board.
        transform: over the concatenated numbers: ``Symlog()``, or a fitted ``Standardize(vector_size)``; as they are by
            default. Give the decoder the same one.
        in_keys: where each observation is found, in the order of the sorted spec keys; default: those keys.
        out_keys: the embedding.

    Raises:
        ValueError: for a spec that cannot be encoded, naming the key.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from torchrl.data import Categorical, Composite, Unbounded
        >>> spec = Composite(mode=Categorical(3), pos=Unbounded(4))
        >>> encoder = MultiEncoder(spec, vectors=partial(MLPEncoder, units=64))
        >>> encoder.in_keys, encoder(mode=torch.tensor(2), pos=torch.zeros(4)).shape
        (['mode', 'pos'], torch.Size([64]))
    """

    def __init__(
        self,
        observation_spec: Composite,
        vectors: Callable[[int], EncoderPart] = MLPEncoder,
        images: Callable[[tuple[int, int, int]], EncoderPart] = ConvEncoder,
        boards: Callable[[tuple[int, ...]], EncoderPart] = BoardEncoder,
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        groups = ObservationGroups.from_spec(observation_spec)
        super().__init__(groups.keys if in_keys is None else in_keys, out_keys)
        if len(self.in_keys) != len(groups.keys):
            raise ValueError(f"Need one in_key for each of {list(groups.keys)}; got {self.in_keys}.")
        self.groups = groups
        self.transform = IdentityTransform() if transform is None else transform
        self.mlp = vectors(groups.flat_size) if groups.flat_sizes else None
        self.conv = images(groups.image_shape) if groups.image_keys else None
        built = {key: cast(nn.Module, boards(codec.shape)) for key, codec in groups.boards.items()}
        self.planes: Any = KeyedModules(built)
        parts = [self.mlp, self.conv, *(encoder for _, encoder in self.planes.items())]
        self.out_features = sum(part.out_features for part in parts if part is not None)

    @classmethod
    def dreamer_v3(
        cls,
        observation_spec: Composite,
        units: int = 1024,
        layers: int = 3,
        depth: int = 64,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        stage: type[Stage] = PoolStage,
        norm: Norm = "rms",
        act: Activation = "silu",
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> "MultiEncoder":
        """DreamerV3's: max-pooling stages for images, symlog for numbers.

        Args:
            observation_spec: of one observation, without batch dimensions.
            units: width of the vector encoder and of a board's embedding.
            layers: layers of the vector encoder.
            depth: channels of the image encoder's stages are ``depth * mult``.
            mults: one factor for each stage of the image encoder.
            kernel: kernel size of the image encoder.
            stage: what halves an image; ``StrideStage`` for the official option ``strided``.
            norm: normalisation.
            act: activation.
            transform: over the concatenated numbers; ``Symlog()`` if not given.
            in_keys: where each observation is found.
            out_keys: the embedding.

        Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3.
        """
        return cls(
            observation_spec,
            vectors=partial(MLPEncoder, units=units, layers=layers, norm=norm, act=act),
            images=partial(ConvEncoder, depth=depth, mults=mults, kernel=kernel, stage=stage, norm=norm, act=act),
            boards=partial(BoardEncoder, units=units, norm=norm, act=act),
            transform=Symlog() if transform is None else transform,
            in_keys=in_keys,
            out_keys=out_keys,
        )

    @classmethod
    def planet(
        cls,
        observation_spec: Composite,
        units: int = 400,
        layers: int = 4,
        depth: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        norm: Norm = "none",
        act: Activation = "relu",
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> "MultiEncoder":
        """That of PlaNet, Dreamer and DreamerV2: unpadded convolutions for images, numbers as they are.

        PlaNet and Dreamer take images only; vectors are as in DreamerV2.

        Args:
            observation_spec: of one observation, without batch dimensions.
            units: width of the vector encoder and of a board's embedding.
            layers: layers of the vector encoder.
            depth: channels of the image encoder's stages are ``depth * mult``: 32, in DreamerV2 48.
            mults: one factor for each stage of the image encoder.
            norm: normalisation: none, on Crafter that of layers in DreamerV2.
            act: activation: ReLU, in DreamerV2 ELU.
            transform: over the concatenated numbers; as they are if not given.
            in_keys: where each observation is found.
            out_keys: the embedding.

        Reference: Hafner et al., PlaNet (2019), appendix A; Mastering Atari with Discrete World Models (2021),
        appendix D.
        """
        return cls(
            observation_spec,
            vectors=partial(MLPEncoder, units=units, layers=layers, norm=norm, act=act),
            images=partial(ConvEncoder, depth=depth, mults=mults, kernel=4, stage=ValidStage, norm=norm, act=act),
            boards=partial(BoardEncoder, units=units, norm=norm, act=act),
            transform=transform,
            in_keys=in_keys,
            out_keys=out_keys,
        )

    def prepare(self, observation: Mapping[str, Tensor]) -> None:
        """Let the transform of numbers estimate what it estimates from data, once.

        Args:
            observation: real ones, ``[*B, *shape]`` by key.
        """
        if self.groups.vector_sizes:
            self.transform.prepare(self.groups.numbers(observation))

    def embed(self, observation: Mapping[str, Tensor]) -> Tensor:
        """``{key: [*B, *shape]}``, by the keys of the spec, to ``[*B, out_features]``."""
        parts, groups = [], self.groups
        if self.mlp is not None:
            parts.append(self.mlp.compute(groups.flat(observation, self.transform)))
        if self.conv is not None:
            parts.append(self.conv.compute(groups.levels(observation)))
        for key, encoder in self.planes.items():
            parts.append(encoder.compute(groups.codecs[key].encode(observation[key])))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def compute(self, *observations: Tensor) -> Tensor:
        """Observations in the order of the sorted spec keys to ``[*B, out_features]``."""
        return self.embed(dict(zip(self.groups.keys, observations, strict=True)))
