"""Decoder of whatever an environment shows."""

from collections.abc import Callable, Mapping, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Composite

from wmcomponents.component import Component
from wmcomponents.decoders.conv import ConvDecoder
from wmcomponents.decoders.mlp import MLPDecoder
from wmcomponents.decoders.planes import PlanesDecoder
from wmcomponents.nn import (
    ImageObservation,
    KeyedModules,
    Norm,
    PlanesObservation,
    Symlog,
    Transform,
    VectorObservation,
    describe_observations,
)
from wmcomponents.nn.activation import Activation
from wmcomponents.nn.observation import common_image_shape


class MultiDecoder(Component):
    """Every observation of an environment back from the latent state, built from its TorchRL spec.

    The counterpart of ``MultiEncoder``. Raw outputs are what the losses compare: transformed numbers for vectors,
    logits for categories, bits and boards, pictures before the sigmoid. :meth:`mean` turns them into observations of
    the environment's own space.

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
        units: width of the vector and board decoders, and half that of the image decoder's hidden layer.
        layers: layers of the vector decoder.
        depth: channels of the image decoder's stages are ``depth * mult``.
        mults: one factor for each stage of the image decoder.
        kernel: kernel size of the image decoder.
        blocks: blocks of the image decoder's first layer.
        norm: normalisation.
        act: activation.
        outscale: factor on the initial weight of the output layers of vectors and pictures.
        transform: over the concatenated numbers; give it the encoder's. Default ``Symlog()``.
        in_keys: recurrent and stochastic part.
        out_keys: one for each observation key, sorted; default ``("raw", key)``.

    Raises:
        ValueError: for a spec that cannot be decoded, naming the key.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3 and eq. 4.

    Example:
        >>> import torch
        >>> from torchrl.data import Categorical, Composite, Unbounded
        >>> decoder = MultiDecoder(Composite(mode=Categorical(3), pos=Unbounded(4)), 8, (4, 3), units=16)
        >>> observation = decoder.mean(decoder.raw(torch.zeros(5, 8), torch.zeros(5, 4, 3)))
        >>> observation["mode"].dtype, observation["pos"].shape
        (torch.int64, torch.Size([5, 4]))
    """

    def __init__(
        self,
        observation_spec: Composite,
        deter: int,
        stoch_shape: Sequence[int],
        units: int = 1024,
        layers: int = 3,
        depth: int = 64,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        blocks: int = 8,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> None:
        observations = describe_observations(observation_spec)
        super().__init__(in_keys, [("raw", key) for key in observations] if out_keys is None else out_keys)
        if len(self.out_keys) != len(observations):
            raise ValueError(f"Need one out_key for each of {list(observations)}; got {self.out_keys}.")
        self.keys = tuple(observations)
        self.observations = KeyedModules(observations)
        self.transform = Symlog() if transform is None else transform
        images = {key: each for key, each in observations.items() if isinstance(each, ImageObservation)}
        boards = {key: each for key, each in observations.items() if isinstance(each, PlanesObservation)}
        flat = {key: each for key, each in observations.items() if key not in images and key not in boards}
        self.flat_sizes = {key: each.size for key, each in flat.items()}
        self.vector_sizes = {key: each.size for key, each in flat.items() if isinstance(each, VectorObservation)}
        self.image_channels = {key: each.shape[2] for key, each in images.items()}
        self.mlp = self.conv = None
        if flat:
            self.mlp = MLPDecoder(deter, stoch_shape, self.flat_sizes, units, layers, norm, act, outscale)
        if images:
            shape = common_image_shape(images)
            self.conv = ConvDecoder(deter, stoch_shape, shape, depth, mults, kernel, units, blocks, norm, act, outscale)
        self.planes = KeyedModules(
            {
                key: PlanesDecoder(deter, stoch_shape, each.shape, units=units, norm=norm, act=act)
                for key, each in boards.items()
            }
        )

    def raw(self, deter: Tensor, stoch: Tensor) -> dict[str, Tensor]:
        """Raw outputs by observation key: ``[*B, size]``, and ``[*B, H, W, C]`` for pictures and boards."""
        raw = {}
        if self.mlp is not None:
            raw.update(zip(self.flat_sizes, self.mlp.compute(deter, stoch), strict=True))
        if self.conv is not None:
            pictures = self.conv.compute(deter, stoch).split(list(self.image_channels.values()), -1)
            raw.update(zip(self.image_channels, pictures, strict=True))
        for key, decoder in self.planes.items():
            raw[key] = decoder.compute(deter, stoch)
        return {key: raw[key] for key in self.keys}

    def compute(self, deter: Tensor, stoch: Tensor) -> tuple[Tensor, ...]:
        """The values of :meth:`raw`, in the order of the sorted keys."""
        return tuple(self.raw(deter, stoch).values())

    def mean(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most likely observation, in the environment's space, shape and dtype: ``{key: [*B, *shape]}``.

        Numbers are transformed back and clamped to the bounds of the spec, pictures rounded to uint8, boards and bits
        thresholded (or rounded to their range), categories the most likely ones.
        """
        values = dict(raw) | self._over_vectors(self.transform.inverse, raw)
        return {key: each.decode(values[key]) for key, each in self.observations.items()}

    def loss(self, raw: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reconstruction error of each key, summed over the event: ``{key: [*B]}``.

        Squared error in transformed space for vectors and in [0, 1] for pictures, cross entropy for the others; no
        factor 1/2 anywhere.

        Args:
            raw: from :meth:`raw`.
            target: observations as the environment shows them.
        """
        truth = {key: each.encode(target[key]) for key, each in self.observations.items()}
        truth |= self._over_vectors(self.transform, truth)
        return {key: each.error(raw[key], truth[key]) for key, each in self.observations.items()}

    def _over_vectors(self, function: Callable[[Tensor], Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply a map over the concatenated numbers to numbers that come key by key."""
        if not self.vector_sizes:
            return {}
        joined = function(torch.cat([tensors[key] for key in self.vector_sizes], -1))
        return dict(zip(self.vector_sizes, joined.split(list(self.vector_sizes.values()), -1), strict=True))
