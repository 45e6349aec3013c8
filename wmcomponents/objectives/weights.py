"""A module with other weights for a while."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from tensordict.nn import TensorDictParams
from torch import nn


@contextlib.contextmanager
def placed(params: TensorDictParams, module: nn.Module) -> Iterator[None]:
    """Put weights into a module, and its own back at the end, however that comes about.

    TensorDict's own ``with params.to_module(module)`` leaves them in place after an error, and answers an interruption
    with an error of its own.

    Args:
        params: the weights, laid out as the module's.
        module: gets them.
    """
    if torch.compiler.is_compiling():  # no error passes through a compiled region, and it knows this form alone
        with params.to_module(module):
            yield
        return
    swap: Any = params.to_module(module)
    swap.__enter__()
    try:
        yield
    finally:
        swap.__exit__(None, None, None)
