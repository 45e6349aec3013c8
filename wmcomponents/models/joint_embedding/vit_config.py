"""How large a vision transformer is, as an entry of a config."""

from dataclasses import dataclass

from wmcomponents.nn import ViTSize
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer, or of the narrower one beside it.

    Attributes:
        dim: size of a token.
        depth: number of blocks.
        heads: number of attention heads.
        hidden: width of the feed-forward.
    """

    dim: int
    depth: int
    heads: int
    hidden: int

    @classmethod
    def of(cls, size: ViTSize | str) -> "ViTConfig":
        """The same sizes, or those of a name of the papers (:meth:`wmcomponents.nn.ViTSize.named`).

        Raises:
            ValueError: for an unknown name.
        """
        return cls(*(ViTSize.named(size) if isinstance(size, str) else size))

    @property
    def size(self) -> ViTSize:
        """As the parts take it."""
        return ViTSize(self.dim, self.depth, self.heads, self.hidden)


@dataclass(frozen=True)
class MaskedConfig(ModelConfig):
    """Base of the configs of models that pretrain an encoder."""

    @property
    def frames(self) -> int:
        """Steps of a sequence that the model reads as one: the frames of a clip; of a model of images 1."""
        return 1


TINY = ViTConfig(96, 4, 4, 384)
"""An encoder for a CPU."""

TINY_BESIDE = ViTConfig(48, 2, 4, 192)
"""Decoder or predictor beside it."""
