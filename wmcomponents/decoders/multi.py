"""Decoder of whatever an environment shows."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

from tensordict import NestedKey
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.codecs import (
    IdentityTransform,
    KeyedModules,
    Likelihood,
    ObservationGroups,
    Symlog,
    Transform,
    UnitNormal,
)
from wmcomponents.component import Component
from wmcomponents.decoders.board import BoardDecoder
from wmcomponents.decoders.conv import ConvDecoder
from wmcomponents.decoders.mlp import MLPDecoder
from wmcomponents.decoders.transposed import TransposedConvDecoder
from wmcomponents.nn import Doubling, Norm, UpsampleConv
from wmcomponents.nn.layers.activation import Activation


class DecoderPart(Protocol):
    """What decodes images: a :class:`ConvDecoder`, a :class:`TransposedConvDecoder`, or one of your own."""

    likelihood: Likelihood

    def compute(self, deter: Tensor, stoch: Tensor, /) -> Tensor:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to raw outputs ``[*B, H, W, C]``."""
        ...


class FlatDecoderPart(Protocol):
    """What decodes numbers and categories: an :class:`MLPDecoder`, or one of your own."""

    likelihood: Likelihood

    def compute(self, deter: Tensor, stoch: Tensor, /) -> tuple[Tensor, ...]:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to raw outputs ``[*B, size]`` for each key."""
        ...


class BoardDecoderPart(Protocol):
    """What decodes a small board: a :class:`BoardDecoder`, or one of your own."""

    def compute(self, deter: Tensor, stoch: Tensor, /) -> Tensor:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to logits ``[*B, H, W, C]``."""
        ...


class MultiDecoder(Component):
    """Every observation of an environment back from the latent state, built from its TorchRL spec.

    The counterpart of ``MultiEncoder``. Raw outputs are what the losses compare: transformed numbers for vectors,
    logits for categories, bits and boards, images as their decoder's likelihood reads them. :meth:`mean` turns them
    into observations of the environment's own space.

    The decoder of each kind is a part: whatever makes one from ``(deter, stoch_shape)`` and a size or shape, such as a
    class with some of its arguments given. How numbers and images are judged is the part's ``likelihood``.
    :meth:`dreamer_v3` and :meth:`planet` are the papers' choices.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, deter] | float | read |
        | "stoch" | [*B, *stoch_shape] | float | read |
        | ("raw", key) for each observation key, sorted | [*B, size], [*B, H, W, C] | float | written |

    Args:
        observation_spec: of one observation, without batch dimensions.
        deter: size of the recurrent part.
        stoch_shape: shape of the stochastic part.
        vectors: from the state's sizes and ``{key: features}`` to the decoder of numbers and categories.
        images: from the state's sizes and (H, W, C) to the decoder of images.
        boards: from the state's sizes and (H, W, C) to the decoder of a small board.
        transform: over the concatenated numbers; give it the encoder's. As they are by default.
        in_keys: recurrent and stochastic part.
        out_keys: one for each observation key, sorted; default ``("raw", key)``.

    Raises:
        ValueError: for a spec that cannot be decoded, naming the key.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from torchrl.data import Categorical, Composite, Unbounded
        >>> spec = Composite(mode=Categorical(3), pos=Unbounded(4))
        >>> decoder = MultiDecoder(spec, 8, (4, 3), vectors=partial(MLPDecoder, units=16))
        >>> observation = decoder.mean(decoder.raw(torch.zeros(5, 8), torch.zeros(5, 4, 3)))
        >>> observation["mode"].dtype, observation["pos"].shape
        (torch.int64, torch.Size([5, 4]))
    """

    def __init__(
        self,
        observation_spec: Composite,
        deter: int,
        stoch_shape: Sequence[int],
        vectors: Callable[[int, Sequence[int], Mapping[str, int]], FlatDecoderPart] = MLPDecoder,
        images: Callable[[int, Sequence[int], tuple[int, int, int]], DecoderPart] = ConvDecoder,
        boards: Callable[[int, Sequence[int], tuple[int, ...]], BoardDecoderPart] = BoardDecoder,
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> None:
        groups = ObservationGroups.from_spec(observation_spec)
        super().__init__(in_keys, [("raw", key) for key in groups.keys] if out_keys is None else out_keys)
        if len(self.out_keys) != len(groups.keys):
            raise ValueError(f"Need one out_key for each of {list(groups.keys)}; got {self.out_keys}.")
        self.groups = groups
        self.transform = IdentityTransform() if transform is None else transform
        self.mlp = vectors(deter, stoch_shape, groups.flat_sizes) if groups.flat_sizes else None
        self.conv = images(deter, stoch_shape, groups.image_shape) if groups.image_keys else None
        built = {key: cast(nn.Module, boards(deter, stoch_shape, codec.shape)) for key, codec in groups.boards.items()}
        self.planes: Any = KeyedModules(built)
        groups.judge(
            vectors=None if self.mlp is None else self.mlp.likelihood,
            images=None if self.conv is None else self.conv.likelihood,
        )

    @classmethod
    def dreamer_v3(
        cls,
        observation_spec: Composite,
        deter: int,
        stoch_shape: Sequence[int],
        units: int = 1024,
        layers: int = 3,
        depth: int = 64,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        stage: type[Doubling] = UpsampleConv,
        blocks: int = 8,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> "MultiDecoder":
        """DreamerV3's: nearest upsampling and a sigmoid for images, symlog for numbers, squared errors.

        Args:
            observation_spec: of one observation, without batch dimensions.
            deter: size of the recurrent part.
            stoch_shape: shape of the stochastic part.
            units: width of the vector and board decoders, and half that of the image decoder's hidden layer.
            layers: layers of the vector decoder.
            depth: channels of the image decoder's stages are ``depth * mult``.
            mults: one factor for each stage of the image decoder.
            kernel: kernel size of the image decoder.
            stage: what doubles a map; ``StridedDoubling`` for the official option ``strided``.
            blocks: blocks of the image decoder's first layer.
            norm: normalisation.
            act: activation.
            outscale: factor on the initial weight of the output layers of vectors and images.
            transform: over the concatenated numbers; give it the encoder's. ``Symlog()`` if not given.
            in_keys: recurrent and stochastic part.
            out_keys: one for each observation key, sorted.

        Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3 and eq. 4.
        """
        common = {"norm": norm, "act": act}
        scaled = {**common, "units": units, "outscale": outscale}
        return cls(
            observation_spec,
            deter,
            stoch_shape,
            vectors=partial(MLPDecoder, layers=layers, **scaled),
            images=partial(ConvDecoder, depth=depth, mults=mults, kernel=kernel, stage=stage, blocks=blocks, **scaled),
            boards=partial(BoardDecoder, units=units, **common),
            transform=Symlog() if transform is None else transform,
            in_keys=in_keys,
            out_keys=out_keys,
        )

    @classmethod
    def planet(
        cls,
        observation_spec: Composite,
        deter: int,
        stoch_shape: Sequence[int],
        units: int = 400,
        layers: int = 4,
        depth: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        norm: Norm = "none",
        act: Activation = "relu",
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> "MultiDecoder":
        """That of PlaNet, Dreamer and DreamerV2: transposed convolutions for images, unit normals everywhere.

        PlaNet and Dreamer show images only; vectors are as in DreamerV2.

        Args:
            observation_spec: of one observation, without batch dimensions.
            deter: size of the recurrent part.
            stoch_shape: shape of the stochastic part.
            units: width of the vector and board decoders.
            layers: layers of the vector decoder.
            depth: channels of the image decoder's stages are ``depth * mult``: 32, in DreamerV2 48.
            mults: one factor for each stage of the image decoder.
            norm: normalisation: none, on Crafter that of layers in DreamerV2.
            act: activation: ReLU, in DreamerV2 ELU.
            transform: over the concatenated numbers; give it the encoder's. As they are if not given.
            in_keys: recurrent and stochastic part.
            out_keys: one for each observation key, sorted.

        Reference: Hafner et al., PlaNet (2019), appendix A; Mastering Atari with Discrete World Models (2021),
        appendix D.
        """
        return cls(
            observation_spec,
            deter,
            stoch_shape,
            vectors=partial(MLPDecoder, units=units, layers=layers, norm=norm, act=act, likelihood=UnitNormal()),
            images=partial(TransposedConvDecoder, depth=depth, mults=mults, norm=norm, act=act),
            boards=partial(BoardDecoder, units=units, norm=norm, act=act),
            transform=transform,
            in_keys=in_keys,
            out_keys=out_keys,
        )

    def raw(self, deter: Tensor, stoch: Tensor) -> dict[str, Tensor]:
        """Raw outputs by observation key: ``[*B, size]``, and ``[*B, H, W, C]`` for images and boards."""
        raw, groups = {}, self.groups
        if self.mlp is not None:
            raw.update(zip(groups.flat_sizes, self.mlp.compute(deter, stoch), strict=True))
        if self.conv is not None:
            images = self.conv.compute(deter, stoch).split(list(groups.image_channels.values()), -1)
            raw.update(zip(groups.image_channels, images, strict=True))
        for key, decoder in self.planes.items():
            raw[key] = decoder.compute(deter, stoch)
        return {key: raw[key] for key in groups.keys}

    def compute(self, deter: Tensor, stoch: Tensor) -> tuple[Tensor, ...]:
        """The values of :meth:`raw`, ``[*B, size]`` and ``[*B, H, W, C]``, in the order of the sorted keys."""
        return tuple(self.raw(deter, stoch).values())

    def mean(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most likely observation, in the environment's space and dtype, ``[*B, *shape]`` by key.

        Numbers are transformed back and clamped to the bounds of the spec, images rounded to uint8, boards and bits
        thresholded (or rounded to their range), categories the most likely ones.
        """
        values = dict(raw) | self.groups.over_numbers(self.transform.inverse, raw)
        return {key: codec.decode(values[key]) for key, codec in self.groups.codecs.items()}

    def loss(self, raw: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reconstruction error of each key, summed over the event, ``[*B]``.

        For vectors, in transformed space, and for images, in [0, 1], what their part's likelihood says; cross entropy
        for the others.

        Args:
            raw: from :meth:`raw`.
            target: observations as the environment shows them, ``[*B, *shape]`` by key.
        """
        truth = self.groups.encode(target)
        truth |= self.groups.over_numbers(self.transform, truth)
        return {key: codec.error(raw[key], truth[key]) for key, codec in self.groups.codecs.items()}
