"""What a text encoder gives, as a model reads it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def text_vectors(
    texts: Float[Tensor, "n l w"], tokens: int, width: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n m w"]:
    """What a text encoder gives, cut or filled up with zeros, which say nothing, to so many vectors.

    Args:
        texts: ``[N, L, W]``.
        tokens: M.
        width: W that is expected.
        dtype: of what is returned.

    Raises:
        ValueError: if the encoder is of another width.
    """
    if texts.ndim != 3 or texts.shape[-1] != width:
        raise ValueError(
            f"texts are encoded as [N, L, {width}] (text_width); the encoder gives {list(texts.shape)}: take the one "
            f"that the model was built for, or build the model with text_width={texts.shape[-1]}."
        )
    return F.pad(texts[:, :tokens], (0, 0, 0, max(0, tokens - texts.shape[1]))).to(dtype)
