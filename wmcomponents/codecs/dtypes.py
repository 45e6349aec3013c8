"""The dtypes of environments and of tensors."""

import numpy as np
import torch

# Torch computes with neither the unsigned integers beyond a byte nor extended floats; doubles become floats, as
# networks read them. What is not named here keeps its dtype.
_WIDENED = {"float64": torch.float32, "uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64}
HELD = {
    **{name: getattr(torch, name) for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16")},
    "float32": torch.float32,
    **_WIDENED,
}
"""The dtype of the tensors that hold numbers of a NumPy dtype, by its name."""


def numpy_dtype(dtype: torch.dtype | None) -> np.dtype:
    """The NumPy dtype of the same name."""
    return torch.empty(0, dtype=dtype).numpy().dtype


def torch_dtype(dtype: np.dtype) -> torch.dtype | None:
    """The torch dtype of the same name, if there is one."""
    return getattr(torch, dtype.name, None)
