"""A bound on the memory that building a model may take."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Budget(TorchDispatchMode):
    """Refuses to make more tensors, or larger ones, than it was given, before the memory for them is taken.

    Sizes read from a file can ask for any amount. A context manager; what counts are tensors made from sizes
    (``empty``, ``zeros``, ``linspace``, random numbers), not the results of operations on tensors.

    Args:
        elements: how many may be made, in all tensors together.
        tensors: how many tensors may be made.

    Raises:
        ValueError: inside, at the tensor that is too much.
    """

    def __init__(self, elements: int, tensors: int) -> None:
        super().__init__()
        self.elements, self.tensors = elements, tensors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        is_new = any(argument.name == "device" for argument in func._schema.arguments)
        if is_new and not any(isinstance(leaf, Tensor) for leaf in leaves):
            self.tensors -= 1
            self.elements -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if min(self.tensors, self.elements) < 0:
                raise ValueError("its sizes ask for far more memory than its weights fill")
        return func(*args, **kwargs)
