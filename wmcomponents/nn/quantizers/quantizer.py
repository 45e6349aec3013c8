"""What a quantizer offers to the tokenizer that it is in."""

from typing import Protocol

from torch import Tensor

from wmcomponents.nn.quantizers.vq import Quantized


class Quantizer(Protocol):
    """From vectors to numbers of codes, and from the numbers to the codes' vectors.

    Attributes:
        codes: number of codes.
        dim: size of a vector.
    """

    codes: int
    dim: int

    def __call__(self, z: Tensor) -> Quantized:
        """Codes of vectors ``[*B, dim]``, their numbers, and what they cost."""
        ...

    def tokens(self, z: Tensor) -> Tensor:
        """Numbers of the codes of vectors ``[*B, dim]``, int64 ``[*B]``."""
        ...

    def lookup(self, tokens: Tensor) -> Tensor:
        """Vectors ``[*B, dim]`` of codes given by their numbers, int64 ``[*B]``."""
        ...
