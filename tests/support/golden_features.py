"""What the golden tests of the worlds of features share."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.support import golden_vectors


def weights_of(tensors: Mapping[str, Tensor], prefix: str = "w.") -> dict[str, Tensor]:
    """The weights of a vector, by their official names."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def load(name: str) -> tuple[dict, dict[str, Tensor], dict[str, Tensor]]:
    """The description, the tensors and the weights of a vector."""
    info, tensors = golden_vectors.load(name)
    return info, tensors, weights_of(tensors)


def close(info: Mapping, actual: Tensor, expected: Tensor) -> None:
    """Equal within the tolerance that the vector names."""
    torch.testing.assert_close(actual.detach(), expected, **info["tolerance"])
