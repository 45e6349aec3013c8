"""The decoder of a variational autoencoder."""

from collections.abc import Callable, Mapping, Sequence

from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Composite

from wmcomponents.codecs import Transform
from wmcomponents.component import Component
from wmcomponents.decoders.board import BoardDecoder
from wmcomponents.decoders.mlp import MLPDecoder
from wmcomponents.decoders.multi import BoardDecoderPart, DecoderPart, FlatDecoderPart, MultiDecoder
from wmcomponents.decoders.transposed import TransposedConvDecoder


class VAEDecoder(Component):
    """Every observation of an environment back from one latent vector: the counterpart of ``VAEEncoder``.

    Of the parts of :class:`MultiDecoder`, which read a state of two parts, the second has no elements here.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "z" | [*B, latent] | float | read |
        | ("raw", key) for each observation key, sorted | [*B, size], [*B, H, W, C] | float | written |

    Args:
        observation_spec: of one observation, without batch dimensions.
        latent: size of z.
        vectors: from ``(latent, (0,), {key: features})`` to the decoder of numbers and categories.
        images: from ``(latent, (0,), (H, W, C))`` to the decoder of images.
        boards: from ``(latent, (0,), (H, W, C))`` to the decoder of a small board.
        transform: over the concatenated numbers; give it the encoder's.
        in_keys: the latent vector.
        out_keys: one for each observation key, sorted; default ``("raw", key)``.

    Raises:
        ValueError: for a spec that cannot be decoded, naming the key.

    Reference: Ha and Schmidhuber, World Models (2018), section 2.1 and appendix A.1.

    Example:
        >>> import torch
        >>> from torchrl.data import Composite, Unbounded
        >>> decoder = VAEDecoder(Composite(observation=Unbounded(4)), latent=8)
        >>> decoder.mean(decoder.raw(torch.zeros(5, 8)))["observation"].shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        observation_spec: Composite,
        latent: int = 32,
        vectors: Callable[[int, Sequence[int], Mapping[str, int]], FlatDecoderPart] = MLPDecoder,
        images: Callable[[int, Sequence[int], tuple[int, int, int]], DecoderPart] = TransposedConvDecoder,
        boards: Callable[[int, Sequence[int], tuple[int, ...]], BoardDecoderPart] = BoardDecoder,
        transform: Transform | None = None,
        in_keys: Sequence[NestedKey] = ("z",),
        out_keys: Sequence[NestedKey] | None = None,
    ) -> None:
        multi = MultiDecoder(observation_spec, latent, (0,), vectors, images, boards, transform, out_keys=out_keys)
        super().__init__(in_keys, multi.out_keys)
        self.multi = multi

    def raw(self, z: Tensor) -> dict[str, Tensor]:
        """Raw outputs by observation key: ``[*B, size]``, and ``[*B, H, W, C]`` for images and boards."""
        return self.multi.raw(z, z[..., :0])

    def compute(self, z: Tensor) -> tuple[Tensor, ...]:
        """The values of :meth:`raw` of ``[*B, latent]``, in the order of the sorted keys."""
        return tuple(self.raw(z).values())

    def mean(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most likely observation, in the environment's space and dtype, ``[*B, *shape]`` by key."""
        return self.multi.mean(raw)

    def loss(self, raw: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reconstruction error of each key, summed over the event, ``[*B]``; see :meth:`MultiDecoder.loss`."""
        return self.multi.loss(raw, target)
