"""Decoder of whatever an environment shows."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn
from torchrl.data import Composite

from wmcomponents.component import Component
from wmcomponents.decoders.conv import ConvDecoder
from wmcomponents.decoders.mlp import MLPDecoder
from wmcomponents.decoders.planes import PlanesDecoder
from wmcomponents.functional import bernoulli_cross_entropy, categorical_cross_entropy, squared_error
from wmcomponents.nn import Norm, Symlog, describe_observations
from wmcomponents.nn.activation import Activation
from wmcomponents.nn.observation import common_image_shape


class MultiDecoder(Component):
    """Every observation of an environment back from the latent state, built from its TorchRL spec.

    The counterpart of ``MultiEncoder``. Raw outputs are what the losses compare: transformed numbers for vectors, logits
    for categories, bits and boards, pictures before the sigmoid. :meth:`mean` turns them into observations of the
    environment's own space.

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
        transform: the encoder's, with ``forward`` and ``inverse`` over the concatenated numbers.
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
        transform: nn.Module | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> None:
        observations = describe_observations(observation_spec)
        super().__init__(in_keys, [("raw", key) for key in observations] if out_keys is None else out_keys)
        if len(self.out_keys) != len(observations):
            raise ValueError(f"Need one out_key for each of {list(observations)}; got {self.out_keys}.")
        self.keys = tuple(observations)
        self.observations = nn.ModuleDict(observations)
        kinds = {key: observation.kind for key, observation in observations.items()}
        self.vector_keys = [key for key, kind in kinds.items() if kind == "vector"]
        self.flat_keys = [key for key, kind in kinds.items() if kind in ("vector", "binary", "discrete")]
        self.image_keys = [key for key, kind in kinds.items() if kind == "image"]
        self.planes_keys = [key for key, kind in kinds.items() if kind == "planes"]
        self.transform = Symlog() if transform is None else transform
        self.mlp = self.conv = None
        if self.flat_keys:
            sizes = {key: observations[key].size for key in self.flat_keys}
            self.mlp = MLPDecoder(deter, stoch_shape, sizes, units, layers, norm, act, outscale)
        if self.image_keys:
            shape = common_image_shape({key: observations[key] for key in self.image_keys})
            self.conv = ConvDecoder(
                deter, stoch_shape, shape, depth, mults, kernel, units, blocks, norm, act, outscale
            )
        self.planes = nn.ModuleDict(
            {
                key: PlanesDecoder(deter, stoch_shape, observations[key].shape, units=units, norm=norm, act=act)
                for key in self.planes_keys
            }
        )

    def raw(self, deter: Tensor, stoch: Tensor) -> dict[str, Tensor]:
        """Raw outputs by observation key: ``[*B, size]``, and ``[*B, H, W, C]`` for pictures and boards."""
        raw = {}
        if self.mlp is not None:
            raw.update(zip(self.flat_keys, self.mlp.compute(deter, stoch), strict=True))
        if self.conv is not None:
            channels = [self.observations[key].shape[2] for key in self.image_keys]
            raw.update(zip(self.image_keys, self.conv.compute(deter, stoch).split(channels, -1), strict=True))
        for key, decoder in self.planes.items():
            raw[key] = decoder.compute(deter, stoch)
        return {key: raw[key] for key in self.keys}

    def compute(self, deter: Tensor, stoch: Tensor) -> tuple[Tensor, ...]:
        """The values of :meth:`raw`, in the order of the sorted keys."""
        return tuple(self.raw(deter, stoch).values())

    def _over_vectors(self, function, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply a map over the concatenated numbers to numbers that come key by key."""
        if not self.vector_keys:
            return {}
        sizes = [self.observations[key].size for key in self.vector_keys]
        joined = function(torch.cat([tensors[key] for key in self.vector_keys], -1))
        return dict(zip(self.vector_keys, joined.split(sizes, -1), strict=True))

    def mean(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most likely observation, in the environment's space, shape and dtype: ``{key: [*B, *shape]}``.

        Numbers are transformed back and clamped to the bounds of the spec, pictures rounded to uint8, boards and bits
        thresholded (or rounded to their range), categories the most likely ones.
        """
        vectors = self._over_vectors(self.transform.inverse, raw)
        out = {}
        for key in self.keys:
            observation = self.observations[key]
            if key in vectors:
                out[key] = observation.unflatten(vectors[key])
            elif observation.kind == "discrete":
                out[key] = observation.unflatten(raw[key])
            else:
                shaped = raw[key].reshape(*self._lead(raw[key], observation), *observation.shape)
                out[key] = observation.from_unit(shaped.sigmoid())
        return out

    @staticmethod
    def _lead(raw: Tensor, observation: nn.Module) -> torch.Size:
        return raw.shape[:-1] if observation.kind == "binary" else observation.lead(raw)

    def loss(self, raw: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reconstruction error of each key, summed over the event: ``{key: [*B]}``.

        Squared error in transformed space for vectors and in [0, 1] for pictures, cross entropy for the others; no
        factor 1/2 anywhere.

        Args:
            raw: from :meth:`raw`.
            target: observations as the environment shows them.
        """
        flat = {
            key: self.observations[key].flatten(target[key])
            for key in self.flat_keys
        }
        flat.update(self._over_vectors(self.transform, flat))
        out = {}
        for key in self.keys:
            observation = self.observations[key]
            if observation.kind == "vector":
                out[key] = squared_error(raw[key], flat[key])
            elif observation.kind == "binary":
                out[key] = bernoulli_cross_entropy(raw[key], flat[key])
            elif observation.kind == "discrete":
                out[key] = sum(
                    categorical_cross_entropy(logits, one_hot)
                    for logits, one_hot in zip(
                        raw[key].split(observation.classes, -1), flat[key].split(observation.classes, -1), strict=True
                    )
                )
            elif observation.kind == "image":
                out[key] = squared_error(raw[key].sigmoid(), observation.to_unit(target[key]), event_dims=3)
            else:
                out[key] = bernoulli_cross_entropy(raw[key], observation.to_unit(target[key]), event_dims=3)
        return out
